"""Edits photos with a finished model.

    python -m cgan_tf.translate --model=RUN_DIR|SAVED_MODEL_DIR|FILE.tflite --image=PHOTO_OR_FOLDER
        --edit=Smiling=+1.0,Blond_Hair=-0.5 --set=Male=0.2 --output=OUT.png|DIR [--strip]
        [--overwrite]
        [--inversion=encoder|hybrid|optimize] [--steps=100] [--mask=FILE|ellipse]

The last link of the chain: a photo of any size is cropped, encoded, moved along the attributes'
directions and drawn again. `--edit` says how far, `--set` what the regressor shall predict in the
end (`strengths` looks for how far that is); one of the two is enough. `hybrid` and `optimize` look
for the photo's latent by descent (`projection`), which takes a second or so a photo and a run
folder: nothing that is exported has gradients.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import flags
from PIL import Image, ImageDraw, ImageFont

from cgan_tf import cli, quiet, strengths
from cgan_tf.data import images
from cgan_tf.data.source import IMAGE_SUFFIXES
from cgan_tf.errors import UserError
from cgan_tf.photos import crop_photo, find_photos

if TYPE_CHECKING:  # at run time it would import TensorFlow, with its start-up lines
    from cgan_tf.editors import Editor
    from cgan_tf.projection import Projector

STRIP_FACTORS = (-1.0, -0.5, 0.0, 0.5, 1.0)  # times the strengths asked for
INVERSIONS = ("encoder", "hybrid", "optimize")
_LABEL_HEIGHT = 16  # px below a strip's tile
_LABEL_SIZE = 11  # px


# ---- where the pictures go -----------------------------------------------------------------------


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


def edit_crop(
    editor: "Editor",
    crop: np.ndarray,
    strengths: np.ndarray,
    strip: bool = False,
    latent: np.ndarray | None = None,
) -> np.ndarray:
    """The edited photo, or a labeled row: the crop, then the edit at STRIP_FACTORS; uint8.

    Args:
        editor: the loaded model.
        crop: what it sees of the photo, uint8 `[R, R, 3]`.
        strengths: float32 `[K]`.
        strip: draw the row. Its tile at 0 is the reconstruction, that at 1 the edit itself.
        latent: float32 `[*latent_shape]`, in the place of the encoder's.

    Raises:
        UserError: the strengths are so large that the model has no answer.
    """
    factors = STRIP_FACTORS if strip else (1.0,)
    tiles = []
    for factor in np.float32(factors):
        # One by one: the tile at 1 is then the same, bit for bit, as the edit without a strip.
        step = strengths[None] * factor
        if latent is None:
            image = editor.translate(images.to_float(crop[None]), step)[0]
        else:
            image = editor.run("generate", latent=latent[None], strengths=step)[0]
        if not np.isfinite(image).all():
            raise UserError("--edit: the answer to these strengths is not finite: lower them")
        tiles.append(images.to_uint8(image))
    if not strip:
        return tiles[0]
    labels = ["input", *(f"{factor:+g}x" if factor else "0" for factor in factors)]
    return labeled_row([crop, *tiles], labels)


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


# ---- inversion ---------------------------------------------------------------------------------


def check_inversion(inversion: str, steps: int | None, mask: str | None) -> None:
    """Raises a UserError for options of the descent that nothing would read."""
    for name, value in (("steps", steps), ("mask", mask)):
        if inversion == "encoder" and value is not None:
            raise UserError(
                f"--{name}={value}: the encoder has none; give --inversion=hybrid or optimize too"
            )


def open_projector(
    editor: "Editor", model: str, inversion: str, steps: int | None, mask: str | None
) -> "Projector":
    """The `Projector` of a run folder, by its own options; says if the mask was resized.

    Raises:
        UserError: `model` is no run folder, the mask makes no sense, or a stage is missing.
    """
    from cgan_tf import editors, projection

    if not isinstance(editor, editors.KerasEditor):
        raise UserError(
            f"--model={model}: an exported model has no gradients for --inversion={inversion}; "
            "give the run folder"
        )
    weights = None
    if mask is not None:
        weights, words = projection.load_mask(mask, editor.resolution)
        if words:
            print(words)
    return projection.of_run(model, editor.translator, steps, weights)


def projected(
    editor: "Editor", projector: "Projector", inversion: str, crops: list[np.ndarray]
) -> tuple[np.ndarray, float]:
    """The latents `[N, *latent_shape]` of crops uint8 `[R, R, 3]`, and all their seconds."""
    from cgan_tf import projection

    found = projection.invert(
        projector, editor.translator.encoder, images.to_float(np.stack(crops)), inversion
    )
    seconds = sum(part.seconds[-1] for part in found)
    return np.concatenate([part.latents for part in found]), seconds


# ---- the command -------------------------------------------------------------------------------


def define_flags() -> None:
    """The command's flags; only the command itself may define them, not who imports this module."""
    flags.DEFINE_string("model", None, "run folder, SavedModel folder or .tflite file")
    flags.DEFINE_string("image", None, "photo, or folder of photos, of any size and format")
    flags.DEFINE_string(
        "edit", None, "strengths by attribute (Smiling=+1.0,Blond_Hair=-0.5); +1 is a full step"
    )
    flags.DEFINE_string(
        "set", None, "what the regressor shall predict in the end, from 0, absent, to 1, present, "
        "by attribute (Smiling=0.8,Male=0.2); not for a .tflite, which has no regressor",
    )  # fmt: skip
    flags.DEFINE_string("output", None, "PNG file for one photo; folder for several")
    flags.DEFINE_bool(
        "strip", False, "draw a row: the input, then the edit at -1 to +1 times the strengths"
    )
    flags.DEFINE_enum(
        "inversion", "encoder", INVERSIONS,
        "how the latent is found: by the encoder; by descent from its answer (hybrid), or from the "
        "mean and random samples (optimize)",
    )  # fmt: skip
    flags.DEFINE_integer(
        "steps", None, "of hybrid, and of each start of optimize; the run's own if not given",
        lower_bound=1,
    )  # fmt: skip
    flags.DEFINE_string(
        "mask", None, "what of the photo hybrid and optimize look at: an image file, white where "
        "it counts, or ellipse, the face of an aligned photo",
    )  # fmt: skip
    flags.DEFINE_bool("overwrite", False, "replace output files that exist")


def main() -> int:
    """The command behind the flags; returns the exit code."""
    options = flags.FLAGS
    cli.require("model", "image", "output")
    wish = strengths.parse(options.edit, options.set)
    check_inversion(options.inversion, options.steps, options.mask)
    photos = find_photos(options.image)
    is_folder = Path(options.image).expanduser().is_dir()
    targets = plan_outputs(photos, is_folder, options.output, options.overwrite)

    quiet.import_tensorflow()
    from cgan_tf import editors

    editor = editors.open_editor(options.model, scores=bool(wish.values))
    wish.check(editor.attributes)
    projector, batch = None, 1
    if options.inversion != "encoder":
        from cgan_tf import projection

        projector = open_projector(
            editor, options.model, options.inversion, options.steps, options.mask
        )
        batch = projection.BATCH
    done, seconds = 0, 0.0
    for group in _crops(photos, targets, is_folder, editor, batch):
        latents = [None] * len(group)
        crops = [crop for _, _, crop, _ in group]
        if projector is not None:
            latents, taken = projected(editor, projector, options.inversion, crops)
            seconds += taken
        steps, reached = wish.resolve(editor, crops, latents)
        for (photo, target, crop, words), latent, step, what in zip(
            group, latents, steps, reached, strict=True
        ):
            pixels = edit_crop(editor, crop, step, options.strip, latent)
            target.parent.mkdir(parents=True, exist_ok=True)
            images.save_png(target, pixels)
            print(f"{photo} ({words}) -> {target}: {what}")
        done += len(group)
    if not done:
        raise UserError(f"--image={options.image}: none of its {len(photos)} photos could be read")
    if projector is not None:
        print(f"{options.inversion}: {seconds / done:.2f} seconds per image")
    return 0


def _crops(
    photos: list[Path], targets: list[Path], is_folder: bool, editor: "Editor", batch: int
) -> Iterator[list[tuple[Path, Path, np.ndarray, str]]]:
    """(photo, its target, `crop_photo`'s two) by groups of `batch`; says what it skips.

    Raises:
        UserError: a single photo that cannot be read.
    """
    group = []
    for photo, target in zip(photos, targets, strict=True):
        try:
            pixels = images.decode_file(photo)
        except UserError as error:
            if not is_folder:
                raise UserError(f"--image: {error}; give another photo") from None
            print(f"skipped: {error}", file=sys.stderr)
            continue
        group.append((photo, target, *crop_photo(pixels, editor.resolution, editor.aligned)))
        if len(group) == batch:
            yield group
            group = []
    if group:
        yield group


if __name__ == "__main__":
    define_flags()
    cli.run(main)
