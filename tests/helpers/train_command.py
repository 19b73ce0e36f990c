"""The command `cgan train` in the tests' process, and the flags of the tests' tiny run."""

import command_flags
import tiny

from cgan_tf.core import config, presets
from cgan_tf.core.files import write_text


def tiny_flags(cache, **options):
    """The options of `tiny.make_config` as flags."""
    values = config.flat(tiny.make_config(cache, **options))
    given = dict.fromkeys([*tiny.OPTIONS, "cache_dir", *options])
    return [f"--{flag}={presets.text(values[flag])}" for flag in given]


def run(*arguments):
    """The exit code of `cgan train ARGUMENTS`."""
    return command_flags.run_line("train", *map(str, arguments))


class Command:
    """Runs `cgan train` in this process: (exit code, what it printed, its error line or "").

    Attributes:
        notes: the other lines that the last command wrote to stderr.
    """

    def __init__(self, capsys):
        self._capsys = capsys
        self.notes = []

    def __call__(self, *arguments):
        self._capsys.readouterr()
        code = run(*arguments)
        printed = self._capsys.readouterr()
        lines = printed.err.splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        self.notes = [line for line in lines if line not in errors]
        assert len(errors) == (code != 0) and "Traceback" not in printed.err, printed.err
        return code, printed.out, errors[0] if errors else ""


def finish(run, name, options, dataset):
    """Leaves what a finished stage does, without the work: its artifact is one line of text."""
    stage = run.stage(name)
    assert stage.begin(options, dataset.digest, say=lambda line: None)
    write_text(stage.model / "weights.h5", f"{name}: {stage.read_metadata()['options']}")
    stage.finish()
