"""cgan_tf.stages.speed: measured rates, and the batch that pays, by a simulated clock."""

import types

import pytest
import tensorflow as tf
import tiny

from cgan_tf.stages import speed


class Clock:
    """A clock that only the steps advance."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(speed.time, "perf_counter", lambda: self.now)


class Trainer:
    """Every fourth step is penalized."""

    period = 4

    def variant(self, step):
        return (step % 4 == 0,)


@pytest.fixture
def clock(monkeypatch):
    """Steps of 2 s, and of 6 s if they are penalized; compiling takes 100 s."""
    clock = Clock(monkeypatch)

    class CompiledSteps:
        def __init__(self, trainer, feed, jit=False):
            self.trainer, self.compiled = trainer, set()

        def __call__(self, step, limit=1):
            variant = self.trainer.variant(step)
            clock.now += 0 if variant in self.compiled else 100
            self.compiled.add(variant)
            clock.now += limit * (6 if variant[0] else 2)
            return limit, {"loss": 0.5}

    monkeypatch.setattr(speed.loop, "CompiledSteps", CompiledSteps)
    return clock


@pytest.mark.parametrize("seconds", [0.0, 40.0])
@pytest.mark.parametrize("steps_per_call", [1, 3])
def test_each_variant_counts_as_often_as_it_occurs(clock, seconds, steps_per_call):
    options = types.SimpleNamespace(steps_per_call=steps_per_call, jit="false")
    assert speed.seconds_per_step(Trainer(), None, options, seconds) == (3 * 2 + 6) / 4
    # Each graph was compiled, and run for its share of the time.
    shares = [max(2 * steps_per_call, 0.75 * seconds), max(6 * steps_per_call, 0.25 * seconds)]
    assert clock.now == pytest.approx(200 + 8 * steps_per_call + sum(shares), abs=12)


def test_rare_variants_are_left_out_if_there_is_no_time(clock):
    options = types.SimpleNamespace(steps_per_call=1, jit="false")
    assert speed.seconds_per_step(Trainer(), None, options, 0.0, budget=50.0) == 2
    assert clock.now == 104


def largest(monkeypatch, rates, start=64, limit=1024):
    """`largest_batch` where each batch size has a rate, or an error."""
    tried = []

    def images_per_second(config, batch, seconds):
        tried.append(batch)
        rate = rates[batch]
        if isinstance(rate, Exception):
            raise rate
        return rate

    monkeypatch.setattr(speed, "images_per_second", images_per_second)
    # It collects garbage, which takes longest where many tests have run.
    monkeypatch.setattr(speed.keras.backend, "clear_session", lambda: None)
    options = tiny.make_config("cache", gan_batch_size=start)
    lines = []
    return speed.largest_batch(options, limit, lines.append), tried, lines


OOM = tf.errors.ResourceExhaustedError(None, None, "OOM")


@pytest.mark.parametrize(
    "rates, limit, best, tried",
    [
        ({64: 100.0, 128: 114.0}, 1024, 64, [64, 128]),
        ({64: 100.0, 128: 115.0, 256: 120.0}, 1024, 128, [64, 128, 256]),
        ({64: 100.0, 128: 190.0, 256: OOM}, 1024, 128, [64, 128, 256]),
        ({64: 100.0, 128: 190.0}, 255, 128, [64, 128]),
        ({64: 100.0}, 50, 64, [64]),  # the default is kept even if there are fewer photos
        (
            {64: 1.0, 128: 2.0, 256: 4.0, 512: 8.0, 1024: 16.0},
            1024,
            1024,
            [64, 128, 256, 512, 1024],
        ),
    ],
    ids=["does not pay", "pays once", "memory", "photos", "few photos", "limit"],
)
def test_the_largest_batch_that_pays(monkeypatch, rates, limit, best, tried):
    found, tries, lines = largest(monkeypatch, rates, limit=limit)
    assert (found, tries) == (best, tried)
    assert len(lines) == len(tried) + 1 and lines[-1] == f"gan_batch_size: auto takes {best}"
    assert ("does not fit" in lines[-2]) is (OOM in rates.values())


def test_errors_other_than_memory_are_raised(monkeypatch):
    with pytest.raises(ValueError):
        largest(monkeypatch, {64: 1.0, 128: ValueError("a bug")})
    with pytest.raises(tf.errors.ResourceExhaustedError):  # not even the first fits
        largest(monkeypatch, {64: OOM})


def test_costs_are_measured_within_the_budget_and_estimated_after_it(monkeypatch):
    clock = Clock(monkeypatch)

    def steps(config, seconds, budget):
        for stage in ("gan", "regressor"):
            clock.now += 4.0
            yield {"gan": 0.1, "regressor": 0.3}[stage]

    monkeypatch.setattr(speed, "_steps", steps)
    options = tiny.make_config("cache", inversion_kimg=2.0)
    found = speed.costs(options, 1.0, 7.0)
    assert {stage: cost.measured for stage, cost in found.items()} == {
        "gan": True,
        "regressor": True,
        "inversion": False,
        "features": False,
        "directions": False,
        "evaluate": False,
    }
    assert found["regressor"] == (0.3, 32.0, True)
    ratio = speed.REFERENCE_COST["inversion"] / speed.REFERENCE_COST["regressor"]
    assert found["inversion"].seconds == pytest.approx(0.3 * ratio, rel=1e-9)
    assert found["inversion"].hours == pytest.approx(0.3 * ratio * 2000 / 3600, rel=1e-9)


@pytest.mark.slow
def test_every_stage_can_be_measured(slim_vgg, tmp_path):
    options = tiny.make_config(tmp_path, jit="false", steps_per_call=1, gan_penalty="none")
    found = speed.costs(options, 0.0, 600.0)
    assert list(found) == ["gan", "regressor", "inversion", "features", "directions", "evaluate"]
    assert all(cost.measured and 0 < cost.seconds < 10 for cost in found.values())
    assert speed.images_per_second(options, 4, 0.0) > 0
