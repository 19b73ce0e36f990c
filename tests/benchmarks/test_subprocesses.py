"""benchmarks.subprocesses: what is timed in another process."""

import time

import pytest

from benchmarks import subprocesses

WAIT = 0.05  # s


def waiting():
    """A subject whose device needs a while at the end of each turn."""
    return subprocesses.Timed(lambda: None, {"weights": 3}, lambda: time.sleep(WAIT))


def failing():
    raise RuntimeError("no compiler\nfound")


@pytest.fixture
def start():
    subjects = []

    def start(make):
        subjects.append(subprocesses.Subject(make, (), seconds=0.0, least=4))
        return subjects[-1]

    yield start
    for subject in subjects:
        subject.close()


def test_a_turn_ends_when_the_device_has_finished(start):
    subject = start(waiting)
    assert subject.failure is None and subject.facts == {"weights": 3}
    for _ in range(2):
        seconds = subject.turn()
        assert len(seconds) == 4 and seconds[-1] >= WAIT


def test_a_subject_that_cannot_start_says_why(start):
    assert start(failing).failure == "RuntimeError: no compiler"
    assert start(exit).failure == "the process ended"
