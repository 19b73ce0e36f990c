"""The two ways in which a command ends early, both without a traceback."""

import signal


class UserError(Exception):
    """A mistake that the user can mend. The message is one line: flag, value, remedy."""


class Interrupted(Exception):
    """SIGINT or SIGTERM arrived and the work has been saved; the exit code is 128 + signum."""

    def __init__(self, signum: int, saved: str) -> None:
        self.signum = signum
        super().__init__(f"{signal.Signals(signum).name}: {saved}")
