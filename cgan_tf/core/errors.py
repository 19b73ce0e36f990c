"""The exceptions that end a command early, without a traceback."""

import signal


class UserError(Exception):
    """A mistake that the user can correct. The message is one line: flag, value, remedy."""


class Interrupted(Exception):
    """SIGINT or SIGTERM was received and the work is saved; the exit code is 128 + signum."""

    def __init__(self, signum: int, saved: str) -> None:
        self.signum = signum
        super().__init__(f"{signal.Signals(signum).name}: {saved}")
