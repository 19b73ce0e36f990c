"""Writes the device page: static files with which a browser edits photos on the user's device.

The page consists of the .tflite file, LiteRT.js, and the scripts in `page/`. Any web server can
serve the folder, for example `python -m http.server`; opened as a file it does not work, because
browsers do not let scripts read local files.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cgan_tf.core.files import write_bytes
from cgan_tf.editing.description import CELEBA_CROP
from cgan_tf.export import face_rules, litert

SOURCES = Path(__file__).parent / "page"
# What the page takes from there as it is, apart from its service worker.
STATIC = ("*.html", "*.css", "*.js", "*.svg", "*.webmanifest", "icons/*.png", "litert/LICENSE.txt")
SERVICE_WORKER = "offline.js"
# Its placeholders: the hash of all other files, and the names of those that it stores at once.
VERSION, SMALL = '"VERSION"', '"SMALL"'
EXAMPLE = "face.png"


def files(
    model: bytes, description: dict[str, Any], variant: str, example: bytes | None = None
) -> dict[str, bytes]:
    """The files of the page, by their path in its folder.

    Args:
        model: the .tflite file, with the signatures encode and generate and a batch of 1.
        description: see `editing.description`; model.json is this, the variant and the example.
        variant: the model's variant, which the page shows.
        example: a PNG of a face, which the page edits until a photo is chosen.

    Raises:
        UserError: the archive of the runtime is damaged, or OpenCV's cascades are missing.
    """
    sources = (path for pattern in STATIC for path in SOURCES.glob(pattern))
    content = {path.relative_to(SOURCES).as_posix(): path.read_bytes() for path in sources}
    script = content.pop(SERVICE_WORKER).decode()
    content[face_rules.RULES] = face_rules.rules().encode()
    small = sorted({*content, "model.json", "./"} - {"index.html"})  # which is "./"
    if description["crop"] == CELEBA_CROP:  # no other model edits the faces that are found
        content[face_rules.CASCADES] = face_rules.cascades().encode()
    content |= {f"litert/{name}": file for name, file in litert.files().items()}
    content["model.tflite"] = model
    description = description | {"variant": variant}
    if example is not None:
        content[EXAMPLE] = example
        description["example"] = EXAMPLE
    content["model.json"] = (json.dumps(description, indent=2, allow_nan=False) + "\n").encode()
    for placeholder, value in ((VERSION, digest(content)), (SMALL, small)):
        if script.count(placeholder) != 1:
            raise ValueError(f"{SERVICE_WORKER} does not contain {placeholder} exactly once")
        script = script.replace(placeholder, json.dumps(value))
    content[SERVICE_WORKER] = script.encode()
    return content


def write(content: Mapping[str, bytes], output: Path) -> None:
    """Writes the page's `files` into an empty folder."""
    for name, file in content.items():
        write_bytes(output / name, file)


def digest(content: Mapping[str, bytes]) -> str:
    """Hash of every file's name and content."""
    hash = hashlib.sha256()
    for name, file in sorted(content.items()):
        hash.update(f"{name} {len(file)}\n".encode())
        hash.update(file)
    return hash.hexdigest()
