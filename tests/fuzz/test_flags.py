"""Strange values of every flag of every verb: an exit code and one line, and nobody's file lost."""

import contextlib
import importlib
import io
import random

import command_flags
import fuzzing
import pytest
import tiny
from absl import flags
from photos import save_photo

from cgan_tf import __main__
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_text

VALUES = (
    *("", "0", "-1", "1", "3", "1e400", "nan", "-inf", "9" * 400, "0x10", "\u0661", "1,2", ","),
    *("true", "none", "auto", "all", "center", "Smiling=1", "Smiling=nan", "Smiling=1,Smiling=2"),
    *("a\nb", "\0", "\udcff", "~nobody/x", "~", ".", "..", "/", "/dev/null", "[x]*?", "x" * 5000),
    *("{tmp}", "{tmp}/photos", "{tmp}/photos/a.png", "{tmp}/photos/notes.txt", "{tmp}/gone/x"),
    *("{tmp}/run", "{tmp}/new", "{tmp}/photos/labels.csv", "celeba64", "demo", "folder", "tflite"),
)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A user's files; whatever takes long, or listens, is refused where it would begin."""
    from cgan_tf import data
    from cgan_tf.editing import backends, recognizer
    from cgan_tf.export import stage
    from cgan_tf.export.serving import server
    from cgan_tf.stages import speed
    from cgan_tf.training import cluster

    def begins(*arguments, **options):
        raise UserError("would begin here")

    for module, name in (
        (backends, "open_backend"),
        (recognizer, "load"),
        (cluster, "start"),
        (data, "open_data"),
        (server, "listen"),
        (speed, "costs"),
        (stage, "export_to"),
        (stage, "run"),
    ):
        monkeypatch.setattr(module, name, begins)
    photos = tmp_path / "photos"
    photos.mkdir()
    save_photo(photos / "a.png")
    (photos / "b.jpg").write_text("no photo")
    (photos / "notes.txt").write_text("mine")
    (photos / "labels.csv").write_text("file,Smiling\na.png,1\nb.jpg,-1\n")
    (tmp_path / "run").mkdir()
    write_text(tmp_path / "run" / "config.json", "{}")
    monkeypatch.chdir(tmp_path / "run")
    return tmp_path


@fuzzing.budget(12, 240)
def test_any_flags_end_in_an_exit_code(count, place):
    def check(seed):
        draw = random.Random(seed)
        verb = draw.choice(sorted(__main__.VERBS))
        names = flag_names(verb)
        given = []
        for name in draw.sample(names, min(len(names), draw.choice((0, 1, 2, 4, 8)))):
            value = draw.choice(VALUES).replace("{tmp}", str(place))
            given.append(draw.choice((f"--{name}={value}", f"--{name}={value}", f"--no{name}")))
        if verb == "train":
            given.append("--dry_run")
        before = tiny.snapshot(place / "photos")
        errors = io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
            code = command_flags.run_line(verb, *given)
        printed = errors.getvalue()
        assert code in (0, 1, 2), (verb, given)
        assert "Traceback" not in printed, (verb, given, printed)
        if code == 2:
            assert printed.splitlines()[-1].startswith("error: "), (verb, given, printed)
        after = tiny.snapshot(place / "photos")
        assert {name: after.get(name) for name in before} == before, (verb, given)

    fuzzing.run(check, count)


def flag_names(verb):
    """The flags of a verb."""
    command = importlib.import_module(f"cgan_tf.commands.{verb}")
    with command_flags.no_flags() as values:
        others = set(values)
        with contextlib.suppress(flags.DuplicateFlagError):
            command.define_flags()
        return sorted(set(values) - others)
