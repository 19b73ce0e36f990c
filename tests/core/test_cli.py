"""core.cli: flags, exit codes, one line for the user; and the verbs of `cgan`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cgan_tf import __main__ as cgan
from cgan_tf import __version__

ROOT = Path(__file__).parents[2]
SCRIPT = '''
"""Adds numbers."""
import errno, os, signal, sys
from absl import flags
from cgan_tf.core import cli
from cgan_tf.core.errors import Interrupted, UserError

flags.DEFINE_float("kimg", 2.5, "length of the training")
flags.DEFINE_string("run_dir", None, "folder of the run")

def main():
    BODY

cli.run(main)
'''


def call(tmp_path, body, *arguments):
    path = tmp_path / "command.py"
    path.write_text(SCRIPT.replace("BODY", body))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, str(path), *arguments], env=environment, capture_output=True, text=True
    )


def test_success_and_exit_code_of_main(tmp_path):
    done = call(tmp_path, "print(flags.FLAGS.kimg)", "--kimg=4")
    assert (done.returncode, done.stdout, done.stderr) == (0, "4.0\n", "")
    assert call(tmp_path, "return 3").returncode == 3


@pytest.mark.parametrize(
    "arguments, line",
    [
        (["--kim=4"], "--kim: unknown flag; did you mean --kimg? (see --help)"),
        (["--zzz"], "--zzz: unknown flag (see --help)"),
        (["--run_dri", "x"], "--run_dri: unknown flag; did you mean --run_dir? (see --help)"),
        (["--run_dir"], "--run_dir: no value given: folder of the run (see --help)"),
        (["a.png"], "'a.png': not a flag; every option is written --name=value (see --help)"),
    ],
)
def test_wrong_flags_are_one_line(tmp_path, arguments, line):
    done = call(tmp_path, "print('ran')", *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {line}\n")


def test_wrong_value_names_flag_and_value(tmp_path):
    done = call(tmp_path, "print('ran')", "--kimg=much")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: --kimg=much: ") and done.stderr.count("\n") == 1


def test_help_lists_own_flags_only(tmp_path):
    done = call(tmp_path, "print('ran')", "--help")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith("Adds numbers.\n")
    flags = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  --")]
    assert flags == ["--kimg", "--run_dir"]
    assert "--kimg (default: '2.5')\n      length of the training\n" in done.stdout


@pytest.mark.parametrize(
    "body, code, line",
    [
        ("raise UserError('--x=1: too\\n small')", 2, "--x=1: too small"),
        ("raise Interrupted(15, 'saved it')", 143, "SIGTERM: saved it"),
        ("raise KeyboardInterrupt", 130, "interrupted"),
        (
            "raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), '/a/b')",
            2,
            "the disk is full (/a/b): free some space and run the same command again",
        ),
        (
            "raise RuntimeError('write failed; No space left on device')",
            2,
            "the disk is full: free some space and run the same command again",
        ),
        (
            "raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), '/a/b')",
            2,
            "File name too long (/a/b): choose a shorter name",
        ),
        (
            "raise PermissionError(errno.EACCES, 'Permission denied', '/a/b')",
            2,
            "Permission denied (/a/b): choose a folder that you may write to",
        ),
    ],
)
def test_each_way_to_end_early(tmp_path, body, code, line):
    done = call(tmp_path, body)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", f"error: {line}\n")


def test_a_bug_keeps_its_traceback(tmp_path):
    done = call(tmp_path, "raise ValueError('ours')")
    assert done.returncode == 1
    assert "Traceback" in done.stderr and "ValueError: ours" in done.stderr


def test_native_stderr_is_held_and_shown_on_failure(tmp_path):
    body = """
    from cgan_tf.core.quiet import native_stderr_held
    with native_stderr_held():
        os.write(2, b"chatter\\n")
        print("message", file=sys.stderr)
    print("after", file=sys.stderr)
    try:
        with native_stderr_held():
            os.write(2, b"reason\\n")
            raise ValueError
    except ValueError:
        pass
    try:
        with native_stderr_held():
            os.write(2, b"not needed\\n")
            raise UserError("said")
    except UserError:
        pass
    os.write(2, b"end\\n")"""
    done = call(tmp_path, body)
    assert (done.returncode, done.stderr) == (0, "message\nafter\nreason\nend\n")


# cgan VERB.


def run_cgan(capsys, *arguments):
    """The exit code of `cgan ARGUMENTS`, and what it printed."""
    with pytest.raises(SystemExit) as caught:
        cgan.main(arguments)
    return caught.value.code, *capsys.readouterr()


@pytest.mark.parametrize("arguments, code", [([], 2), (["--help"], 0), (["help"], 0)])
def test_cgan_alone_prints_its_usage(capsys, arguments, code):
    status, out, error = run_cgan(capsys, *arguments)
    assert (status, error) == (code, "")
    assert "cgan VERB [--flag=value ...]" in out
    for verb, help in cgan.VERBS.items():
        assert f"  {verb:10} {help}\n" in out


def test_cgan_version(capsys):
    assert run_cgan(capsys, "--version") == (0, f"{__version__}\n", "")


@pytest.mark.parametrize(
    "verb, hint", [("trian", " (did you mean train?)"), ("zzz", ""), ("--stage=gan", "")]
)
def test_an_unknown_verb_is_one_line_with_a_suggestion(capsys, verb, hint):
    assert run_cgan(capsys, verb, "--stage=gan") == (
        2,
        "",
        f"error: cgan {verb}: unknown command{hint}; one of {', '.join(cgan.VERBS)}\n",
    )


def test_every_verb_has_its_module():
    folder = Path(cgan.__file__).parent / "commands"
    for verb in cgan.VERBS:
        source = (folder / f"{verb}.py").read_text()
        assert "\ndef main(" in source and "\ndef define_flags(" in source, verb


def test_what_a_command_starts_with_imports_no_tensorflow():
    # So that --help and a mistyped flag answer at once.
    modules = [
        f"cgan_tf.core.{name}"
        for name in (
            "cli",
            "config",
            "errors",
            "files",
            "options",
            "presets",
            "quiet",
            "rules",
            "run_folder",
        )
    ]
    modules += ["cgan_tf", "cgan_tf.__main__", "cgan_tf.commands.train", "train_main"]
    script = f"import sys, {', '.join(modules)}; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0


def test_core_imports_no_other_package():
    for path in (ROOT / "cgan_tf" / "core").glob("*.py"):
        imported = re.findall(r"^\s*(?:from|import) (cgan_tf[\w.]*)(.*)", path.read_text(), re.M)
        for module, names in imported:
            assert module.startswith("cgan_tf.core"), (path.name, module, names)


def test_a_line_reaches_a_log_file_at_once(tmp_path):
    path, log = tmp_path / "command.py", tmp_path / "log"
    # A process that is killed writes nothing more.
    path.write_text(SCRIPT.replace("BODY", 'print("step 1"); os.kill(os.getpid(), signal.SIGKILL)'))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONUNBUFFERED", None)
    with open(log, "w") as file:
        subprocess.run([sys.executable, str(path)], env=environment, stdout=file)
    assert log.read_text() == "step 1\n"
