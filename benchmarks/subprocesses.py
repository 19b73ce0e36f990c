"""Measurements in separate processes, so that no library's threads or memory disturb another's."""

import concurrent.futures
import multiprocessing
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

_SPAWN = multiprocessing.get_context("spawn")  # a forked process would begin with this one's memory


def run(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function of a module in a new process and returns its result."""
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=_SPAWN) as executor:
        return executor.submit(function, *arguments).result()


class Subject:
    """A process that sets something up once, waits, and times it whenever it is told to.

    Attributes:
        failure: why the subject cannot be timed, or None.
        facts: what `make` returned about the subject.

    Args:
        make: a function of a module; returns the call to time, already warmed up, and facts.
        arguments: of `make`.
        seconds: approximate length of one turn.
        least: minimum number of calls in one turn.
        timeout: seconds that `make` may take; None for no limit.
    """

    def __init__(
        self,
        make: Callable[..., tuple[Callable[[], Any], dict[str, Any]]],
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
        answer = self._pipe.recv()
        if isinstance(answer, str):
            self.failure = answer
            return
        self.facts = answer
        self._count = 1
        self._count = max(least, round(seconds / statistics.median(self.turn())))

    def turn(self) -> list[float]:
        """Times one turn; returns the seconds of each call."""
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
        call, facts = make(*arguments)
    except Exception as error:  # a missing package, compiler or hardware feature
        reason = (str(error).strip() or "-").splitlines()[0][:120]
        pipe.send(f"{type(error).__name__}: {reason}")
        return
    pipe.send(facts)
    while count := pipe.recv():
        seconds = []
        for _ in range(count):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
        pipe.send(seconds)
