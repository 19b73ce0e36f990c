"""The exceptions that end a command early, without a traceback, and what their messages quote."""

import signal


class UserError(Exception):
    """A mistake that the user can correct. The message is one line: flag, value, remedy."""


class Interrupted(Exception):
    """SIGINT or SIGTERM was received and the work is saved; the exit code is 128 + signum."""

    def __init__(self, signum: int, saved: str) -> None:
        self.signum = signum
        super().__init__(f"{signal.Signals(signum).name}: {saved}")


def first_line(error: Exception) -> str:
    """The first line of a library's message, cut to a length that fits one line."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:120]


def count_of(number: int, word: str) -> str:
    """`1 face`, `2 faces`."""
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"
