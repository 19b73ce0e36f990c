"""Runs several commands of the package in one process, each with no flags but its own."""

from collections.abc import Callable

from absl import flags


def run(define_flags: Callable[[], None], main: Callable[[], int], arguments: list[str]) -> int:
    """A command's exit code; the flags of other commands are away meanwhile."""
    values = flags.FLAGS
    others = _take_away(values)
    try:
        define_flags()
        values(["command", *arguments])
        return main()
    finally:
        _take_away(values)
        for module, flag in others:
            values[flag.name] = flag
            values.register_flag_by_module(module, flag)


def _take_away(values: flags.FlagValues) -> list[tuple[str, flags.Flag]]:
    """Removes all flags but absl's; gives each with its module."""
    found = [
        (module, flag)
        for module, defined in values.flags_by_module_dict().items()
        if not module.startswith("absl.")
        for flag in defined
    ]
    values.remove_flag_values([flag.name for _, flag in found])
    return found
