"""cgan_tf.training.loop: statistics, snapshots; stopped in many ways and resumed."""

import errno
import gc
import json
import math
import os
import signal
import weakref

import numpy as np
import pytest
import tensorflow as tf
import tiny
from toy import Toy, batches
from toy_training import EVERY_STEP, STEPS, checkpoints, message, name, train

from cgan_tf.core.errors import Interrupted, UserError
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.training import cluster, cpu_kernels, loop, progress

# The loop.


def test_it_trains_on_the_requested_number_of_images(stage):
    lines, requested = [], []

    def make_batches(seen):
        requested.append(seen)
        return batches(seen)

    trainer = train(stage, steps=STEPS - 0.5, make_batches=make_batches, lines=lines)
    assert int(trainer.optimizer.iterations) == STEPS and requested == [0]  # rounded up
    assert checkpoints(stage) == [name(STEPS)]
    assert len(lines) == 1 and lines[0].startswith("gan: 0.4/0.395 kimg  ")
    assert "0.0 min left  first 39  second 40" in lines[0]


class Phased(Toy):
    """Phases of 10, 5 and 25 steps; records where each one begins."""

    def __init__(self):
        super().__init__()
        self.begun = []

    def phases(self, kimg, batch_size):
        return [10, 5, 25]

    def begin_phase(self, index, fresh):
        self.begun.append((index, fresh))


def test_phases_follow_each_other_and_resume(stage, reference, tmp_path, monkeypatch):
    trainer = train(stage, Phased())
    assert trainer.begun == [(0, True), (1, True), (2, True)]
    tiny.assert_equal_state(tiny.final_state(stage), reference[0])
    # Killed after 12 steps, in the second phase, and after 15, at its end.
    for step, begun in ((12, [(1, False), (2, True)]), (15, [(2, True)])):
        resumed = RunFolder(tmp_path / f"killed{step}").stage("gan")
        resumed.path.mkdir(parents=True)
        with monkeypatch.context() as patch, pytest.raises(tiny.Killed):
            tiny.interrupt(patch, checkpoint=step, kill=step + 2)
            train(resumed, Phased(), options=EVERY_STEP)
        trainer = train(resumed, Phased())
        assert trainer.begun == begun
        tiny.assert_equal_state(tiny.final_state(resumed), reference[0])


def test_the_phase_of_a_step():
    phases = [loop.phase_of([4, 2, 3], step) for step in range(9)]
    assert phases == [(0, 0, 4)] * 4 + [(1, 4, 6)] * 2 + [(2, 6, 9)] * 3
    with pytest.raises(ValueError, match="no step 9"):
        loop.phase_of([4, 2, 3], 9)


class Varied(Toy):
    """Every third step is a variant; counts how often each is traced."""

    def __init__(self):
        super().__init__()
        self.traced = []

    def variant(self, step):
        return ("penalized" if step % 3 == 0 else "plain",)

    def train_step(self, data, kind):
        self.traced.append(kind)
        return super().train_step(data) | {"penalized": tf.constant(float(kind == "penalized"))}


def test_each_variant_of_a_step_is_traced_once_and_chosen_by_the_step(stage, monkeypatch):
    monkeypatch.setattr(progress, "TICKS", 100)  # of 1 step
    trainer = train(stage, Varied(), steps=8)
    assert trainer.traced == ["penalized", "plain"]
    expected = [1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0]
    assert [line["penalized"] for line in stage.read_stats()] == expected


class Convolved(Toy):
    """Its step contains custom gradients; `graph` refers to its graph."""

    def __init__(self):
        super().__init__()
        self.kernel = self.add_weight(shape=(4, 4, 1, 1), name="kernel")

    def train_step(self, data):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(cpu_kernels.convolve(tf.ones((1, 8, 8, 1)), self.kernel))
        self.kernel.assign_sub(tape.gradient(loss, self.kernel))
        self.graph = weakref.ref(tf.compat.v1.get_default_graph())
        return super().train_step(data)


def test_nothing_keeps_the_graph_after_the_training(stage):
    trainer = train(stage, Convolved(), steps=2)
    gc.collect()
    assert trainer.graph() is None


# Several steps in one call.


def counts(monkeypatch):
    """The number of steps in each call of the training, as they happen."""
    found, call = [], loop.CompiledSteps.__call__

    def counting(self, step, limit):
        count, losses = call(self, step, limit)
        found.append(count)
        return count, losses

    monkeypatch.setattr(loop.CompiledSteps, "__call__", counting)
    return found


def test_several_steps_in_a_call_give_the_same_weights_and_statistics(
    stage, reference, monkeypatch
):
    monkeypatch.setattr(progress, "TICKS", 5)  # of 8 steps
    found = counts(monkeypatch)
    train(stage, options={"steps_per_call": 5})
    assert found == [5, 3] * 5
    tiny.assert_equal_state(tiny.final_state(stage), reference[0])
    lines = stage.read_stats()
    assert [line["kimg"] for line in lines] == [0.08, 0.16, 0.24, 0.32, 0.4]
    assert [line["first"] for line in lines] == [3.5, 11.5, 19.5, 27.5, 35.5]


def test_a_call_ends_where_the_variant_changes_a_phase_ends_or_a_snapshot_is_due(
    stage, monkeypatch
):
    monkeypatch.setattr(progress, "TICKS", 1)
    found, seen = counts(monkeypatch), []
    train(stage, Varied(), steps=8, options={"steps_per_call": 4})
    assert found == [1, 2, 1, 2, 1, 1]
    found.clear()
    folder = RunFolder(stage.path / "phased").stage("gan")
    folder.path.mkdir(parents=True)
    options = {"steps_per_call": 100}
    train(folder, Phased(), snapshot=seen.append, snapshot_kimg=0.12, options=options)
    assert found == [10, 2, 3, 9, 12, 4] and seen == [0, 120, 240, 360, 400]


@pytest.mark.parametrize("checkpoint, other", [(16, 4), (12, 7)])
def test_a_run_killed_between_calls_of_several_steps_ends_with_the_same_weights(
    stage, reference, monkeypatch, checkpoint, other
):
    monkeypatch.setattr(progress, "TICKS", 1)
    with monkeypatch.context() as patch, pytest.raises(tiny.Killed):
        tiny.interrupt(patch, checkpoint=checkpoint, kill=20)
        train(stage, options=EVERY_STEP | {"steps_per_call": 4})
    assert checkpoints(stage) == [name(checkpoint)]
    train(stage, options={"steps_per_call": other})
    tiny.assert_equal_state(tiny.final_state(stage), reference[0])


def test_a_loss_that_was_not_finite_within_a_tick_is_named_and_not_saved(stage, monkeypatch):
    monkeypatch.setattr(progress, "TICKS", 1)
    tiny.interrupt(monkeypatch, checkpoint=20, kill=99)
    # The loss alone is NaN, in one of the steps of the call after the checkpoint.
    with pytest.raises(UserError) as caught:
        train(stage, Toy(nan_at=22), options=EVERY_STEP | {"steps_per_call": 4})
    assert message(caught).startswith("gan: first is nan at 0.24 kimg; the last checkpoint is kept")
    assert checkpoints(stage) == [name(20)]


class Recorder:
    """A writer that records what it gets."""

    def __init__(self, seen):
        self.calls = [("start", seen)]

    def scalars(self, step, values):
        self.calls.append((step, sorted(values)))

    def image(self, step, name, image):
        self.calls.append((step, name, image.shape))

    def close(self):
        self.calls.append("close")


def test_a_writer_gets_the_scalars_and_the_snapshots(stage, monkeypatch):
    monkeypatch.setattr(progress, "TICKS", 2)
    writers = []

    def make_writer(seen):
        writers.append(Recorder(seen))
        return writers[-1]

    def snapshot(seen):
        return loop.Snapshot("grid", np.zeros((4, 4, 3), np.uint8), "failed" if seen > 99 else None)

    with pytest.raises(UserError, match="gan: failed at 0.10 kimg; "):
        train(
            stage,
            steps=12,
            snapshot=snapshot,
            snapshot_kimg=0.05,
            writer=make_writer,
            options=EVERY_STEP,
        )
    names = ["first", "images_per_second", "second"]
    grid = ("grid", (4, 4, 3))
    assert writers[0].calls == [
        ("start", 0),
        (0, *grid),
        (50, *grid),
        (60, names),
        (100, *grid),
        "close",
    ]
    train(stage, steps=12, writer=make_writer)
    assert writers[1].calls == [("start", 90), (120, names), "close"]


def test_a_line_of_statistics_contains_the_means_of_its_tick(stage, monkeypatch):
    monkeypatch.setattr(progress, "TICKS", 8)  # of 5 steps
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
    monkeypatch.setattr(progress, "TICKS", 8)  # 5 steps, unless the period is 4
    monkeypatch.setattr(Toy, "period", 4)
    train(stage, steps=42)
    expected = [0.04, 0.08, 0.12, 0.16, 0.2, 0.24, 0.28, 0.32, 0.36, 0.4, 0.42]
    assert [line["kimg"] for line in stage.read_stats()] == expected
    assert [line["first"] for line in stage.read_stats()][:2] == [1.5, 5.5]


def test_snapshots_are_taken_at_the_start_by_images_seen_and_at_the_end(stage):
    seen = []
    train(stage, steps=25, snapshot=seen.append, snapshot_kimg=0.1)
    assert seen == [0, 100, 200, 250]
    seen.clear()
    train(stage, steps=35, snapshot=seen.append, snapshot_kimg=0.1)  # resumes at 25
    assert seen == [300, 350]


def test_a_snapshot_interval_longer_than_the_training(stage):
    seen = []
    train(stage, steps=5, snapshot=seen.append, snapshot_kimg=9.0)
    assert seen == [0, 50]


def test_a_finished_training_does_nothing(stage):
    train(stage)
    before = tiny.snapshot(stage.checkpoints)
    lines = []
    trainer = train(stage, lines=lines, make_batches=None)
    assert int(trainer.optimizer.iterations) == STEPS
    assert lines == ["gan: resuming at 0.4 of 0.4 kimg"]
    assert tiny.snapshot(stage.checkpoints) == before and len(stage.read_stats()) == STEPS


def test_checkpoints_are_written_by_the_clock_and_the_newest_two_are_kept(stage):
    train(stage, options=EVERY_STEP)
    assert checkpoints(stage) == [name(STEPS - 1), name(STEPS)]
    with np.load(stage.checkpoints / name(STEPS)) as arrays:
        facts = json.loads(arrays["facts"].tobytes())
    assert facts["step"] == STEPS
    assert facts["seconds"] == pytest.approx(stage.read_stats()[-1]["seconds"], abs=0.5)


def test_the_weights_depend_on_the_seed(reference, tmp_path):
    results = []
    for index, seed in enumerate((0, 1)):
        folder = RunFolder(tmp_path / str(index)).stage("gan")
        folder.path.mkdir(parents=True)
        results.append(train(folder, Toy(seed=seed)).weight.numpy())
    assert results[0].tobytes() == reference[1].tobytes()
    assert not np.array_equal(*results)


# Stopped and resumed.


def test_a_killed_run_ends_with_the_same_weights(stage, reference, monkeypatch):
    monkeypatch.setattr(progress, "TICKS", 8)
    with monkeypatch.context() as patch, pytest.raises(tiny.Killed):
        tiny.interrupt(patch, checkpoint=17, kill=23)
        train(stage, options=EVERY_STEP)
    assert checkpoints(stage) == [name(17)]
    assert [line["kimg"] for line in stage.read_stats()] == [0.05, 0.1, 0.15, 0.2]
    lines = []
    train(stage, lines=lines)
    tiny.assert_equal_state(tiny.final_state(stage), reference[0])
    assert lines[0] == "gan: resuming at 0.2 of 0.4 kimg"
    # The line after the checkpoint was removed and written again.
    assert [line["kimg"] for line in stage.read_stats()] == [
        0.05,
        0.1,
        0.15,
        0.2,
        0.25,
        0.3,
        0.35,
        0.4,
    ]
    assert stage.read_stats()[3]["second"] == 19.0  # the mean of the steps since the checkpoint
    seconds = [line["seconds"] for line in stage.read_stats()]
    assert seconds == sorted(seconds)


def test_killed_before_the_first_checkpoint(stage, reference, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(tiny.Killed):
        tiny.interrupt(patch, checkpoint=99, kill=9)
        train(stage, options=EVERY_STEP)
    assert not stage.checkpoints.exists() and len(stage.read_stats()) == 9
    lines = []
    train(stage, lines=lines)
    tiny.assert_equal_state(tiny.final_state(stage), reference[0])
    assert len(lines) == 1 and len(stage.read_stats()) == STEPS


def test_killed_several_times(stage, reference):
    for kill in (3, 4, 11, 30):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(tiny.Killed):
            tiny.interrupt(patch, checkpoint=kill - 1, kill=kill)
            train(stage, options=EVERY_STEP)
    train(stage)
    tiny.assert_equal_state(tiny.final_state(stage), reference[0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_ends_and_the_training_resumes(stage, reference, number):
    handlers = [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]

    def send(images):
        if images == 90:
            os.kill(os.getpid(), number)

    with pytest.raises(Interrupted) as caught:
        train(stage, snapshot=send, snapshot_kimg=0.03)
    assert caught.value.signum == number
    assert message(caught) == (
        f"{number.name}: saved {name(9)} at 0.1 kimg; the same command resumes"
    )
    assert checkpoints(stage) == [name(9)]
    assert [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)] == handlers
    train(stage)
    tiny.assert_equal_state(tiny.final_state(stage), reference[0])


def test_a_loss_that_is_not_finite_stops_the_training(stage, monkeypatch):
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
    # The loss of that step was finite.
    with pytest.raises(UserError) as caught:
        train(stage, Toy(nan_weight_at=step), options=EVERY_STEP)
    assert message(caught) == (
        f"gan: a weight is not finite at {step / 100:.2f} kimg; the last checkpoint is kept; lower "
        "--toy_lr, with --restart"
    )
    assert checkpoints(stage) == kept


class FakeCluster:
    """Another worker of a chief that has failed: it gets the chief's flags and text."""

    def __init__(self, patch, fail_at):
        self.calls, self.fail_at = 0, fail_at
        patch.setattr(cluster, "any_worker", self.any_worker)
        patch.setattr(cluster, "from_chief", lambda text: "the chief's message")
        patch.setattr(cluster, "on_chief", lambda work: {})
        patch.setattr(loop.replicas, "is_chief", lambda: False)

    def any_worker(self, *flags):
        self.calls += 1
        return [flags[0], self.calls == self.fail_at]


def test_a_worker_stops_at_the_step_and_with_the_message_of_the_chief(stage, monkeypatch):
    fake = FakeCluster(monkeypatch, fail_at=7)
    trainer, lines = Toy(), []
    with pytest.raises(UserError, match="^the chief's message$"):
        train(
            stage,
            trainer,
            lines=lines,
            snapshot=lambda seen: pytest.fail("the chief's work"),
            options=EVERY_STEP,
        )
    assert int(trainer.optimizer.iterations) == fake.calls == 7
    assert not lines and not stage.checkpoints.exists() and stage.read_stats() == []


def test_a_full_disk_keeps_the_last_checkpoint(stage, reference, monkeypatch):
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
    tiny.assert_equal_state(tiny.final_state(stage), reference[0])


def test_progress_is_reported_from_time_to_time(stage, monkeypatch):
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(progress, "TICKS", 4)
    lines = []
    train(stage, lines=lines)
    assert [line.split()[1] for line in lines] == ["0.1/0.4", "0.2/0.4", "0.3/0.4", "0.4/0.4"]
