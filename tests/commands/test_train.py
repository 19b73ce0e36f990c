"""train_main: the commands as a user gives them, most of them in this process."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import pytest
import tiny
from absl import flags
from absl.testing import flagsaver

import train_main
from cgan_tf import export
from cgan_tf.core import cli, config, run_folder
from cgan_tf.core.config import FIELDS, STAGES
from cgan_tf.core.files import write_text
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.report import page
from cgan_tf.stages import evaluate, gan
from cgan_tf.training import precision

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "train_main.py"]


@pytest.fixture
def command(capsys, monkeypatch, slim_vgg):
    """Runs one command: (its exit code, what it printed, its line of error)."""
    monkeypatch.setattr(page, "write", lambda folder: folder.path / "report.html")

    def call(*arguments):
        capsys.readouterr()
        with flagsaver.flagsaver():
            flags.FLAGS(["train_main.py", *map(str, arguments)])
            code = cli._call(train_main.main)
        printed = capsys.readouterr()
        lines = printed.err.splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        assert code in (0, 2) and len(errors) == (code == 2), printed.err
        assert "Traceback" not in printed.err
        return code, printed.out, errors[0] if errors else ""

    return call


@pytest.fixture
def copy(chain, tmp_path):
    """A copy of the finished chain, to be written to."""
    shutil.copytree(chain.folder.path, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def tiny_flags(cache, **options):
    """The tests' options as flags."""
    values = config.to_dict(tiny.make_config(cache, **options))
    given = {name: values[name] for name in [*tiny.OPTIONS, "cache_dir", *options]}
    return [
        f"--{name}={','.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in given.items()
    ]


# What the flags say.


def test_help_shows_every_option_with_its_unit_and_default():
    done = subprocess.run([*COMMAND, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    blocks = dict(re.findall(r"^  --(\w+)[^\n]*\n((?:      .*\n?)*)", done.stdout, re.MULTILINE))
    assert list(blocks) == sorted(
        ["stage", "run_dir", "dry_run", "restart", *FIELDS], key=list(blocks).index
    )
    text = {name: " ".join(block.split()) for name, block in blocks.items()}
    for name, field in FIELDS.items():
        assert text[name].startswith(f"{field.metadata['help']}"), name
        if field.metadata["unit"]:
            assert f"[{field.metadata['unit']}]" in text[name]
        default = field.default
        if isinstance(default, tuple):  # as it is typed
            default = ",".join(map(str, default))
        if default not in (None, ""):
            assert f"Default: {default}." in text[name]
        for choice in field.metadata["choices"]:
            assert choice in text[name]
    assert "One of demo, celeba32, celeba64, celeba128, stylegan64." in text["preset"]


@pytest.mark.parametrize(
    "arguments, line",
    [
        (
            ["--stage=inverson"],
            "error: --stage=inverson: one of gan, regressor, inversion, directions, evaluate, "
            "export, or all (did you mean inversion?)",
        ),
        (
            ["--stage=gan"],
            "error: --run_dir: give the folder of this chain, e.g. --run_dir=runs/faces",
        ),
        (
            ["--stage=gan", "--run_dir=RUN", "--preset=celeba63"],
            "error: --preset=celeba63: unknown preset (did you mean celeba64?); one of demo, "
            "celeba32, celeba64, celeba128, stylegan64",
        ),
        (
            ["--stage=gan", "--run_dir=RUN", "--gan_kimg=much"],
            "error: --gan_kimg=much: give a number",
        ),
        (
            ["--stage=gan", "--run_dir=RUN", "--data=celeba_dir"],
            "error: --data_dir: give the folder of the photos (--data=celeba_dir needs it)",
        ),
    ],
)  # fmt: skip
def test_a_wrong_value_is_one_line_and_nothing_is_made(command, tmp_path, arguments, line):
    run_dir = tmp_path / "run"
    code, out, error = command(*[part.replace("RUN", str(run_dir)) for part in arguments])
    assert (code, out, error) == (2, "", line)
    assert not run_dir.exists()


def test_no_stage(command):
    assert command()[2].startswith("error: --stage: not given; one of gan, ")


def test_an_unknown_flag_is_one_line_with_the_nearest():
    done = subprocess.run(
        [*COMMAND, "--stage=gan", "--batchsize=3"], cwd=ROOT, capture_output=True, text=True
    )
    line = "error: --batchsize: unknown flag; did you mean --gan_batch_size? (see --help)\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line)


@pytest.mark.parametrize("stage", ["gan", "all"])
def test_an_unknown_attribute_is_one_line_before_any_work(command, tmp_path, cache, stage):
    arguments = tiny_flags(cache, attributes=("Smilling",))
    code, out, error = command(f"--stage={stage}", f"--run_dir={tmp_path / 'run'}", *arguments)
    assert code == 2 and error.startswith(
        "error: --attributes=Smilling: the data has no such attribute (did you mean Smiling?); "
    )
    assert tiny.listing(tmp_path) == ["run/.lock"]


def test_dry_run_prints_the_resolved_options_and_makes_nothing(command, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    code, out, _ = command(
        "--stage=all", f"--run_dir={tmp_path / 'run'}", "--preset=celeba32", "--data_dir=photos",
        "--gan_width=12", "--attributes=Male,Smiling", "--flip=true", "--dry_run",
    )  # fmt: skip
    options = json.loads(out)
    assert code == 0 and set(options) == set(FIELDS)
    assert options["width"] == 12 and options["attributes"] == ["Male", "Smiling"]
    assert options["preset"] == "celeba32" and options["z_dim"] == 100 and options["flip"] is True
    assert options["cache_dir"] == "/somewhere/cgan_tf"
    assert 0 <= options["seed"] < 2**31  # drawn
    assert not (tmp_path / "run").exists()


def test_a_run_folder_remembers_its_options(command, copy, chain):
    code, out, _ = command("--stage=gan", f"--run_dir={copy.path}", "--dry_run")
    assert code == 0 and json.loads(out) == config.to_dict(chain.config)


# The work.


def test_all_runs_every_stage_in_order(command, tmp_path, cache, monkeypatch):
    calls = []

    def stage(name):
        def work(options, folder, dataset):
            calls.append((name, options.kimg, folder.path, dataset.name))

        return work

    for name in ("regressor", "inversion", "directions"):
        monkeypatch.setattr(sys.modules[f"cgan_tf.{name}"], "run", stage(name))
    monkeypatch.setattr(gan, "run", stage("gan"))
    monkeypatch.setattr(evaluate, "run", stage("evaluate"))
    monkeypatch.setattr(export, "run", stage("export"))
    written = []
    monkeypatch.setattr(page, "write", lambda folder: written.append(folder) or "PAGE")
    path = tmp_path / "run"
    code, out, _ = command("--stage=all", f"--run_dir={path}", *tiny_flags(cache))
    assert code == 0
    assert calls == [(name, 0.064, path, "synthetic") for name in STAGES]
    assert len(written) == len(STAGES) and out.splitlines()[-1] == "report: PAGE"
    stored = RunFolder(path).read()
    assert stored["options"] == config.to_dict(tiny.make_config(cache))
    assert stored["data"]["name"] == "synthetic" and stored["data"]["size"] == 100
    assert len(stored["data"]["digest"]) == 64


def test_a_stage_before_its_time_makes_nothing(command, tmp_path, cache):
    code, out, error = command("--stage=export", f"--run_dir={tmp_path / 'run'}")
    assert (code, out) == (2, "") and error == (
        "error: --stage=export: needs the gan stage first; run python train_main.py --stage=gan "
        f"--run_dir={tmp_path / 'run'}"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "options, line",
    [
        ({"vgg_weights": "/none.h5"}, "--regressor_vgg_weights=/none.h5: no VGG16 weights without top ("),
        ({"perceptual": "imagenet"}, "--inversion_perceptual=imagenet: the weights cannot be had ("),
    ],
)
def test_what_a_later_stage_would_refuse_is_refused_at_once(
    command, tmp_path, cache, monkeypatch, options, line
):
    monkeypatch.setattr(gan, "run", lambda *_: pytest.fail("the GAN has begun"))
    real = keras.applications.VGG16

    def offline(*arguments, **named):
        if named.get("weights") == "imagenet":
            raise Exception("URL fetch failure")
        return real(*arguments, **named)

    monkeypatch.setattr(keras.applications, "VGG16", offline)
    arguments = tiny_flags(cache, **options)
    code, _, error = command("--stage=all", f"--run_dir={tmp_path / 'run'}", *arguments)
    assert code == 2 and error.startswith(f"error: {line}") and "\n" not in error
    assert "take --inversion_perceptual=regressor" in error or "give auto, imagenet, none" in error
    assert tiny.listing(tmp_path) == ["run/.lock"]


def test_the_drawn_seed_and_the_default_attributes_are_recorded(
    command, tmp_path, cache, monkeypatch
):
    for name in ("gan", "directions"):
        monkeypatch.setattr(sys.modules[f"cgan_tf.{name}"], "run", lambda *_: None)
    monkeypatch.setattr(RunFolder, "check_order", lambda *_: None)  # the stages do nothing here
    arguments = [part for part in tiny_flags(cache) if not part.startswith(("--seed", "--attr"))]
    path = tmp_path / "run"
    assert command("--stage=gan", f"--run_dir={path}", *arguments)[0] == 0
    first = RunFolder(path).load_config()
    assert isinstance(first.seed, int) and first.attributes == ()
    assert command("--stage=directions", f"--run_dir={path}")[0] == 0
    second = RunFolder(path).load_config()
    assert second.seed == first.seed and len(second.attributes) == 5


def test_the_precision_that_auto_took_is_recorded_and_kept(command, tmp_path, cache, monkeypatch):
    monkeypatch.setattr(gan, "run", lambda *_: None)
    arguments = [part for part in tiny_flags(cache) if not part.startswith("--precision")]
    path = tmp_path / "run"
    taken = {"precision": "mixed_bfloat16"}
    monkeypatch.setattr(
        precision, "compute_policy",
        lambda options: taken["precision"] if options.precision == "auto" else options.precision,
    )  # fmt: skip
    assert command("--stage=gan", f"--run_dir={path}", *arguments)[0] == 0
    assert RunFolder(path).load_config().precision == "mixed_bfloat16"
    taken["precision"] = "float32"  # another machine
    assert command("--stage=gan", f"--run_dir={path}")[0] == 0
    assert RunFolder(path).load_config().precision == "mixed_bfloat16"


def test_a_stage_trains_and_says_where_the_report_is(command, tmp_path, cache, chain):
    path = tmp_path / "run"
    code, out, _ = command("--stage=gan", f"--run_dir={path}", *tiny_flags(cache))
    assert code == 0 and out.splitlines()[-1] == f"report: {path / 'report.html'}"
    assert RunFolder(path).stage("gan").artifact_hash() == (
        chain.folder.stage("gan").artifact_hash()
    )
    assert "--stage=gan" not in tiny.listing(path)


def test_finished_stages_say_so_and_do_nothing(command, copy):
    before = {name: tiny.snapshot(copy.stage(name).path) for name in tiny.STAGES}
    for name in tiny.STAGES:
        code, out, _ = command(f"--stage={name}", f"--run_dir={copy.path}")
        ended = copy.stage(name).read_metadata()["ended"]
        assert code == 0
        assert out.splitlines()[0] == (
            f"{name}: finished at {ended}; nothing to do (--restart begins anew)"
        )
    assert before == {name: tiny.snapshot(copy.stage(name).path) for name in tiny.STAGES}


@pytest.mark.parametrize(
    "stage, needed",
    [("inversion", "gan"), ("directions", "gan"), ("evaluate", "gan"), ("export", "gan")],
)
def test_a_stage_before_the_one_it_needs(command, tmp_path, cache, stage, needed):
    path = tmp_path / "run"
    code, _, error = command(f"--stage={stage}", f"--run_dir={path}", *tiny_flags(cache))
    assert code == 2
    assert f"needs the {needed} stage first" in error or f"--stage={needed}" in error
    assert not (path / stage).exists() or tiny.listing(path / stage) == []


# What is refused.


def test_a_changed_option_is_refused_and_named(command, copy):
    metadata = copy.stage("gan").path / "metadata.json"
    metadata.write_text(json.dumps(json.loads(metadata.read_text()) | {"ended": None}))
    before = tiny.snapshot(copy.path)
    code, out, error = command("--stage=gan", f"--run_dir={copy.path}", "--gan_g_lr=0.5", "--gan_width=8")
    assert code == 2 and "--gan_width=8 (was 4)" in error and "--gan_g_lr=0.5 (was " in error
    assert error.endswith(
        "take the old ones or another --run_dir, or give --stage=gan --restart, which moves the "
        "old stage aside"
    )
    after = tiny.snapshot(copy.path)
    after.pop(".lock", None), before.pop(".lock", None)
    assert after == before


def test_an_option_of_an_earlier_finished_stage_is_refused(command, copy):
    shutil.rmtree(copy.stage("directions").path)
    code, _, error = command("--stage=directions", f"--run_dir={copy.path}", "--inversion_lr=0.5")
    assert code == 2 and error.startswith(
        f"error: the inversion stage in {copy.path} began with other options: --inversion_lr=0.5"
    )
    assert "--stage=inversion --restart" in error
    assert not copy.stage("directions").path.exists()


def test_other_data_is_refused(command, copy):
    shutil.rmtree(copy.stage("directions").path)
    code, _, error = command("--stage=directions", f"--run_dir={copy.path}", "--synthetic_size=110")
    assert code == 2 and "the gan stage" in error and "--synthetic_size=110 (was 100)" in error


def test_another_preset_is_refused(command, copy):
    code, _, error = command("--stage=gan", f"--run_dir={copy.path}", "--preset=demo")
    assert (code, error) == (
        2,
        "error: --preset=demo: this run folder was made with no preset; take another --run_dir",
    )


def test_a_run_folder_of_another_version(command, copy):
    path = copy.path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99, "version": "9.9"}))
    before = tiny.snapshot(copy.path)
    code, _, error = command("--stage=gan", f"--run_dir={copy.path}")
    assert code == 2 and "a run folder of format 99" in error and "(9.9)" in error
    assert tiny.snapshot(copy.path) == before


def test_a_damaged_config(command, copy):
    path = copy.path / "config.json"
    path.write_text(path.read_text()[:-40])
    code, _, error = command("--stage=gan", f"--run_dir={copy.path}")
    assert (code, error) == (
        2, f"error: {path} is damaged; restore it, or take another --run_dir",
    )  # fmt: skip


def test_a_file_in_the_place_of_the_run_folder(command, tmp_path, cache):
    (tmp_path / "file").write_text("mine")
    code, _, error = command("--stage=gan", f"--run_dir={tmp_path / 'file'}", *tiny_flags(cache))
    assert code == 2 and error.startswith(f"error: --run_dir={tmp_path / 'file'}: ")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_is_one_line_and_the_old_files_stay(command, copy, monkeypatch):
    shutil.rmtree(copy.stage("gan").path / "checkpoints")
    metadata = copy.stage("gan").path / "metadata.json"
    metadata.write_text(json.dumps(json.loads(metadata.read_text()) | {"ended": None}))
    before = tiny.snapshot(copy.path)
    fsync = os.fsync

    def full(descriptor):
        if "checkpoints" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    code, _, error = command("--stage=gan", f"--run_dir={copy.path}")
    assert (code, error) == (
        2, "error: the disk is full: free some space and run the same command again",
    )  # fmt: skip
    after = tiny.snapshot(copy.path)
    # Nothing is lost, nothing half-written is left; the checkpoint alone is missing.
    assert set(after) - set(before) == {".lock"} and set(before) <= set(after)
    for name in ("gan/model/weights.h5", "gan/discriminator/weights.h5", "inversion/metadata.json"):
        assert after[name] == before[name]
    monkeypatch.setattr(os, "fsync", fsync)
    assert command("--stage=gan", f"--run_dir={copy.path}")[0] == 0


def test_a_full_disk_at_the_very_first_write(command, tmp_path, cache, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    code, _, error = command("--stage=gan", f"--run_dir={tmp_path / 'run'}", *tiny_flags(cache))
    assert code == 2 and error.startswith("error: the disk is full")
    assert tiny.listing(tmp_path / "run") == [".lock"]


# --restart.


def test_restart_moves_the_old_stage_aside_and_those_that_need_it(command, copy):
    stages = ("gan", "inversion", "directions")
    old = {name: tiny.snapshot(copy.stage(name).path) for name in stages}
    regressor = tiny.snapshot(copy.stage("regressor").path)
    write_text(copy.custom_path("Wearing_Hat"), "of that gan")
    copy.record_custom({"Wearing_Hat": {"labels": 300}})
    code, out, _ = command(
        "--stage=gan", f"--run_dir={copy.path}", "--restart", "--gan_kimg=0.032", "--gan_g_lr=0.001"
    )
    assert code == 0
    for name in stages:
        assert f"{name}: the old stage is now {copy.path / name}.old-001" in out.splitlines()
        assert tiny.snapshot(copy.path / f"{name}.old-001") == old[name]
    assert sorted(entry.name for entry in copy.path.iterdir()) == [
        ".lock", "attributes.old-001", "config.json", "directions.old-001", "gan", "gan.old-001",
        "inversion.old-001", "regressor",
    ]  # fmt: skip
    assert copy.custom_attributes() == {}
    assert tiny.snapshot(copy.stage("regressor").path) == regressor
    assert copy.load_config().gan.kimg == 0.032 and copy.stage("gan").finished()
    # Once more: a new number, and what is no longer there is not missed.
    assert command("--stage=gan", f"--run_dir={copy.path}", "--restart")[0] == 0
    assert sorted(entry.name for entry in copy.path.iterdir() if "gan" in entry.name) == [
        "gan", "gan.old-001", "gan.old-002",
    ]  # fmt: skip


def test_restart_refuses_what_other_stages_began_with(command, copy):
    before = tiny.snapshot(copy.path)
    code, _, error = command("--stage=gan", f"--run_dir={copy.path}", "--restart", "--seed=9")
    assert code == 2 and f"the regressor stage in {copy.path}" in error
    after = tiny.snapshot(copy.path)
    after.pop(".lock")
    assert after == before


def test_restart_moves_nothing_if_the_new_stage_cannot_begin(command, copy):
    before = tiny.snapshot(copy.path)
    code, _, error = command(
        "--stage=regressor", f"--run_dir={copy.path}", "--restart", "--regressor_vgg_weights=/none.h5"
    )
    assert code == 2 and error.startswith("error: --regressor_vgg_weights=/none.h5: no VGG16 weights")
    after = tiny.snapshot(copy.path)
    after.pop(".lock")
    assert after == before


# In processes of their own.


def start(path, *arguments):
    return subprocess.Popen(
        [*COMMAND, "--stage=gan", f"--run_dir={path}", *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for(process, condition):
    """Waits until the condition holds, while the process lives."""
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def test_signals_save_and_end_with_their_code_and_the_run_goes_on(tmp_path, cache, command):
    path = tmp_path / "run"
    stage = RunFolder(path).stage("gan")

    def pictures():
        return len(list(stage.path.glob("fakes*.png")))

    steps, arguments = [0], [*tiny_flags(cache, gan_kimg=1e5, grid_kimg=0.4)]
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        before = max(1, pictures())  # the first shows the untrained generator
        process = start(path, *arguments)
        try:
            wait_for(process, lambda: pictures() > before)  # noqa: B023 - called at once
            if number == signal.SIGINT:  # meanwhile nobody else may work there
                line = command("--stage=gan", f"--run_dir={path}")[2]
                assert line.startswith(f"error: --run_dir={path}: another process is working in it")
            process.send_signal(number)
            out, error = process.communicate(timeout=120)
        finally:
            process.kill()
        newest = max(stage.checkpoints.glob("step-*.npz"))
        step = int(newest.stem.split("-")[1])
        assert process.returncode == code
        assert error == (
            f"error: {number.name}: saved {newest.name} at {step * 8 / 1000:.1f} kimg; the same "
            "command goes on\n"
        )
        going_on = f"gan: going on at {steps[-1] * 8 / 1000:.1f} of 100000 kimg"
        assert (going_on in out.splitlines()) == (number == signal.SIGTERM)
        assert step > steps[-1] and not stage.finished()
        assert not list(stage.path.rglob("*.tmp"))
        steps.append(step)
        arguments = []  # the run folder remembers them


def test_kill_9_in_the_middle_of_a_checkpoint(tmp_path, cache, chain, command):
    path = tmp_path / "run"
    script = (
        "import os, signal, sys\n"
        "from cgan_tf import cli, run\n"
        "import train_main\n"
        "replace = os.replace\n"
        "def die(source, target):\n"
        "    if str(target).endswith('step-000000005.npz'):\n"
        "        os.truncate(source, 100)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    replace(source, target)\n"
        "run.os.replace = die\n"
        "cli.run(train_main.main)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "--stage=gan", f"--run_dir={path}",
         *tiny_flags(cache, checkpoint_minutes=1e-9)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    stage = RunFolder(path).stage("gan")
    assert tiny.listing(stage.checkpoints) == [
        ".step-000000005.npz.tmp", "step-000000003.npz", "step-000000004.npz",
    ]  # fmt: skip
    code, out, _ = command("--stage=gan", f"--run_dir={path}", "--checkpoint_minutes=2")
    assert code == 0 and "gan: going on at 0.0 of 0.064 kimg" in out
    whole = chain.folder.stage("gan")
    tiny.assert_equal_state(tiny.final_state(stage), tiny.final_state(whole))
    assert stage.artifact_hash() == whole.artifact_hash()
    assert tiny.listing(stage.checkpoints) == ["step-000000004.npz", "step-000000008.npz"]


def test_the_whole_module_is_imported_without_tensorflow():
    # So that --help and a mistyped flag answer at once.
    script = "import sys, train_main; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0


def test_the_tests_share_no_files_with_a_user(chain, cache):
    assert Path(chain.config.cache_dir) == cache and keras.applications.VGG16 is tiny.VGG16
    assert run_folder.RunFolder(chain.folder.path).read()["options"]["cache_dir"] == str(cache)
