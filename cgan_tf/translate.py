"""Edits photos with a finished model.

    python -m cgan_tf.translate --model=RUN_DIR|SAVED_MODEL_DIR|FILE.tflite --image=PHOTO_OR_FOLDER
        --edit=Smiling=+1.0,Blond_Hair=-0.5 --output=OUT.png|DIR [--strip] [--overwrite]

The last link of the chain: a photo of any size is cropped, encoded, moved along the attributes'
directions and drawn again.
"""

import dataclasses
import difflib
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import flags
from PIL import Image, ImageDraw, ImageFont

from cgan_tf import cli, quiet
from cgan_tf.data import images
from cgan_tf.data.source import IMAGE_SUFFIXES
from cgan_tf.errors import UserError
from cgan_tf.photos import crop_photo, find_photos

if TYPE_CHECKING:  # at run time it would import TensorFlow, with its start-up lines
    from cgan_tf.editors import Editor

STRIP_FACTORS = (-1.0, -0.5, 0.0, 0.5, 1.0)  # times the strengths asked for
_LABEL_HEIGHT = 16  # px below a strip's tile
_LABEL_SIZE = 11  # px


# ---- what was asked for ------------------------------------------------------------------------


def parse_edit(text: str) -> dict[str, float]:
    """`Smiling=+1.0,Blond_Hair=-0.5` as {attribute: strength}, in the order given.

    Raises:
        UserError: a part is not NAME=NUMBER, a strength is not finite, or a name comes twice.
    """
    edit: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        if not name or not equals:
            raise UserError(f"--edit={text}: {part.strip()!r} is not NAME=STRENGTH (Smiling=+1.0)")
        try:
            strength = float(number)
        except ValueError:
            raise UserError(
                f"--edit={text}: the strength of {name} is {number!r}; give a number ({name}=+1.0)"
            ) from None
        if not math.isfinite(strength):
            raise UserError(f"--edit={text}: {name}'s strength is {number}; give a finite number")
        if name in edit:
            raise UserError(f"--edit={text}: {name} is given twice; give it once")
        edit[name] = strength
    return edit


def strength_vector(edit: dict[str, float], attributes: tuple[str, ...]) -> np.ndarray:
    """float32 `[K]` in the order of the model's attributes, 0 where nothing was asked for.

    Raises:
        UserError: an attribute that the model does not have.
    """
    vector = np.zeros(len(attributes), np.float32)
    for name, strength in edit.items():
        if name not in attributes:
            lowered = {known.lower(): known for known in attributes}
            near = difflib.get_close_matches(name.lower(), lowered, n=1)
            hint = f" (did you mean {lowered[near[0]]}?)" if near else ""
            raise UserError(
                f"--edit={name}: unknown attribute{hint}; the model has {', '.join(attributes)}"
            )
        if abs(strength) > np.finfo(np.float32).max:
            raise UserError(
                f"--edit={name}={strength:g}: too large for a float32; give a smaller number"
            )
        vector[attributes.index(name)] = strength
    return vector


def plan_outputs(photos: list[Path], is_folder: bool, output: str, overwrite: bool) -> list[Path]:
    """One PNG path per photo; writes nothing yet.

    A single photo goes to a file, or into a folder that exists or is written with a slash at its
    end; a folder of photos always goes into a folder.

    Raises:
        UserError: a file is in the way, or the output cannot be written.
    """
    path = Path(output).expanduser()
    if is_folder and path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir():
        raise UserError(
            f"--output={output}: --image is a folder, so give a folder here, not a picture's name"
        )
    into_folder = is_folder or path.is_dir() or output.endswith(os.sep)
    if into_folder:
        stems = [photo.stem for photo in photos]
        # a.jpg and a.png must not end in one file.
        names = [
            f"{photo.name if stems.count(photo.stem) > 1 else photo.stem}.png" for photo in photos
        ]
        targets = [path / name for name in names]
    else:
        if path.suffix.lower() != ".png":
            raise UserError(f"--output={output}: give a name that ends in .png, or a folder")
        targets = [path]
    cli.require_writable(f"--output={output}", targets[0].parent)
    for photo, target in zip(photos, targets, strict=True):
        if target.is_dir():
            raise UserError(f"--output={output}: {target} is a folder; choose another name")
        if target.exists() and target.resolve() == photo.resolve():
            raise UserError(f"--output={output}: {target} is the photo itself; choose another name")
        if target.exists() and not overwrite:
            raise UserError(f"--output={output}: {target} exists; --overwrite replaces it")
    return targets


# ---- one photo ---------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Edited:
    """What came of one photo."""

    pixels: np.ndarray  # uint8 [R, R, 3], or the strip
    crop: str  # how the photo was cropped, in words


def edit_photo(
    editor: "Editor", pixels: np.ndarray, strengths: np.ndarray, strip: bool = False
) -> Edited:
    """The edited photo, or a labeled row: the crop, then the edit at STRIP_FACTORS.

    Args:
        editor: the loaded model.
        pixels: the decoded photo, uint8 `[H, W, 3]`.
        strengths: float32 `[K]`.
        strip: draw the row. Its tile at 0 is the reconstruction, that at 1 the edit itself.

    Raises:
        UserError: the strengths are so large that the model has no answer.
    """
    crop, words = crop_photo(pixels, editor.resolution, editor.aligned)
    factors = STRIP_FACTORS if strip else (1.0,)
    tiles = []
    for factor in np.float32(factors):
        # One by one: the tile at 1 is then the same, bit for bit, as the edit without a strip.
        image = editor.translate(images.to_float(crop[None]), strengths[None] * factor)[0]
        if not np.isfinite(image).all():
            raise UserError("--edit: the answer to these strengths is not finite: lower them")
        tiles.append(images.to_uint8(image))
    if not strip:
        return Edited(tiles[0], words)
    labels = ["input", *(f"{factor:+g}x" if factor else "0" for factor in factors)]
    return Edited(labeled_row([crop, *tiles], labels), words)


def labeled_row(tiles: list[np.ndarray], labels: list[str]) -> np.ndarray:
    """Tiles uint8 `[R, R, 3]` side by side, labels below: uint8 `[R + 16, n * R, 3]`."""
    row = images.grid(np.stack(tiles), columns=len(tiles))
    height, width = row.shape[:2]
    canvas = Image.new("RGB", (width, height + _LABEL_HEIGHT), "white")
    canvas.paste(Image.fromarray(row), (0, 0))
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=_LABEL_SIZE)
    for index, label in enumerate(labels):
        center = (index * height + height / 2, height + _LABEL_HEIGHT / 2)
        draw.text(center, label, fill="black", font=font, anchor="mm")
    return np.asarray(canvas)


# ---- the command -------------------------------------------------------------------------------


def define_flags() -> None:
    """The command's flags; only the command itself may define them, not who imports this module."""
    flags.DEFINE_string("model", None, "run folder, SavedModel folder or .tflite file")
    flags.DEFINE_string("image", None, "photo, or folder of photos, of any size and format")
    flags.DEFINE_string(
        "edit", None, "strengths by attribute (Smiling=+1.0,Blond_Hair=-0.5); +1 is a full step"
    )
    flags.DEFINE_string("output", None, "PNG file for one photo; folder for several")
    flags.DEFINE_bool(
        "strip", False, "draw a row: the input, then the edit at -1 to +1 times the strengths"
    )
    flags.DEFINE_bool("overwrite", False, "replace output files that exist")


def main() -> int:
    """The command behind the flags; returns the exit code."""
    options = flags.FLAGS
    cli.require("model", "image", "edit", "output")
    edit = parse_edit(options.edit)
    photos = find_photos(options.image)
    is_folder = Path(options.image).expanduser().is_dir()
    targets = plan_outputs(photos, is_folder, options.output, options.overwrite)

    quiet.import_tensorflow()
    from cgan_tf import editors

    editor = editors.open_editor(options.model)
    strengths = strength_vector(edit, editor.attributes)
    asked = ", ".join(f"{name} {strength:+g}" for name, strength in edit.items())
    done = 0
    for photo, target in zip(photos, targets, strict=True):
        try:
            pixels = images.decode_file(photo)
        except UserError as error:
            if not is_folder:
                raise UserError(f"--image: {error}; give another photo") from None
            print(f"skipped: {error}", file=sys.stderr)
            continue
        edited = edit_photo(editor, pixels, strengths, options.strip)
        target.parent.mkdir(parents=True, exist_ok=True)
        images.save_png(target, edited.pixels)
        print(f"{photo} ({edited.crop}) -> {target}: {asked}")
        done += 1
    if not done:
        raise UserError(f"--image={options.image}: none of its {len(photos)} photos could be read")
    return 0


if __name__ == "__main__":
    define_flags()
    cli.run(main)
