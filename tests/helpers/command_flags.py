"""Runs several commands of the package in one process, each with only its own flags."""

import contextlib
import importlib
import types
from collections.abc import Callable, Iterator

from absl import flags

from cgan_tf import __main__


def run(define_flags: Callable[[], None], main: Callable[[], int], arguments: list[str]) -> int:
    """Calls a command's `main` with its flags and returns the exit code; errors are raised."""
    with no_flags() as values:
        define_flags()
        values(["command", *arguments])
        return main()


def run_line(verb: str, *arguments: str) -> int:
    """Runs `cgan VERB arguments` and returns the exit code; errors are printed."""
    with no_flags():
        try:
            __main__.main([verb, *arguments])
        except SystemExit as exit:
            return exit.code
    raise AssertionError("a command always exits")


def benchmark(name: str) -> types.ModuleType:
    """The module `benchmarks.NAME`, whose flags may have the names of another benchmark's."""
    with no_flags():
        return importlib.import_module(f"benchmarks.{name}")


@contextlib.contextmanager
def no_flags() -> Iterator[flags.FlagValues]:
    """Removes the flags of other commands meanwhile."""
    values = flags.FLAGS
    others = _remove_flags(values)
    try:
        yield values
    finally:
        _remove_flags(values)
        for module, flag in others:
            values[flag.name] = flag
            values.register_flag_by_module(module, flag)


def _remove_flags(values: flags.FlagValues) -> list[tuple[str, flags.Flag]]:
    """Removes all flags except absl's; returns each with its module."""
    found = [
        (module, flag)
        for module, defined in values.flags_by_module_dict().items()
        if not module.startswith("absl.")
        for flag in defined
    ]
    values.remove_flag_values([flag.name for _, flag in found])
    return found
