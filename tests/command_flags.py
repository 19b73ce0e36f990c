"""Several commands of the package in one process, each with the flags that it defines itself."""

from collections.abc import Callable

from absl import flags

_DEFINED: list[str] = []


def parse(define_flags: Callable[[], None], arguments: list[str]) -> None:
    """Gives absl the command's flags in the place of the last one's, and parses its arguments."""
    values = flags.FLAGS
    values.remove_flag_values(_DEFINED)
    before = set(values)
    define_flags()
    _DEFINED[:] = set(values) - before
    values.unparse_flags()
    values(["command", *arguments])
