"""Writes the device page: static files with which a browser edits photos on the user's device.

The page consists of the .tflite file, LiteRT.js, and the scripts in `page/`. Any web server can
serve the folder, for example `python -m http.server`; opened as a file it does not work, because
browsers do not let scripts read local files.

LiteRT.js is an npm package, pinned by content hash in `page/package-lock.json`. npm fetches it when
a page is written, from its cache or its registry, into a temporary folder.
"""

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_bytes, write_json, write_text
from cgan_tf.editing.description import CELEBA_CROP
from cgan_tf.export import face_rules

SOURCES = Path(__file__).parent / "page"
STATIC = (
    "index.html",
    "manifest.webmanifest",
    "style.css",
    "icon.svg",
    "icons/any-192.png",
    "icons/any-512.png",
    "icons/maskable-512.png",
    "app.js",
    "calls.js",
    "cascade.js",
    "compare.js",
    "editing.js",
    "face_crop.js",
    "face_detection.js",
    "face_finder.js",
    "face_worker.js",
    "frame.js",
    "gray.js",
    "history.js",
    "inputs.js",
    "model.js",
    "photo.js",
    "pixels.js",
    "queue.js",
    "sample.js",
    "screen.js",
    "sliders.js",
    "state.js",
    "storage.js",
    "strip.js",
    "text.js",
    "worker.js",
    "litert/LICENSE.txt",
)
SERVICE_WORKER = "offline.js"
VERSION = '"VERSION"'  # its placeholder for the hash of all other files

# From node_modules/. The builds of the runtime without threads, which would need special HTTP
# headers: one for browsers with relaxed SIMD, one for the others; the library chooses.
_CORE, _UTILS = "@litertjs/core", "@litertjs/wasm-utils"
_RUNTIME = {
    "litert/wasm-utils.js": f"{_UTILS}/dist/index.js",
    **{
        f"litert/litert_wasm{build}_internal.{suffix}": f"{_CORE}/wasm/litert_wasm{build}_internal"
        f".{suffix}"
        for build in ("", "_compat")
        for suffix in ("js", "wasm")
    },
}
# A browser cannot resolve package names, nor a worker import maps: the import becomes a path.
_INDEX, _INDEX_SOURCE = "litert/index.js", f"{_CORE}/dist/index.js"
_IMPORT, _LOCAL_IMPORT = f'from "{_UTILS}"', 'from "./wasm-utils.js"'
_NOTICE = """\
LiteRT.js: the npm packages @litertjs/core and @litertjs/wasm-utils, under the Apache License 2.0
(LICENSE.txt). One line of index.js is changed: it imports ./wasm-utils.js by its path.
"""

_INSTALL = (
    "ci",
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    "--prefer-offline",
    "--loglevel=error",
    "--fetch-retries=1",
    "--fetch-retry-mintimeout=1000",
)
_REMEDY = "or leave page out of --formats"


def write(output: Path, model: bytes, description: dict[str, Any], variant: str) -> None:
    """Writes the page.

    Args:
        output: an empty folder.
        model: the .tflite file, with the signatures encode and generate and a batch of 1.
        description: see `editing.description`; model.json is this and the variant.
        variant: the model's variant, which the page shows.

    Raises:
        UserError: npm is missing or cannot fetch the runtime; OpenCV's cascades are missing.
    """
    for name in STATIC:
        _put(output / name, (SOURCES / name).read_bytes())
    _put(output / face_rules.RULES, face_rules.rules().encode())
    if description["crop"] == CELEBA_CROP:  # no other model edits the faces that are found
        _put(output / face_rules.CASCADES, face_rules.cascades().encode())
    for name, content in _runtime().items():
        _put(output / name, content)
    write_bytes(output / "model.tflite", model)
    write_json(output / "model.json", description | {"variant": variant})
    script = (SOURCES / SERVICE_WORKER).read_text()
    if script.count(VERSION) != 1:
        raise ValueError(f"{SERVICE_WORKER} contains {VERSION} {script.count(VERSION)} times")
    write_text(output / SERVICE_WORKER, script.replace(VERSION, f'"{_digest(output)}"'))


def install(folder: Path, tests: bool = False) -> Path:
    """Installs the packages of the lock file; returns node_modules.

    Args:
        folder: where to install; receives copies of package.json and the lock file.
        tests: also install the packages of the tests.

    Raises:
        UserError: npm is missing or fails.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(
            "--formats=page: npm, which fetches the page's runtime, is missing; install Node.js, "
            f"{_REMEDY}"
        )
    for name in ("package.json", "package-lock.json"):
        shutil.copy(SOURCES / name, folder)
    command = [npm, *_INSTALL, *([] if tests else ["--omit=dev"])]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(
            f"--formats=page: npm cannot fetch the page's runtime ({_reason(done.stderr)}); it "
            f"needs a network connection once and its cache afterwards: connect, {_REMEDY}"
        )
    return folder / "node_modules"


def _runtime() -> dict[str, bytes]:
    """The runtime's files by their path in the page."""
    with tempfile.TemporaryDirectory() as temporary:
        packages = install(Path(temporary))
        files = {name: (packages / source).read_bytes() for name, source in _RUNTIME.items()}
        index = (packages / _INDEX_SOURCE).read_text()
    if index.count(_IMPORT) != 1:
        raise ValueError(f"{_INDEX_SOURCE} imports {_UTILS} {index.count(_IMPORT)} times")
    files[_INDEX] = index.replace(_IMPORT, _LOCAL_IMPORT).encode()
    files["litert/NOTICE.txt"] = _NOTICE.encode()
    return files


def _reason(output: str) -> str:
    """The first line of npm's output that is more than an error code."""
    lines = [line.removeprefix("npm error").strip() for line in output.splitlines()]
    codes = ("code ", "errno ", "syscall ")
    reasons = [line for line in lines if line and not line.startswith(codes)]
    return " ".join((reasons or ["no reason given"])[0].split())[:160]


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    write_bytes(path, content)


def _digest(folder: Path) -> str:
    """Hash of every file's name and content."""
    digest = hashlib.sha256()
    for path in sorted(entry for entry in folder.rglob("*") if entry.is_file()):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()
