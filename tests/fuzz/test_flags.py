"""Strange values of every flag of every verb: an exit code and one line, and nobody's file lost."""

import contextlib
import importlib
import io
import random
import shutil

import command_flags
import fuzzing
import numpy as np
import pytest
import tiny
from absl import flags
from photos import save_photo
from shift_backend import ShiftBackend

from cgan_tf import __main__
from cgan_tf.core.errors import UserError

# A good command line of each verb, of which some values are replaced.
GOOD = {
    "align": {"image": "{tmp}/photos", "output": "{tmp}/out"},
    "attribute": {"run_dir": "{tmp}/run", "labels": "{tmp}/photos/labels.csv"},
    "check": {},
    "evaluate": {"run_dir": "{tmp}/run"},
    "export": {"run_dir": "{tmp}/run"},
    "label": {"model": "{tmp}/run", "image": "{tmp}/photos", "output": "{tmp}/out.csv"},
    "models": {},
    "page": {"model": "{tmp}/run"},
    "report": {"run_dir": "{tmp}/run"},
    "serve": {"model": "{tmp}/run"},
    "train": {"stage": "all", "run_dir": "{tmp}/new", "dry_run": "true"},
    "translate": {
        "model": "{tmp}/run",
        "image": "{tmp}/photos",
        "edit": "Light=0.5",
        "output": "{tmp}/out",
    },
}
VALUES = (
    *("", "0", "-1", "1", "3", "1e400", "nan", "-inf", "9" * 400, "0x10", "\u0661", "1,2", ","),
    *("true", "none", "auto", "all", "center", "Smiling=1", "Light=nan", "Light=1,Light=2", "="),
    *("a\nb", "\udcff", "~no_such_user/x", "~", ".", "..", "[x]*?", "x" * 300, "x" * 5000),
    *("{tmp}", "{tmp}/photos", "{tmp}/photos/a.png", "{tmp}/photos/notes.txt", "{tmp}/gone/x"),
    *("{tmp}/run", "{tmp}/new", "{tmp}/photos/labels.csv", "{tmp}/photos/notes.txt/x.png"),
    *("celeba64", "demo", "folder", "celeba_dir", "tflite", "Light=1e30", "Light=-0.5,No=1"),
)


@pytest.fixture
def place(tmp_path, monkeypatch, slim_forms):
    """A user's photos and run, a stand-in for the model, and refusals of what takes long."""
    from cgan_tf import data
    from cgan_tf.commands import label, page
    from cgan_tf.editing import backends
    from cgan_tf.export import install, stage
    from cgan_tf.export.serving import server
    from cgan_tf.stages import speed
    from cgan_tf.training import cluster

    def begins(*arguments, **options):
        raise UserError("would begin here")

    for module, name in (
        (cluster, "start"),
        (data, "open_data"),
        (page, "PageServer"),
        (server, "listen"),
        (speed, "costs"),
        (install, "install"),
        (stage, "export_to"),
        (stage, "run"),
    ):
        monkeypatch.setattr(module, name, begins)
    scores = np.full((label.BATCH, 1), 0.25)
    labeler = label.Labeler(("Light",), 32, False, "normal", 8, lambda _, **inputs: scores)
    monkeypatch.setattr(label, "open_labeler", lambda *arguments, **options: labeler)
    monkeypatch.setattr(backends, "open_backend", lambda *arguments, **options: ShiftBackend())
    photos = tmp_path / "photos"
    photos.mkdir()
    save_photo(photos / "a.png")
    (photos / "b.jpg").write_text("no photo")
    (photos / "notes.txt").write_text("mine")
    (photos / "labels.csv").write_text("file,Smiling\na.png,1\nb.jpg,-1\n")
    shutil.copytree(slim_forms["run"], tmp_path / "run")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "here"))
    return tmp_path


@fuzzing.budget(12, 240)
def test_any_flags_end_in_an_exit_code(count, place):
    def files():
        """The user's photos, tables and finished models; all else of a run belongs to commands."""
        models = {f"run/{name}": value for name, value in tiny.snapshot(place / "run").items()}
        photos = {f"photos/{name}": one for name, one in tiny.snapshot(place / "photos").items()}
        return photos | {name: value for name, value in models.items() if "/model/" in name}

    mine = files()

    def check(seed):
        draw = random.Random(seed)
        verb = draw.choice(sorted(__main__.VERBS))
        given = dict(GOOD[verb])
        names = flag_names(verb)
        for name in draw.sample(names, min(len(names), draw.choice((0, 1, 1, 2, 3)))):
            given[name] = draw.choice(VALUES)
        if verb == "train":
            given["dry_run"] = "true"
        arguments = [
            f"--{name}={value}".replace("{tmp}", str(place)) for name, value in given.items()
        ]
        errors = io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
            code = command_flags.run_line(verb, *arguments)
        printed = errors.getvalue()
        assert code in (0, 1, 2) and "Traceback" not in printed, (verb, given, printed)
        if code == 2:
            assert printed.splitlines()[-1].startswith("error: "), (verb, given, printed)
        replaced = {"true", "1"} & {given.get("overwrite"), given.get("restart")}
        after = files()
        if replaced:  # what the user allowed: a result in the place of an older file
            mine.update(after)
        assert {name: after.get(name) for name in mine} == mine, (verb, given)
        for other in place.iterdir():
            if other.name not in ("photos", "run", "here"):
                shutil.rmtree(other) if other.is_dir() else other.unlink()

    fuzzing.run(check, count)


def flag_names(verb):
    """The flags of a verb."""
    command = importlib.import_module(f"cgan_tf.commands.{verb}")
    with command_flags.no_flags() as values:
        others = set(values)
        with contextlib.suppress(flags.DuplicateFlagError):
            command.define_flags()
        return sorted(set(values) - others)
