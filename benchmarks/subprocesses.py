"""Measurements in separate processes, so that no library's threads or memory disturb another's."""

import concurrent.futures
import multiprocessing
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

_SPAWN = multiprocessing.get_context("spawn")  # a forked process would begin with this one's memory


def _nothing() -> None:
    pass


class Timed(NamedTuple):
    """What a subject times.

    Attributes:
        call: it is timed; already warmed up.
        facts: about the subject.
        finish: ends a turn, within its time: waits for a device that computes asynchronously.
    """

    call: Callable[[], Any]
    facts: dict[str, Any]
    finish: Callable[[], Any] = _nothing


def run(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function of a module in a new process and returns its result."""
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=_SPAWN) as executor:
        return executor.submit(function, *arguments).result()


class Subject:
    """A process that sets something up once, waits, and times it whenever it is told to.

    Attributes:
        failure: why the subject cannot be timed, or None.
        facts: those that `make` returned.

    Args:
        make: a function of a module.
        arguments: of `make`.
        seconds: approximate length of one turn.
        least: minimum number of calls in one turn.
        timeout: seconds that `make` may take; None for no limit.
    """

    def __init__(
        self,
        make: Callable[..., Timed],
        arguments: tuple,
        seconds: float,
        least: int = 1,
        timeout: float | None = None,
    ) -> None:
        self.facts: dict[str, Any] = {}
        self.failure: str | None = None
        self._pipe, other = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(other, make, arguments), daemon=True)
        self._process.start()
        other.close()
        if not self._pipe.poll(timeout):
            self.failure = f"not ready after {timeout:g} s"
            self.close()
            return
        try:
            answer = self._pipe.recv()
        except EOFError:  # a crash in a native library, or a process killed for its memory
            answer = "the process ended"
        if isinstance(answer, str):
            self.failure = answer
            return
        self.facts = answer
        self._count = 1
        self._count = max(least, round(seconds / statistics.median(self.turn())))

    def turn(self) -> list[float]:
        """Times one turn; returns the seconds of each call, the last one's with the finish."""
        self._pipe.send(self._count)
        return self._pipe.recv()

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.join()


def take_turns(subjects: dict[str, Subject], rounds: int) -> dict[str, list[list[float]]]:
    """Seconds by subject, turn and call; every other round goes through the subjects backwards."""
    turns: dict[str, list[list[float]]] = {name: [] for name in subjects}
    for number in range(rounds):
        for name in list(subjects) if number % 2 == 0 else list(reversed(subjects)):
            turns[name].append(subjects[name].turn())
    return turns


def _serve(pipe: Connection, make: Callable, arguments: tuple) -> None:
    """The subject's process: sends its facts, then the seconds of as many calls as requested."""
    try:
        timed = make(*arguments)
    except Exception as error:  # a missing package, compiler or hardware feature
        reason = (str(error).strip() or "-").splitlines()[0][:120]
        pipe.send(f"{type(error).__name__}: {reason}")
        return
    pipe.send(timed.facts)
    while count := pipe.recv():
        seconds = []
        for number in range(count):
            start = time.perf_counter()
            timed.call()
            if number == count - 1:
                timed.finish()
            seconds.append(time.perf_counter() - start)
        pipe.send(seconds)
