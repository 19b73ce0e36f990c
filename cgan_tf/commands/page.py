"""Makes the device page of a model, the editor in a browser, and serves it on this machine.

    cgan page --model=runs/faces [--port=8080] [--output=DIR] [--open]

Until a photo is chosen, the page edits an example, if the model's folder has a face.png. No photo
leaves the browser. With --output the page is also written as a folder, which any web server can
serve. Ctrl-C ends the command.
"""

import contextlib
import os
import sys
import webbrowser
from collections.abc import Mapping
from pathlib import Path

from absl import flags

from cgan_tf.commands.flag_errors import flag_errors
from cgan_tf.core import cli
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import expand
from cgan_tf.core.folders import replacing_folder
from cgan_tf.export import browser, device_files
from cgan_tf.export.page_server import PageServer


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string(
        "model",
        None,
        "run folder with an exported .tflite file, folder of an export, .tflite file, or name",
    )
    flags.DEFINE_integer(
        "port", 8080, "TCP port; 0 for any free one", lower_bound=0, upper_bound=65535
    )
    flags.DEFINE_string("output", None, "folder to write the page to, too")
    flags.DEFINE_bool("open", False, "open the page in the default browser")


def main() -> int:
    """Runs the command; returns the exit code."""
    options = flags.FLAGS
    cli.require("model")
    with flag_errors():
        content = device_files.page_files(device_files.find(options.model))
    with PageServer(content, options.port) as server:
        if options.output:
            output = expand(options.output, "--output")
            try:
                write(content, output)
            except OSError as error:
                reason = f"{error.strerror}; choose another folder"
                raise UserError(f"--output={output}: {reason}") from None
            print(f"written: {output}")
        print(f"the page is at {server.url} (Ctrl-C ends)", flush=True)
        if options.open:
            open_browser(server.url)
        server.run()
    return 0


def write(content: Mapping[str, bytes], output: Path) -> None:
    """Writes a page's files, completely or not at all; an equal page is left as it is.

    Raises:
        UserError: `output` is a file, contains something else, cannot be written, or another
            process is writing to it.
    """
    if output.exists() and not output.is_dir():
        raise UserError(f"--output={output}: is a file; give a folder")
    if output.exists() and any(output.iterdir()):
        if not _contains(output, content):
            reason = "contains another page or other files; choose another folder"
            raise UserError(f"--output={output}: {reason}")
        return
    target = output.resolve()  # of a link, and of the folder "."
    cli.require_writable(f"--output={output}", target.parent)
    with replacing_folder(target, f"--output={output}") as new:
        browser.write(content, new)


def open_browser(url: str) -> None:
    """Opens the default browser, where there is a display: others would take the terminal."""
    desktop = sys.platform in ("darwin", "win32")
    if desktop or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        with contextlib.suppress(webbrowser.Error):
            webbrowser.open(url)


def _contains(folder: Path, content: Mapping[str, bytes]) -> bool:
    """Whether a folder contains exactly these files."""
    if {entry.name for entry in folder.iterdir()} != {name.split("/")[0] for name in content}:
        return False  # perhaps a large folder, whose files are not to be read
    paths = [path for path in folder.rglob("*") if path.is_file()]
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    return found == content
