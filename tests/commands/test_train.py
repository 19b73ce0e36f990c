"""commands.train: the command line, what is refused, and what is recorded, in this process.

Stages that do not train are stand-ins, and finished ones have no networks; `test_interruptions`
trains.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tiny
from train_command import tiny_flags

from cgan_tf import export
from cgan_tf.commands import train
from cgan_tf.core import config, presets
from cgan_tf.core.config import OPTIONS, STAGES
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_text
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.data import images
from cgan_tf.data.framing import FRAMING, write_framing
from cgan_tf.editing.description import CELEBA_CROP, training_crop
from cgan_tf.report import page
from cgan_tf.stages import directions, evaluate, features, gan, inversion, regressor
from cgan_tf.training import precision

ROOT = Path(__file__).parents[2]
PRESETS = ", ".join(presets.PRESETS)
STAGE_MODULES = dict(
    zip(STAGES, (gan, regressor, inversion, features, directions, evaluate, export), strict=True)
)


@pytest.fixture
def idle(monkeypatch):
    """Replaces the stages by stand-ins that only list their calls: (name, options, run folder)."""
    calls = []
    for name, module in STAGE_MODULES.items():

        def work(options, run, _, name=name):
            calls.append((name, options, run.path))

        monkeypatch.setattr(module, "run", work)
    monkeypatch.setattr(RunFolder, "check_order", lambda *_: None)  # they leave no artifacts
    return calls


# --help and mistakes.


def help_of(*command):
    done = subprocess.run(
        [sys.executable, *command, "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stderr == ""
    return done.stdout


def test_help_shows_every_option_by_stage_with_its_unit_and_default():
    text = help_of("-m", "cgan_tf", "train")
    assert help_of("train_main.py") == text
    groups = {}
    for line in text.splitlines():
        if re.fullmatch(r"\S.*:", line) and not line.startswith("The same"):
            group, words = groups.setdefault(line.rstrip(":"), {}), []
        elif flag := re.match(r"  --(\w+)( |$)", line):
            words = group[flag[1]] = []
        elif line.startswith("      ") and groups:
            words += line.split()
    assert groups.pop("Presets") == {}
    assert list(groups) == ["Flags", *(f"Stage {stage}" for stage in STAGES)]
    own = ["stage", "run_dir", "dry_run", "restart"]
    for heading, section in zip(groups, ("", *STAGES), strict=True):
        expected = [flag for flag, option in OPTIONS.items() if option.section == section]
        assert list(groups[heading]) == (own if not section else []) + expected
        for flag in expected:
            option, line = OPTIONS[flag], " ".join(groups[heading][flag])
            assert line.startswith(option.metadata["help"]), flag
            assert f"[{option.metadata['unit']}]" in line or not option.metadata["unit"]
            assert all(choice in line for choice in option.metadata["choices"]), flag
            if option.default not in (None, "", ()):
                assert line.endswith(f" Default: {presets.text(option.default)}."), flag
    assert sum(map(len, groups.values())) <= 75


def test_help_shows_what_every_preset_sets():
    shown = help_of("-m", "cgan_tf", "train").partition("\nPresets:\n")[2]
    expected = "".join(f"{name} {presets.describe(name)}" for name in presets.PRESETS)
    # Lines are broken within a flag that is longer than one.
    assert "".join(shown.split()) == "".join(expected.split())


@pytest.mark.parametrize(
    "arguments, line",
    [
        (
            ["--stage=inverson"],
            "--stage=inverson: one of gan, regressor, inversion, features, directions, evaluate, "
            "export, or all (did you mean inversion?)",
        ),
        (
            [],
            "--stage: not given; one of gan, regressor, inversion, features, directions, evaluate, "
            "export, or all",
        ),
        (
            ["--stage=gan"],
            "--run_dir: give the folder of the run, e.g. --run_dir=runs/faces",
        ),
        (
            ["--stage=gan", "--run_dir=RUN", "--preset=celeba63"],
            "--preset=celeba63: unknown preset (did you mean celeba64?); one of " + PRESETS,
        ),
        (
            ["--preset=celeb128"],
            "--preset=celeb128: unknown preset (did you mean celeba128?); one of " + PRESETS,
        ),
        (
            ["--stage=gan", "--run_dir=RUN", "--gan_kimg=much"],
            "--gan_kimg=much: give a number",
        ),
        (
            ["--stage=gan", "--run_dir=RUN", "--gan_arch=dcgan2"],
            "--gan_arch=dcgan2: unknown value (did you mean dcgan?); one of dcgan, stylegan, "
            "residual",
        ),
        (
            ["--stage=gan", "--run_dir=RUN", "--data=celeba_dir"],
            "--data_dir: give the folder of the photos (--data=celeba_dir needs it)",
        ),
        (
            ["--stage=gan", "--run_dir=RUN", "--gan_objective=wgan_gp", "--gan_d_norm=batch"],
            "--gan_d_norm=batch with --gan_penalty=gp: the penalty is per image, batch norm mixes "
            "images; use --gan_d_norm=none",
        ),
        (
            ["--stage=export", "--run_dir=RUN"],
            "--stage=export: needs the gan stage first; run python train_main.py --stage=gan "
            "--run_dir=RUN",
        ),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_made(command, tmp_path, arguments, line):
    path = tmp_path / "run"
    done = command(*[part.replace("RUN", str(path)) for part in arguments])
    assert done == (2, "", "error: " + line.replace("RUN", str(path)))
    assert not path.exists()


@pytest.mark.parametrize(
    "arguments, line",
    [
        (
            ["--batchsize=3"],
            "--batchsize: unknown flag; did you mean --gan_batch_size? (see --help)",
        ),
        (["--kimg=3"], "--kimg: unknown flag; did you mean --gan_kimg? (see --help)"),
        (
            ["--preset"],
            f"--preset: no value given: preset whose values replace the defaults. One of {PRESETS} "
            "(see --help)",
        ),
    ],
)
def test_a_wrong_flag_is_one_line(arguments, line):
    done = subprocess.run(
        [sys.executable, "train_main.py", "--stage=gan", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {line}\n")


@pytest.mark.parametrize("stage", ["gan", "all"])
def test_an_unknown_attribute_is_one_line_before_any_work(command, tmp_path, cache, stage):
    arguments = tiny_flags(cache, attributes=("Smilling",))
    code, _, error = command(f"--stage={stage}", f"--run_dir={tmp_path / 'run'}", *arguments)
    assert code == 2 and error.startswith(
        "error: --attributes=Smilling: the data has no such attribute (did you mean Smiling?); "
    )
    assert tiny.listing(tmp_path) == ["run/.lock"]


@pytest.mark.parametrize(
    "options, line, remedy",
    [
        (
            {"regressor_vgg_weights": "/none.h5"},
            "--regressor_vgg_weights=/none.h5: ",
            "auto, imagenet, narrow or none",
        ),
        (
            {"inversion_perceptual": "imagenet"},
            "--inversion_perceptual=imagenet: ",
            "give a file, or regressor",
        ),
        (
            {"inversion_perceptual": "regresor"},
            "--inversion_perceptual=regresor: not a file of VGG16 weights",
            "imagenet or regressor",
        ),
    ],
)
def test_what_a_later_stage_would_refuse_is_refused_at_once(
    command, tmp_path, cache, monkeypatch, idle, options, line, remedy
):
    slim = keras.applications.VGG16

    def offline(*arguments, **named):
        if named.get("weights") == "imagenet":
            raise Exception("URL fetch failure")
        return slim(*arguments, **(named | {"weights": None}))

    monkeypatch.setattr(keras.applications, "VGG16", offline)
    arguments = tiny_flags(cache, **options)
    code, _, error = command("--stage=all", f"--run_dir={tmp_path / 'run'}", *arguments)
    assert code == 2 and error.startswith(f"error: {line}") and remedy in error
    assert tiny.listing(tmp_path) == ["run/.lock"] and idle == []


# What is resolved and recorded.


def test_dry_run_prints_the_resolved_options_and_makes_nothing(command, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    code, out, _ = command(
        "--stage=all",
        f"--run_dir={tmp_path / 'run'}",
        "--preset=celeba32",
        "--data_dir=photos",
        "--gan_width=12",
        "--attributes=Male,Smiling",
        "--flip=true",
        "--dry_run",
    )
    assert code == 0
    printed = config.from_dict(json.loads(out))
    values = config.flat(printed) | {"seed": None}
    assert values == config.flat(
        train.options.resolve(
            train.options.make(
                "celeba32",
                {
                    "data_dir": "photos",
                    "gan_width": 12,
                    "attributes": ("Male", "Smiling"),
                    "flip": True,
                },
            )
        )
    ) | {"seed": None}
    assert values["gan_width"] == 12 and values["gan_z_dim"] == 100
    assert values["cache_dir"] == "/somewhere/cgan_tf"
    assert 0 <= printed.seed < 2**31  # generated
    assert not (tmp_path / "run").exists()


def test_a_run_folder_remembers_its_options(command, finished, cache):
    code, out, _ = command("--stage=gan", f"--run_dir={finished.path}", "--dry_run")
    assert code == 0 and json.loads(out) == config.to_dict(tiny.make_config(cache))


def test_what_was_requested_is_recorded_with_what_was_resolved(command, tmp_path, cache, idle):
    run = RunFolder(tmp_path / "run")
    call = ("--stage=gan", f"--run_dir={run.path}")
    arguments = tiny_flags(cache)
    assert command(*call, *arguments, "--gan_penalty=auto")[0] == 0
    made = run.read()
    requested = made["requested"]
    # In the types of the options, and only what was given.
    given = {part.removeprefix("--").partition("=")[0] for part in arguments}
    assert set(requested) == given | {"gan_penalty"}
    assert requested["gan_penalty"] == "auto" and made["options"]["gan"]["penalty"] == "r1"
    assert requested["gan_kimg"] == 0.064 and requested["attributes"] == ["Smiling", "Eyeglasses"]
    # Resumed with another flag: it is added, and what auto stands for follows it.
    assert command(*call, "--gan_objective=wgan_gp", "--regressor_resolution=auto")[0] == 0
    changed = run.read()
    assert changed["requested"] == requested | {
        "gan_objective": "wgan_gp",
        "regressor_resolution": None,
    }
    assert changed["options"]["gan"]["penalty"] == "gp"
    assert changed["options"]["regressor"]["resolution"] == 32
    # Resumed with no flags: nothing changes.
    assert command(*call)[0] == 0
    assert run.read() == changed
    assert [config.to_dict(options) for _, options, _ in idle] == [
        made["options"],
        changed["options"],
        changed["options"],
    ]


def test_devices_are_chosen_again_unless_they_were_requested(command, tmp_path, cache, idle):
    for name, flags in (("auto", []), ("given", ["--devices=CPU:0"])):
        run = RunFolder(tmp_path / name)
        assert command("--stage=gan", f"--run_dir={run.path}", *tiny_flags(cache), *flags)[0] == 0
        content = run.read()
        assert content["options"]["devices"] == ["CPU:0"]  # as resolved on this machine
        content["options"]["devices"] = ["GPU:7"]  # as it was on another
        write_text(run.path / "config.json", json.dumps(content))
        assert command("--stage=gan", f"--run_dir={run.path}")[0] == 0
        assert run.read()["options"]["devices"] == ["CPU:0"]
        assert run.read()["requested"].get("devices") == (["CPU:0"] if flags else None)


def test_the_generated_seed_and_the_default_attributes_are_recorded(command, tmp_path, cache, idle):
    arguments = [part for part in tiny_flags(cache) if not part.startswith(("--seed", "--attr"))]
    path = tmp_path / "run"
    assert command("--stage=gan", f"--run_dir={path}", *arguments)[0] == 0
    first = RunFolder(path).load_config()
    assert isinstance(first.seed, int) and first.attributes == ()
    assert command("--stage=directions", f"--run_dir={path}")[0] == 0
    second = RunFolder(path).load_config()
    assert second.seed == first.seed and len(second.attributes) == 5
    assert not {"seed", "attributes"} & set(RunFolder(path).read()["requested"])


def test_the_precision_that_auto_took_is_kept(command, tmp_path, cache, monkeypatch, idle):
    arguments = [part for part in tiny_flags(cache) if not part.startswith("--precision")]
    path = tmp_path / "run"
    for usual in ("mixed_bfloat16", "float32"):  # of the first machine, and of another

        def compute_policy(options, usual=usual):
            return usual if options.precision == "auto" else options.precision

        monkeypatch.setattr(precision, "compute_policy", compute_policy)
        assert command("--stage=gan", f"--run_dir={path}", *arguments)[0] == 0
        assert RunFolder(path).load_config().precision == "mixed_bfloat16"


def test_all_runs_every_stage_in_order(command, tmp_path, cache, monkeypatch, idle):
    written = []
    monkeypatch.setattr(page, "write", lambda run: written.append(run.path) or "PAGE")
    path = tmp_path / "run"
    code, out, _ = command("--stage=all", f"--run_dir={path}", *tiny_flags(cache))
    assert code == 0
    assert [(name, where) for name, _, where in idle] == [(name, path) for name in STAGES]
    assert {options.gan.kimg for _, options, _ in idle} == {0.064}
    assert written == [path] * len(STAGES) and out.splitlines()[-1] == "report: PAGE"
    stored = RunFolder(path).read()
    expected = config.to_dict(tiny.make_config(cache, devices=("CPU:0",)))
    assert stored["options"] == expected
    assert stored["data"]["name"] == "synthetic" and stored["data"]["size"] == 100
    assert len(stored["data"]["digest"]) == 64


def test_how_the_labels_were_read_is_recorded(command, tmp_path, cache, monkeypatch, idle):
    monkeypatch.setattr(page, "write", lambda run: "PAGE")
    for index in range(6):
        file = tmp_path / "photos" / ("hat", "no_hat")[index % 2] / f"{index}.png"
        images.save_png(file, np.full((32, 32, 3), 40 * index, np.uint8))
    data = ["--data=folder", f"--data_dir={tmp_path / 'photos'}", "--attributes=hat"]
    code, out, error = command(
        "--stage=gan", f"--run_dir={tmp_path / 'run'}", *tiny_flags(cache), *data
    )
    assert (code, error) == (0, "")
    stored = RunFolder(tmp_path / "run").read()["data"]
    assert stored["attribute_names"] == ["hat"]
    (note,) = stored["notes"]
    assert note.endswith("the attribute is hat: 1 in sub-folder hat, 0 in no_hat")
    assert f"data: {note}" in out.splitlines()


def test_a_run_records_that_its_photos_have_celebas_framing(command, tmp_path, cache):
    for index in range(6):
        file = tmp_path / "photos" / f"{index}.png"
        images.save_png(file, np.full((32, 32, 3), 40 * index, np.uint8))
    write_framing(tmp_path / "photos")
    run = RunFolder(tmp_path / "run")
    line = [f"--run_dir={run.path}", "--data=folder", f"--data_dir={tmp_path / 'photos'}"]
    flags = [*tiny_flags(cache), *line, "--attributes="]
    code, _, error = command("--stage=gan", *flags)
    assert (code, error) == (0, "")
    assert training_crop(run) == CELEBA_CROP
    (tmp_path / "photos" / FRAMING).unlink()
    code, _, error = command("--stage=gan", *flags)
    assert code == 2 and "--data_dir (its photos or labels have changed)" in error


def test_finished_stages_say_so_and_do_nothing(command, finished):
    before = {name: tiny.snapshot(finished.stage(name).path) for name in tiny.STAGES}
    for name in tiny.STAGES:
        code, out, _ = command(f"--stage={name}", f"--run_dir={finished.path}")
        ended = finished.stage(name).read_metadata()["ended"]
        assert code == 0 and out.splitlines()[0] == (
            f"{name}: finished at {ended}; nothing to do (--restart starts over)"
        )
    assert before == {name: tiny.snapshot(finished.stage(name).path) for name in tiny.STAGES}


@pytest.mark.parametrize("stage", ["inversion", "directions", "evaluate", "export"])
def test_a_stage_before_the_one_it_needs(command, tmp_path, cache, stage):
    path = tmp_path / "run"
    code, _, error = command(f"--stage={stage}", f"--run_dir={path}", *tiny_flags(cache))
    assert code == 2 and "needs the gan stage first" in error
    assert not path.exists()


# Errors of a stage, and of its report.


def fail_with(error):
    def work(*_):
        raise error

    return work


def test_a_failed_report_is_a_note(command, tmp_path, cache, monkeypatch, idle):
    monkeypatch.setattr(page, "write", fail_with(RuntimeError("no font")))
    code, out, _ = command("--stage=gan", f"--run_dir={tmp_path / 'run'}", *tiny_flags(cache))
    assert code == 0 and "report: " not in out
    assert command.notes == ["note: report.html was not written (RuntimeError: no font)"]


@pytest.mark.parametrize("failure", [RuntimeError("no font"), UserError("the report's error")])
def test_a_failed_report_does_not_hide_the_error_of_the_stage(
    command, tmp_path, cache, monkeypatch, failure
):
    monkeypatch.setattr(page, "write", fail_with(failure))
    monkeypatch.setattr(gan, "run", fail_with(UserError("g_loss is nan at 1.00 kimg")))
    code, out, error = command("--stage=gan", f"--run_dir={tmp_path / 'run'}", *tiny_flags(cache))
    assert (code, error) == (2, "error: g_loss is nan at 1.00 kimg")
    assert "report: " not in out
    assert command.notes == [
        f"note: report.html was not written ({type(failure).__name__}: {failure})"
    ]


def test_after_a_failed_stage_no_other_begins_and_the_report_is_written(
    command, tmp_path, cache, monkeypatch, idle
):
    written = []
    monkeypatch.setattr(page, "write", lambda run: written.append(run.path) or "PAGE")
    monkeypatch.setattr(regressor, "run", fail_with(UserError("no labels")))
    code, _, error = command("--stage=all", f"--run_dir={tmp_path / 'run'}", *tiny_flags(cache))
    assert (code, error) == (2, "error: no labels")
    assert [name for name, _, _ in idle] == ["gan"] and len(written) == 2
