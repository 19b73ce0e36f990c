"""cgan_tf.training: the loop, its figures, its checkpoints; stopped in every way and gone on."""

import dataclasses
import errno
import json
import math
import os
import signal
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

from cgan_tf.core.errors import Interrupted, UserError
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.training import checkpoint, loop, precision

BATCH = 10  # images: 100 steps are one kimg
STEPS = 40


class Toy(loop.Trainer):
    """One weight that follows the batches' means, with noise and momentum; fails on request."""

    remedy = "lower --toy_lr"

    def __init__(self, seed=0, nan_at=None, nan_weight_at=None):
        super().__init__(name="toy")
        self.weight = self.add_weight(shape=(3,), initializer="zeros", name="weight")
        self.optimizer = keras.optimizers.Adam(0.05)
        self.optimizer.build([self.weight])
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.nan_at, self.nan_weight_at = nan_at or -1, nan_weight_at or -1
        self.built = True

    def checkpoint_parts(self):
        return {
            "weight": [self.weight],
            "optimizer": self.optimizer,
            "seed_generator": self.seed_generator,
        }

    def train_step(self, data):
        noise = keras.random.normal((3,), seed=self.seed_generator)
        gradient = self.weight - tf.reduce_mean(data) + noise
        step = tf.cast(self.optimizer.iterations, tf.int32) + 1
        self.optimizer.apply([gradient], [self.weight])
        self.weight.assign(tf.where(step == self.nan_weight_at, math.inf, self.weight))
        return {
            "first": tf.where(step == self.nan_at, math.nan, tf.reduce_mean(data)),
            "second": tf.cast(step, tf.float32),
        }


def batches(seen, size):
    """Batch s holds s, ten times."""
    return tf.data.Dataset.range(seen // size, 10**6).map(
        lambda s: tf.fill((BATCH,), tf.cast(s, tf.float32))
    )


@pytest.fixture
def stage(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.stage("gan").path.mkdir(parents=True)
    return folder.stage("gan")


def config(**options):
    return tiny.make_config(Path("cache"), **options)


EVERY_STEP = {"checkpoint_minutes": 1e-9}


def train(stage, trainer=None, steps=STEPS, make_batches=batches, said=None, options=None, **rest):
    trainer = trainer or Toy()
    loop.train(
        trainer, make_batches, steps * BATCH / 1000, BATCH, stage, config(**(options or {})),
        say=(said if said is not None else []).append, **rest,
    )  # fmt: skip
    return trainer


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The last checkpoint and the weight of a training that nothing stopped."""
    folder = RunFolder(tmp_path_factory.mktemp("whole"))
    folder.stage("gan").path.mkdir(parents=True)
    trainer = train(folder.stage("gan"))
    return tiny.final_state(folder.stage("gan")), trainer.weight.numpy()


def checkpoints(stage):
    return tiny.listing(stage.checkpoints)


def name(step):
    return f"step-{step:09d}.npz"


def message(caught):
    assert "\n" not in str(caught.value)
    return str(caught.value)


# The loop.


def test_it_trains_until_so_many_images_have_been_seen(stage):
    said, asked = [], []

    def make_batches(seen, size):
        asked.append((seen, size))
        return batches(seen, size)

    trainer = train(stage, steps=STEPS - 0.5, make_batches=make_batches, said=said)
    assert int(trainer.optimizer.iterations) == STEPS and asked == [(0, BATCH)]  # rounded up
    assert checkpoints(stage) == [name(STEPS)]
    assert len(said) == 1 and said[0].startswith("gan: 0.4/0.395 kimg  ")
    assert "0.0 min left  first 39  second 40" in said[0]


class Stretched(Toy):
    """Ten steps of 10 images, five of 4, five of 8; notes where it enters."""

    def __init__(self):
        super().__init__()
        self.entered = []

    def stretches(self, kimg, batch_size):
        return [loop.Stretch(10, 10), loop.Stretch(5, 4), loop.Stretch(5, 8)]

    def enter(self, index, anew):
        self.entered.append((index, anew))


def test_stretches_follow_each_other_in_one_line_of_checkpoints(stage, tmp_path, monkeypatch):
    asked, pictures = [], []

    def make_batches(seen, size):
        asked.append((seen, size))
        return tf.data.Dataset.range(seen, 10**6, size).map(
            lambda place: tf.fill((size,), tf.cast(place, tf.float32))
        )

    def work(where, trainer):
        train(where, trainer, make_batches=make_batches, options=EVERY_STEP,
              picture=pictures.append, picture_kimg=0.04)  # fmt: skip
        return trainer

    monkeypatch.setattr(loop, "TICKS", 5)
    whole = work(stage, Stretched())
    assert whole.entered == [(0, True), (1, True), (2, True)]
    assert asked == [(0, 10), (100, 4), (120, 8)]
    assert pictures == [0, 40, 80, 120, 160]
    assert [line["kimg"] for line in stage.read_stats()] == [0.04, 0.08, 0.108, 0.128, 0.16]
    # Killed after 12 steps, in the second stretch, and after 15, at its end.
    for step, place, entered in ((12, (108, 4), [(1, False), (2, True)]), (15, None, [(2, True)])):
        again = RunFolder(tmp_path / f"killed{step}").stage("gan")
        again.path.mkdir(parents=True)
        with monkeypatch.context() as patch:
            tiny.interrupt(patch, checkpoint=step, kill=step + 2)
            with pytest.raises(tiny.Killed):
                work(again, Stretched())
        asked.clear()
        resumed = work(again, Stretched())
        assert resumed.entered == entered
        assert asked == ([place] if place else []) + [(120, 8)]
        tiny.assert_equal_state(tiny.final_state(again), tiny.final_state(stage))


def test_a_line_of_statistics_holds_the_means_of_its_tick(stage, monkeypatch):
    monkeypatch.setattr(loop, "TICKS", 8)  # of 5 steps
    train(stage, steps=42)
    lines = stage.read_stats()
    assert [line["kimg"] for line in lines] == [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.42]
    assert [line["first"] for line in lines] == [2.0, 7.0, 12.0, 17.0, 22.0, 27.0, 32.0, 37.0, 40.5]
    assert [line["second"] for line in lines] == [line["first"] + 1 for line in lines]
    seconds = [line["seconds"] for line in lines]
    assert seconds == sorted(seconds) and seconds[0] > 0
    for line, before in zip(lines, [0.0, *seconds], strict=False):
        images = 20 if line["kimg"] == 0.42 else 50
        assert line["images_per_second"] == pytest.approx(images / (line["seconds"] - before))
    assert set(lines[0]) == {"kimg", "seconds", "images_per_second", "first", "second"}


def test_a_tick_is_a_whole_number_of_the_trainers_periods(stage, monkeypatch):
    monkeypatch.setattr(loop, "TICKS", 8)  # 5 steps, unless the period is 4
    monkeypatch.setattr(Toy, "period", 4)
    train(stage, steps=42)
    wanted = [0.04, 0.08, 0.12, 0.16, 0.2, 0.24, 0.28, 0.32, 0.36, 0.4, 0.42]
    assert [line["kimg"] for line in stage.read_stats()] == wanted
    assert [line["first"] for line in stage.read_stats()][:2] == [1.5, 5.5]


def test_pictures_come_at_the_start_by_images_seen_and_at_the_end(stage):
    seen = []
    train(stage, steps=25, picture=seen.append, picture_kimg=0.1)
    assert seen == [0, 100, 200, 250]
    seen.clear()
    train(stage, steps=35, picture=seen.append, picture_kimg=0.1)  # goes on at 25
    assert seen == [300, 350]


def test_a_longer_picture_interval_than_the_training(stage):
    seen = []
    train(stage, steps=5, picture=seen.append, picture_kimg=9.0)
    assert seen == [0, 50]


def test_a_finished_training_does_nothing_more(stage):
    train(stage)
    before = tiny.snapshot(stage.checkpoints)
    said = []
    trainer = train(stage, said=said, make_batches=None)
    assert int(trainer.optimizer.iterations) == STEPS
    assert said == ["gan: going on at 0.4 of 0.4 kimg"]
    assert tiny.snapshot(stage.checkpoints) == before and len(stage.read_stats()) == STEPS


def test_checkpoints_come_by_the_clock_and_the_newest_two_are_kept(stage):
    train(stage, options=EVERY_STEP)
    assert checkpoints(stage) == [name(STEPS - 1), name(STEPS)]
    with np.load(stage.checkpoints / name(STEPS)) as arrays:
        facts = json.loads(arrays["facts"].tobytes())
    assert facts["step"] == STEPS
    assert facts["seconds"] == pytest.approx(stage.read_stats()[-1]["seconds"], abs=0.5)


def test_seeds_decide(whole, tmp_path):
    results = []
    for index, seed in enumerate((0, 1)):
        folder = RunFolder(tmp_path / str(index)).stage("gan")
        folder.path.mkdir(parents=True)
        results.append(train(folder, Toy(seed=seed)).weight.numpy())
    assert results[0].tobytes() == whole[1].tobytes()
    assert not np.array_equal(*results)


# Stopped, and gone on.


def test_a_killed_run_ends_with_the_same_weights(stage, whole, monkeypatch):
    monkeypatch.setattr(loop, "TICKS", 8)
    with monkeypatch.context() as patch, pytest.raises(tiny.Killed):
        tiny.interrupt(patch, checkpoint=17, kill=23)
        train(stage, options=EVERY_STEP)
    assert checkpoints(stage) == [name(17)]
    assert [line["kimg"] for line in stage.read_stats()] == [0.05, 0.1, 0.15, 0.2]
    said = []
    train(stage, said=said)
    tiny.assert_equal_state(tiny.final_state(stage), whole[0])
    assert said[0] == "gan: going on at 0.2 of 0.4 kimg"
    # The line past the checkpoint was rewound, and is there once.
    assert [line["kimg"] for line in stage.read_stats()] == [
        0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4,
    ]  # fmt: skip
    assert stage.read_stats()[3]["second"] == 19.0  # the mean of the steps since the checkpoint
    seconds = [line["seconds"] for line in stage.read_stats()]
    assert seconds == sorted(seconds)


def test_killed_before_the_first_checkpoint(stage, whole, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(tiny.Killed):
        tiny.interrupt(patch, checkpoint=99, kill=9)
        train(stage, options=EVERY_STEP)
    assert not stage.checkpoints.exists() and len(stage.read_stats()) == 9
    said = []
    train(stage, said=said)
    tiny.assert_equal_state(tiny.final_state(stage), whole[0])
    assert len(said) == 1 and len(stage.read_stats()) == STEPS


def test_killed_again_and_again(stage, whole):
    for kill in (3, 4, 11, 30):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(tiny.Killed):
            tiny.interrupt(patch, checkpoint=kill - 1, kill=kill)
            train(stage, options=EVERY_STEP)
    train(stage)
    tiny.assert_equal_state(tiny.final_state(stage), whole[0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_ends_and_the_run_goes_on(stage, whole, number):
    handlers = [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]

    def send(images):
        if images == 90:
            os.kill(os.getpid(), number)

    with pytest.raises(Interrupted) as caught:
        train(stage, picture=send, picture_kimg=0.03)
    assert caught.value.signum == number
    assert message(caught) == (
        f"{number.name}: saved {name(9)} at 0.1 kimg; the same command goes on"
    )
    assert checkpoints(stage) == [name(9)]
    assert [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)] == handlers
    train(stage)
    tiny.assert_equal_state(tiny.final_state(stage), whole[0])


def test_a_loss_that_is_not_finite_stops_with_the_last_checkpoint_kept(stage, monkeypatch):
    tiny.interrupt(monkeypatch, checkpoint=20, kill=99)
    with pytest.raises(UserError) as caught:
        train(stage, Toy(nan_at=33), options=EVERY_STEP)
    assert message(caught) == (
        "gan: first is nan at 0.33 kimg; the last checkpoint is kept; lower --toy_lr, "
        "with --restart"
    )
    assert checkpoints(stage) == [name(20)]
    for value in tiny.final_state(stage).values():
        assert np.isfinite(value).all()
    assert all(math.isfinite(line["first"]) for line in stage.read_stats())


@pytest.mark.parametrize("step, kept", [(21, [name(19), name(20)]), (STEPS, [name(38), name(39)])])
def test_a_weight_that_is_not_finite_is_not_saved(stage, step, kept):
    # The loss of the step that broke it was finite.
    with pytest.raises(UserError) as caught:
        train(stage, Toy(nan_weight_at=step), options=EVERY_STEP)
    assert message(caught) == (
        f"gan: a weight is not finite at {step / 100:.2f} kimg; the last checkpoint is kept; lower "
        "--toy_lr, with --restart"
    )
    assert checkpoints(stage) == kept


def test_a_full_disk_keeps_the_last_checkpoint(stage, whole, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(tiny.Killed):
        tiny.interrupt(patch, checkpoint=12, kill=13)
        train(stage, options=EVERY_STEP)
    before = tiny.snapshot(stage.checkpoints)
    fsync = os.fsync

    def full(descriptor):
        if "step-" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(os, "fsync", full)
        train(stage, options=EVERY_STEP)
    assert tiny.snapshot(stage.checkpoints) == before
    train(stage)
    tiny.assert_equal_state(tiny.final_state(stage), whole[0])


# Damaged checkpoints.


def truncate(path):
    path.write_bytes(path.read_bytes()[:-50])


def empty(path):
    path.write_bytes(b"")


def flip_in_the_middle(path):
    content = bytearray(path.read_bytes())
    content[content.index(b"NUMPY") + 130] ^= 0xFF  # an array's first byte
    path.write_bytes(content)


def garble(path):
    path.write_bytes(b"text" * 200)


def other_shape(path):
    with np.load(path) as arrays:
        values = {key: arrays[key] for key in arrays.files}
    values["weight/0000"] = values["weight/0000"][:2]
    np.savez(path, **values)


def other_parts(path):
    with np.load(path) as arrays:
        values = {key: arrays[key] for key in arrays.files if key != "seed_generator/0000"}
    np.savez(path, **values)


def no_facts(path):
    with np.load(path) as arrays:
        values = {key: arrays[key] for key in arrays.files}
    values["facts"] = np.frombuffer(b"{", np.uint8)
    np.savez(path, **values)


DAMAGES = [truncate, empty, flip_in_the_middle, garble, other_shape, other_parts, no_facts]


def stopped(stage):
    """Leaves the checkpoints of steps 19 and 20."""
    train(stage, steps=20, options=EVERY_STEP)
    assert checkpoints(stage) == [name(19), name(20)]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_said_and_the_one_before_it_taken(stage, whole, damage):
    stopped(stage)
    damage(stage.checkpoints / name(20))
    damaged = (stage.checkpoints / name(20)).read_bytes()
    said = []
    train(stage, said=said)
    assert said[0].startswith(f"note: checkpoint {name(20)} is damaged (")
    assert said[0].endswith("); taking the one before it")
    assert said[1] == "gan: going on at 0.2 of 0.4 kimg"
    tiny.assert_equal_state(tiny.final_state(stage), whole[0])
    assert len(stage.read_stats()) == STEPS
    # Nothing was deleted but the checkpoint that is older than the two newest.
    assert checkpoints(stage) == [name(19), f"{name(20)}.damaged", name(STEPS)]
    assert (stage.checkpoints / f"{name(20)}.damaged").read_bytes() == damaged


def test_no_checkpoint_is_whole(stage):
    stopped(stage)
    for path in stage.checkpoints.iterdir():
        truncate(path)
    line = (
        f"{stage.checkpoints}: no checkpoint is whole; --stage=gan --restart moves the stage aside "
        "and begins anew"
    )
    for _ in range(2):  # the same command again does not begin anew in silence
        before = stage.read_stats()
        with pytest.raises(UserError) as caught:
            train(stage)
        assert message(caught) == line
        assert checkpoints(stage) == [f"{name(19)}.damaged", f"{name(20)}.damaged"]
        assert stage.read_stats() == before


def test_any_flipped_bit_is_noticed_or_without_effect(tmp_path):
    parts = Toy().checkpoint_parts()
    rng = np.random.default_rng(0)
    parts["weight"][0].assign(rng.normal(size=3))
    path = checkpoint.save_checkpoint(tmp_path, parts, {"step": 1})
    whole = path.read_bytes()
    wanted = [variable.numpy() for variable in checkpoint._variables(parts).values()]
    outcomes = set()
    for position in range(0, len(whole), 3):
        content = bytearray(whole)
        content[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        try:
            facts = checkpoint.restore_checkpoint(tmp_path, parts, say=lambda line: None)
        except UserError:
            outcomes.add("refused")
            (tmp_path / f"{path.name}.damaged").unlink()
            continue
        outcomes.add("without effect")
        assert facts == {"step": 1}
        for variable, value in zip(checkpoint._variables(parts).values(), wanted, strict=True):
            assert variable.numpy().tobytes() == value.tobytes()
    assert outcomes == {"refused", "without effect"}


def test_half_written_checkpoints_are_cleared(stage, whole):
    stopped(stage)
    (stage.checkpoints / f".{name(21)}.tmp").write_bytes(b"half")
    train(stage)
    assert checkpoints(stage) == [name(20), name(STEPS)]
    tiny.assert_equal_state(tiny.final_state(stage), whole[0])


def test_a_checkpoint_holds_every_part(tmp_path):
    trainer = Toy()
    parts = trainer.checkpoint_parts()
    trainer.train_step(tf.ones((BATCH,)))
    kept = [variable.numpy() for variable in checkpoint._variables(parts).values()]
    assert checkpoint.save_checkpoint(tmp_path, parts, {"step": 7}) == tmp_path / name(7)
    trainer.train_step(tf.ones((BATCH,)))
    changed = [
        not np.array_equal(variable.numpy(), value)
        for variable, value in zip(checkpoint._variables(parts).values(), kept, strict=True)
    ]
    assert sum(changed) == 5  # the weight, Adam's two moments and its counter, the random state
    assert checkpoint.restore_checkpoint(tmp_path, parts) == {"step": 7}
    for variable, value in zip(checkpoint._variables(parts).values(), kept, strict=True):
        assert variable.numpy().tobytes() == value.tobytes()
    assert checkpoint.restore_checkpoint(tmp_path / "none", parts) == {}


# Precision and seeds.


@pytest.mark.parametrize(
    "flags, policy",
    [
        ("flags: fma avx512f avx512_bf16", "mixed_bfloat16"),
        ("flags: amx_bf16", "mixed_bfloat16"),
        ("flags: fma avx2 avx512f", "float32"),
        (None, "float32"),
    ],
)
def test_the_compute_type_follows_the_processor(monkeypatch, flags, policy):
    def read_text(path):
        assert path == Path("/proc/cpuinfo")
        if flags is None:
            raise FileNotFoundError
        return flags

    monkeypatch.setattr(Path, "read_text", read_text)
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: [])
    assert precision.compute_policy(config(precision="auto")) == policy


@pytest.mark.parametrize("capability, policy", [((8, 0), "mixed_bfloat16"), ((7, 5), "float32")])
def test_the_compute_type_follows_the_gpu(monkeypatch, capability, policy):
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: ["GPU:0"])
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details", lambda gpu: {"compute_capability": capability}
    )
    assert precision.compute_policy(config(precision="auto")) == policy


def test_the_compute_type_can_be_forced(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda path: "avx512_bf16")
    assert precision.compute_policy(config(precision="float32")) == "float32"
    assert precision.compute_policy(config(precision="mixed_bfloat16")) == "mixed_bfloat16"


def test_seeds_make_equal_initial_weights():
    def draw(seed):
        precision.seed_everything(dataclasses.replace(config(), seed=seed))
        return keras.layers.Dense(4), np.random.random()

    weights = []
    for seed in (1, 1, 2):
        layer, number = draw(seed)
        layer.build((None, 3))
        weights.append((layer.kernel.numpy(), number))
    assert np.array_equal(weights[0][0], weights[1][0]) and weights[0][1] == weights[1][1]
    assert not np.array_equal(weights[0][0], weights[2][0]) and weights[0][1] != weights[2][1]


@pytest.mark.parametrize("wanted", [True, False])
def test_graphs_are_kept_deterministic_where_that_is_asked_for(monkeypatch, wanted):
    asked = []
    monkeypatch.setattr(
        tf.config.experimental, "enable_op_determinism", lambda: asked.append("kernels")
    )
    monkeypatch.setattr(tf.config.optimizer, "set_experimental_options", asked.append)
    precision.seed_everything(config(deterministic=wanted))
    assert asked == (["kernels", {"disable_meta_optimizer": True}] if wanted else [])


def test_progress_is_said_once_in_a_while(stage, monkeypatch):
    monkeypatch.setattr(loop, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(loop, "TICKS", 4)
    said = []
    train(stage, said=said)
    assert [line.split()[1] for line in said] == ["0.1/0.4", "0.2/0.4", "0.3/0.4", "0.4/0.4"]
