"""benchmarks.loop: the real loop's time is separated from that of the bare steps."""

import signal

import pytest

from benchmarks import loop
from benchmarks.loop import Turn
from cgan_tf.core.errors import UserError


class Steps:
    """Counts the calls, each of `steps` steps."""

    steps = 4

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1

    def finish(self):
        pass


def test_pauses_and_warm_ticks_do_not_count():
    turns = [Turn(100 * n, paused=3.0, bare=1.0) for n in (1, 2)]  # the warm ones
    turns += [Turn(300, paused=5.0, bare=1.5), Turn(400, paused=7.0, bare=2.5)]
    # Ticks of 50, 40, 2 and 4 seconds, and the pause before each.
    stats = [{"seconds": 50.0}, {"seconds": 93.0}, {"seconds": 98.0}, {"seconds": 107.0}]
    found = loop.summarize(stats, turns)
    assert found["images"] == 200 and found["ticks"] == 2
    assert found["real_images_per_second"] == pytest.approx(200 / 6)
    assert found["bare_images_per_second"] == pytest.approx(200 / (1.25 + 2.0))
    assert found["ratio"] == pytest.approx(3.25 / 6)
    assert found["median_ratio_of_ticks"] == pytest.approx((1.25 / 2 + 2.0 / 4) / 2)


def test_too_few_ticks_are_refused():
    with pytest.raises(UserError, match="only 2 ticks"):
        loop.summarize([{"seconds": 1.0}] * 2, [Turn(1, 0.0, 1.0)] * 2)


def test_each_tick_is_followed_by_as_many_bare_steps(monkeypatch):
    sent = []
    monkeypatch.setattr(signal, "raise_signal", sent.append)
    steps = Steps()
    alternation = loop.Alternation(steps, reals=10, images=150)
    calls = []
    for seen in (120, 240, 360):
        before = steps.calls
        alternation.scalars(seen, {})
        alternation.image(seen, "fakes", None)
        calls.append(steps.calls - before)
    assert calls == [4, 4, 4]  # 12 steps, and one call that is not timed
    assert sent == [] and alternation.snapshots == 2
    alternation.scalars(480, {})
    assert sent == [signal.SIGTERM]
    assert [turn.seen for turn in alternation.turns] == [120, 240, 360, 480]
    assert all(turn.paused >= turn.bare > 0 for turn in alternation.turns)
