"""The frame of every command: parse the flags, run, and report an error in one line.

`train_main.py` and each verb of `cgan` pass their flags and their `main` to `run`. A mistake of the
user is one line `error: ...` on stderr and exit code 2; a bug keeps its traceback.
"""

import difflib
import errno
import io
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from absl import app, flags, logging

from cgan_tf.core.errors import Interrupted, UserError
from cgan_tf.core.files import disk_full

USER_ERROR_CODE = 2
HELP = ("--help", "-help", "-h", "--h", "--helpshort", "--helpfull")
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


def run(
    main: Callable[[], int | None],
    define_flags: Callable[[], None] | None = None,
    doc: str | None = None,
    arguments: Sequence[str] | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    epilogue: str = "",
    operand: str = "",
) -> None:
    """Parses the flags, calls `main()` and exits the process.

    Args:
        main: the command; it reads the flags itself and returns the exit code (None: 0).
        define_flags: defines the command's flags; None if the main module has defined them.
        doc: text of --help before the flags; by default the main module's docstring.
        arguments: the command line, with the program's name; by default sys.argv.
        groups: flags by heading of --help; the other flags precede them.
        epilogue: text of --help after the flags.
        operand: the flag that an argument without a flag's name gives; "" for none.

    Raises:
        SystemExit: always. The code is main's, 0 for --help, 2 for a mistake of the user or a full
            disk, 130 for Ctrl-C, 128 + the signal's number for `Interrupted`.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a log file shows each line when it is printed
        # Names of files need not be UTF-8; what cannot be written is shown as an escape.
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    if define_flags is None:
        own = flags.FLAGS.get_key_flags_for_module(sys.argv[0])
    else:
        others = set(flags.FLAGS)
        define_flags()
        own = [flags.FLAGS[name] for name in flags.FLAGS if name not in others]
    doc = doc or sys.modules["__main__"].__doc__ or ""
    app.run(
        lambda _: _call(main),
        argv=None if arguments is None else list(arguments),
        flags_parser=lambda argv: _parse(
            argv, own, lambda: _help_text(own, doc, groups, epilogue), operand
        ),
    )


def require(*names: str) -> None:
    """Raises a UserError for the first of these flags that is not given."""
    for name in names:
        if not flags.FLAGS[name].value:
            raise UserError(f"--{name}: not given; see --help")


def require_writable(option: str, folder: Path) -> None:
    """Raises a UserError unless a file can be written to `folder`, which need not exist yet.

    Args:
        option: the flag with its value, for the error.
        folder: the folder; if it does not exist, its nearest existing parent is checked.
    """
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise UserError(f"{option}: {folder} is a file; choose another folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{option}: no permission to write in {folder}; choose another folder")


def error_line(message: str) -> str:
    """The line that the user sees for `message`, whose lines are joined."""
    return "error: " + " ".join(message.split())


def _call(main: Callable[[], int | None]) -> int:
    logging.set_verbosity(logging.ERROR)  # app.run enables the libraries' INFO lines
    try:
        return main() or 0
    except UserError as error:
        return _fail(str(error), USER_ERROR_CODE)
    except Interrupted as error:
        return _fail(str(error) or "interrupted", 128 + error.signum)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:
        # The reader of stdout has gone (`... | head`). Python would raise again when it flushes
        # stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        line = _environment_error(error)
        if line is None:
            raise
        return _fail(line, USER_ERROR_CODE)


def _fail(message: str, code: int) -> int:
    sys.stdout.flush()
    print(error_line(message), file=sys.stderr, flush=True)
    return code


def _environment_error(error: Exception) -> str | None:
    """The line for what the system refuses; None for any other error, a bug."""
    number = getattr(error, "errno", None)
    where = getattr(error, "filename", None)
    where = f" ({os.fsdecode(where)})" if isinstance(where, str | bytes | os.PathLike) else ""
    if disk_full(error):
        return f"the disk is full{where}: free some space and run the same command again"
    if isinstance(error, OSError) and number in _DENIED:
        return f"{os.strerror(number)}{where}: choose a folder that you may write to"
    if isinstance(error, OSError) and number == errno.ENAMETOOLONG:
        return f"{os.strerror(number)}{where}: choose a shorter name"
    return None


def _parse(
    argv: Sequence[str],
    own: Sequence[flags.Flag],
    help_text: Callable[[], str],
    operand: str = "",
) -> list[str]:
    """absl's parser, but --help goes to stdout with exit code 0, and an error is one line."""
    if any(argument in HELP for argument in argv[1:]):
        try:
            print(help_text(), flush=True)
        except BrokenPipeError:  # `--help | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0)
    try:
        rest = flags.FLAGS(list(argv), known_only=False)
    except flags.UnrecognizedFlagError as error:
        raise SystemExit(_fail(_unknown_flag(error.flagname, own), USER_ERROR_CODE)) from None
    except flags.Error as error:
        message = str(error).removeprefix("flag ")
        missing = re.fullmatch(r"Missing value for flag --?(\w+)", message)
        if missing:
            help = flags.FLAGS[missing[1]].help.rstrip(".")
            message = f"--{missing[1]}: no value given: {help}"
        raise SystemExit(_fail(f"{message} (see --help)", USER_ERROR_CODE)) from None
    if operand and len(rest) == 2:
        flags.FLAGS[operand].value = rest.pop()
    if len(rest) > 1:
        message = f"{rest[1]!r}: not a flag; every option is written --name=value (see --help)"
        raise SystemExit(_fail(message, USER_ERROR_CODE))
    return rest


def _unknown_flag(name: str, own: Sequence[flags.Flag]) -> str:
    near = difflib.get_close_matches(name, [flag.name for flag in own], n=1)
    hint = f"; did you mean --{near[0]}?" if near else ""
    return f"--{name}: unknown flag{hint} (see --help)"


def closest(name: str, known: Iterable[str]) -> str:
    """ " (did you mean X?)" if a known name is similar, else an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {near[0]}?)" if near else ""


def _help_text(
    own: Sequence[flags.Flag],
    doc: str,
    groups: Mapping[str, Sequence[str]] | None,
    epilogue: str,
) -> str:
    """The command's docstring, its flags by group with their defaults, and the epilogue."""
    grouped = {name for names in (groups or {}).values() for name in names}
    sections = {"Flags": [flag.name for flag in own if flag.name not in grouped], **(groups or {})}
    known = {flag.name: flag for flag in own}
    lines = [doc.strip()]
    for heading, names in sections.items():
        lines += ["", f"{heading}:"]
        for flag in (known[name] for name in names):
            default = "" if flag.default is None else f" (default: {flag.default_as_str})"
            lines.append(f"  --{flag.name}{default}")
            lines += textwrap.wrap(
                flag.help or "", 96, initial_indent=" " * 6, subsequent_indent=" " * 6
            )
    return "\n".join([*lines, *(["", epilogue] if epilogue else [])])
