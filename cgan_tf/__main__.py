"""The command `cgan VERB [--flag=value ...]`; `python -m cgan_tf VERB` is the same."""

import importlib
import sys
from collections.abc import Sequence

from cgan_tf import __version__
from cgan_tf.core import cli

# The verbs, each with a module of the same name in `commands`, which is imported when it is used.
VERBS = {
    "check": "say what this machine has, whether a GPU is used, and how long a training takes",
    "align": "find the faces in a folder of photos, and write them as training photos",
    "train": "train, evaluate and export an attribute editor, stage by stage or all at once",
    "translate": "edit photos with a finished model",
    "label": "score the attributes of photos or samples",
    "attribute": "add a custom attribute to a finished run, from a few hundred labels",
    "evaluate": "print what was measured on a run, or compare the generators of two runs",
    "report": "write a run's report page again",
    "export": "export a finished run for servers, devices and browsers",
    "page": "make the device page of a model, and serve it on this machine",
    "models": "list the named models, or show one",
    "serve": "serve an exported model by gRPC and HTTP",
}
USAGE = "\n".join(
    [
        f"cgan_tf {__version__}: from labelled photos to an attribute editor that runs on a phone.",
        "",
        "    cgan VERB [--flag=value ...]",
        "    cgan VERB --help",
        "",
        *(f"  {verb:10} {help}" for verb, help in VERBS.items()),
    ]
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the verb of the command line, see `cli.run`.

    Args:
        arguments: the command line without the program's name; by default sys.argv's.

    Raises:
        SystemExit: always.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not arguments or arguments[0] in cli.HELP or arguments[0] == "help":
        print(USAGE)
        raise SystemExit(0 if arguments else cli.USER_ERROR_CODE)
    if arguments[0] in ("--version", "version"):
        print(__version__)
        raise SystemExit(0)
    verb = arguments[0]
    if verb not in VERBS:
        hint = cli.closest(verb, VERBS)
        message = f"cgan {verb}: unknown command{hint}; one of {', '.join(VERBS)}"
        print(cli.error_line(message), file=sys.stderr)
        raise SystemExit(cli.USER_ERROR_CODE)
    command = importlib.import_module(f"cgan_tf.commands.{verb}")
    cli.run(
        command.main,
        command.define_flags,
        command.__doc__,
        [f"cgan {verb}", *arguments[1:]],
        getattr(command, "FLAG_GROUPS", None),
        getattr(command, "HELP_EPILOGUE", ""),
        getattr(command, "OPERAND", ""),
    )


if __name__ == "__main__":
    main()
