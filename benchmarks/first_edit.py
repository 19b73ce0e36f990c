"""From the command `cgan page` to changed pixels: the seconds until someone sees a first edit.

    python -m benchmarks.first_edit --model=NAME|RUN_DIR|FILE.tflite

Starts the command, a headless Chromium and the page, and moves the first slider to +1 on the page's
example. Chromium's own start is part of the time. Needs Chromium, the extra `test` for playwright,
and a model whose page has an example.
"""

import signal
import subprocess
import sys
import time

from absl import flags

from benchmarks.browser import open_address
from cgan_tf.core import cli
from cgan_tf.core.errors import UserError

_PIXELS = "document.getElementById('after').toDataURL()"


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("model", None, "As of cgan page.")


def measure(model: str) -> dict[str, float]:
    """Seconds from the start of the command until each of its results.

    Raises:
        UserError: the command or the page fails, or the pixels do not change.
    """
    start = time.perf_counter()
    seconds = {}

    def note(what: str) -> None:
        seconds[what] = time.perf_counter() - start

    command = [sys.executable, "-m", "cgan_tf", "page", f"--model={model}", "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()  # the page is at URL (...)
        if not line:
            raise UserError(f"--model={model}: cgan page has failed")
        note("page served")
        try:
            with open_address(line.split()[4]) as page:
                note("model loaded")
                page.evaluate("editor.idle()")
                before = page.evaluate(_PIXELS)
                note("example shown")
                page.evaluate("editor.ready.then(({attributes: [a]}) => editor.move(a, 1))")
                if page.evaluate(_PIXELS) == before:
                    raise UserError(f"--model={model}: the slider changed no pixel of an example")
                note("pixels changed")
        finally:
            process.send_signal(signal.SIGINT)
    return seconds


def main() -> int:
    """Runs the command; returns the exit code."""
    cli.require("model")
    for what, seconds in measure(flags.FLAGS.model).items():
        print(f"{what:15} {seconds:5.1f} s")
    return 0


if __name__ == "__main__":
    define_flags()
    cli.run(main)
