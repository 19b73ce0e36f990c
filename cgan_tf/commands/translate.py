"""Edits photos with a finished model.

    cgan translate --model=RUN_DIR|SAVED_MODEL_DIR|FILE.tflite --image=PHOTO_OR_FOLDER
        --edit=Smiling=+1.0,Blond_Hair=-0.5 --set=Male=0.2 --output=OUT.png|DIR
        [--face=all|center|N] [--keep_detail] [--inversion=encoder|hybrid|optimize] [--steps=100]
        [--mask=FILE|ellipse] [--tune=STEPS] [--crop] [--strip] [--overwrite]

The last link of the chain. In a photo of any size the faces are found (`data.faces`), turned
upright, cut as the training photos are, encoded, moved along the attributes' directions, drawn
again and pasted back. `--edit` says how far, `--set` what the regressor shall predict in the end
(`strengths` looks for how far that is); one of the two is enough. `hybrid` and `optimize` look for
the latent by descent (`projection`), `--tune` adapts the generator to each face (`tuning`); both
take a second or more a face and a run folder: nothing that is exported has gradients. A folder's
results lie beside translate.csv, which says what was done with each photo.
"""

import contextlib
import csv
import dataclasses
import functools
import io
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import flags
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from cgan_tf.core import cli, quiet
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_bytes
from cgan_tf.data import face_crop, images
from cgan_tf.data.portraits import Portrait, choose_face, find_photos, parse_face, portraits
from cgan_tf.data.source import IMAGE_SUFFIXES
from cgan_tf.editing import strengths

if TYPE_CHECKING:  # at run time it would import TensorFlow, with its start-up lines
    from cgan_tf.editing.backends import Editor
    from cgan_tf.editing.projection import Projector
    from cgan_tf.editing.tuning import Tuner

STRIP_FACTORS = (-1.0, -0.5, 0.0, 0.5, 1.0)  # times the strengths asked for
INVERSIONS = ("encoder", "hybrid", "optimize")
TABLE = "translate.csv"  # beside a folder's results
COLUMNS = ("file", "status", "output", "face", "faces", "x", "y", "side", "angle", "in_photo",
           "psnr", "edit", "note")  # fmt: skip
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
    if is_folder and (path / TABLE).exists() and not overwrite:
        raise UserError(f"--output={output}: {path / TABLE} exists; --overwrite replaces it")
    return targets


# ---- one face ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Drawer:
    """Draws what becomes of a face.

    Attributes:
        editor: the loaded model.
        keep_detail: the photo gets only the difference that the edit makes to the model's picture,
            so that it keeps its own detail.
        strip: draw a labeled row: the face, then the edit at STRIP_FACTORS.
        crop: draw the face alone, as the model sees it, and not the whole photo.
    """

    editor: "Editor"
    keep_detail: bool = False
    strip: bool = False
    crop: bool = False

    @property
    def alone(self) -> bool:
        """Whether faces are drawn without their photos."""
        return self.strip or self.crop

    def draw(self, latent: np.ndarray, strengths: np.ndarray) -> np.ndarray:
        """The model's picture, float32 `[R, R, 3]`, of a latent moved by strengths `[K]`.

        Raises:
            UserError: the strengths are so large that the model has no answer.
        """
        # One by one: the edit is then the same, bit for bit, in a strip and alone.
        image = self.editor.run("generate", latent=latent[None], strengths=strengths[None])[0]
        if not np.isfinite(image).all():
            raise UserError("--edit: the answer to these strengths is not finite: lower them")
        return image

    def before(self, latent: np.ndarray) -> np.ndarray | None:
        """The model's picture of the unedited face; None where nobody asks for it."""
        if not self.keep_detail:
            return None
        return self.draw(latent, np.zeros(len(self.editor.attributes), np.float32))

    def edit(
        self, latent: np.ndarray, strengths: np.ndarray, before: np.ndarray | None
    ) -> np.ndarray:
        """The picture of the edited face; with one from before, other only where the edit acts."""
        detail = self.editor.keep_detail
        if before is None or detail is None:
            return self.draw(latent, strengths)
        image = self.draw(latent, detail.scaled(strengths))
        return detail.confine(image[None], before[None], strengths[None])[0]

    def seer(self, portrait: Portrait, latent: np.ndarray) -> strengths.Render:
        """What becomes of the face at other strengths, as the model would see it.

        Args:
            portrait: the face.
            latent: its latent, float32 `[*latent_shape]`.
        """
        before = functools.cache(lambda: self.before(latent))  # the same at every look
        crop = images.to_float(portrait.crop)[None]

        def see(latents: np.ndarray, steps: np.ndarray) -> np.ndarray:
            rows = zip(latents, steps, strict=True)
            drawn = np.stack([self.edit(row, step, before()) for row, step in rows])
            if not self.keep_detail:
                return drawn
            return face_crop.add_difference(crop, drawn, before()[None])

        return see

    def add(
        self, picture: np.ndarray, portrait: Portrait, latent: np.ndarray, strengths: np.ndarray
    ) -> np.ndarray:
        """The photo uint8 `[H, W, 3]` with the edited face in it, or the face's own picture.

        Args:
            picture: the photo, with the faces before this one already edited.
            portrait: the face.
            latent: its latent, float32 `[*latent_shape]`.
            strengths: float32 `[K]`.
        """
        before = self.before(latent)
        if not self.alone:
            image = self.edit(latent, strengths, before)
            return face_crop.paste_face(picture, image, portrait.face, before)
        tiles = []
        for factor in np.float32(STRIP_FACTORS if self.strip else (1.0,)):
            image = self.edit(latent, strengths * factor, before)
            if before is None:
                tiles.append(images.to_uint8(image))
            else:
                side = len(image)
                whole = face_crop.FaceBox(side / 2, side / 2, side)
                tiles.append(face_crop.paste_face(portrait.crop, image, whole, before))
        if not self.strip:
            return tiles[0]
        labels = ["input", *(f"{factor:+g}x" if factor else "0" for factor in STRIP_FACTORS)]
        return labeled_row([portrait.crop, *tiles], labels)


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


# ---- inversion and tuning ----------------------------------------------------------------------


def check_inversion(inversion: str, steps: int | None, mask: str | None) -> None:
    """Raises a UserError for options of the descent that nothing would read."""
    for name, value in (("steps", steps), ("mask", mask)):
        if inversion == "encoder" and value is not None:
            raise UserError(
                f"--{name}={value}: the encoder has none; give --inversion=hybrid or optimize too"
            )


def open_projector(editor: "Editor", options: flags.FlagValues) -> "Projector | None":
    """The `Projector` of a run folder, by its own options; None where no option asks for it.

    Raises:
        UserError: `model` is no run folder, the mask makes no sense, or a stage is missing.
    """
    from cgan_tf.editing import backends, projection

    asked = [f"--tune={options.tune}"] if options.tune else []
    asked += [f"--inversion={options.inversion}"] if options.inversion != "encoder" else []
    if not asked:
        return None
    if not isinstance(editor, backends.KerasBackend):
        raise UserError(
            f"--model={options.model}: an exported model has no gradients for {asked[0]}; "
            "give the run folder"
        )
    weights = None
    if options.mask is not None:
        weights, words = projection.load_mask(options.mask, editor.resolution)
        if words:
            print(words)
    return projection.of_run(
        options.model, editor.translator, options.inversion, options.steps, weights
    )


@dataclasses.dataclass(frozen=True)
class Inverter:
    """Finds the latents of faces.

    Attributes:
        editor: the loaded model.
        inversion: one of INVERSIONS.
        projector: for those that descend.
    """

    editor: "Editor"
    inversion: str
    projector: "Projector | None"

    @property
    def batch(self) -> int:
        """Faces that are best found together."""
        if self.inversion == "encoder":
            return 1
        from cgan_tf.editing import projection

        return projection.BATCH

    def encode(self, crop: np.ndarray) -> np.ndarray:
        """The encoder's latent `[*latent_shape]` of a crop uint8 `[R, R, 3]`."""
        return self.editor.run("encode", image=images.to_float(crop[None]))[0]

    def find(self, crops: list[np.ndarray], encoded: list[np.ndarray]) -> list[np.ndarray]:
        """The latents of crops, given the encoder's."""
        if self.inversion == "encoder":
            return encoded
        from cgan_tf.editing import projection

        found = projection.invert(
            self.projector,
            self.editor.translator.encoder,
            images.to_float(np.stack(crops)),
            self.inversion,
        )
        return [latent for part in found for latent in part.latents]


# ---- photos in, pictures and rows out ----------------------------------------------------------


@dataclasses.dataclass
class Table:
    """What was done with each photo of a folder, a row for each face.

    Attributes:
        path: of the CSV file; None writes none.
        rows: one per face, or one for a photo that was skipped.
    """

    path: Path | None
    rows: list[dict[str, object]] = dataclasses.field(default_factory=list)

    @property
    def edited(self) -> int:
        """Number of edited faces."""
        return sum(row["status"] == "edited" for row in self.rows)

    def summary(self) -> str:
        """What was done, in words."""
        photos = {row["file"] for row in self.rows if row["status"] == "edited"}
        skipped = sum(row["status"] == "skipped" for row in self.rows)
        where = "" if self.path is None else f"{self.path}: "
        done = f"{_count(self.edited, 'face')} edited in {_count(len(photos), 'photo')}"
        return f"{where}{done}, {_count(skipped, 'photo')} skipped"

    def write(self) -> None:
        """Writes the table, atomically."""
        if self.path is None:
            return
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(self.rows)
        # A file's name need not be UTF-8: its bytes are written as they are.
        write_bytes(self.path, text.getvalue().encode("utf-8", "surrogateescape"))


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


@dataclasses.dataclass(frozen=True)
class Photo:
    """A photo and what of it is edited."""

    path: Path
    target: Path
    pixels: np.ndarray  # uint8 [H, W, 3]
    portraits: list[Portrait]


def read_photos(
    paths: list[Path], targets: list[Path], editor: "Editor", which: str | int, table: Table
) -> Iterator[Photo]:
    """The photos that can be read and show what is asked for; the others are said and noted.

    Args:
        paths: of the photos.
        targets: one for each.
        editor: for its framing.
        which: of the faces, see `photos.parse_face`.
        table: of a folder; a photo alone (`table.path` is None) is not skipped.

    Raises:
        UserError: a photo alone that cannot be edited.
    """
    for path, target in zip(paths, targets, strict=True):
        try:
            pixels = images.decode_file(path)
            frames = images.frame_count(path)
        except UserError as error:
            if table.path is None:
                raise UserError(f"--image: {error}; give another photo") from None
            reason = str(error)
        else:
            try:
                found = portraits(pixels, editor.resolution, editor.aligned, which)
            except UserError as error:
                reason = f"{path}: {error}"
                if table.path is None:
                    raise UserError(f"--image={reason}") from None
            else:
                if frames > 1:
                    tqdm.write(f"{path}: the first of its {frames} pictures", file=sys.stderr)
                yield Photo(path, target, pixels, found)
                continue
        tqdm.write(f"skipped: {reason}", file=sys.stderr)
        table.rows.append({"file": path.name, "status": "skipped", "note": reason})


def grouped(photos: Iterator[Photo], faces: int) -> Iterator[list[Photo]]:
    """The photos in groups that have at least so many faces, but for the last."""
    group: list[Photo] = []
    for photo in photos:
        group.append(photo)
        if sum(len(one.portraits) for one in group) >= faces:
            yield group
            group = []
    if group:
        yield group


def edit_group(
    group: list[Photo],
    inverter: Inverter,
    drawer: Drawer,
    wish: strengths.EditRequest,
    table: Table,
    tuner: "Tuner | None" = None,
    tuning_steps: int = 0,
) -> None:
    """Edits photos, saves them, and says and notes what was done.

    Args:
        group: photos whose latents are found together.
        inverter: finds them.
        drawer: draws.
        wish: what was asked for.
        table: takes the rows.
        tuner: adapts the generator to each face.
        tuning_steps: its steps.
    """
    from cgan_tf.evaluation import metrics

    editor = drawer.editor
    none = np.zeros(len(editor.attributes), np.float32)
    crops = [portrait.crop for photo in group for portrait in photo.portraits]
    encoded = [inverter.encode(crop) for crop in crops]
    latents = iter(zip(inverter.find(crops, encoded), encoded, strict=True))
    for photo in group:
        picture, alone, rows = photo.pixels, [], []
        for number, portrait in enumerate(photo.portraits, 1):
            latent, start = next(latents)
            image = drawer.draw(start, none)
            near = float(metrics.psnr(image[None], images.to_float(portrait.crop[None]))[0])
            tuned = contextlib.nullcontext()
            if tuner is not None:
                tuned = tuner.tuned(images.to_float(portrait.crop), latent, tuning_steps)
            with tuned:
                steps, done = wish.resolve(editor, latent, drawer.seer(portrait, latent))
                drawn = drawer.add(picture, portrait, latent, steps)
            if drawer.alone:
                alone.append(drawn)
            else:
                picture = drawn
            unlike = unlike_training(near, editor.psnr_p5)
            if unlike:
                tqdm.write(f"warning: {photo.path} ({portrait.words}): {unlike}", file=sys.stderr)
            rows.append(
                {
                    "file": photo.path.name,
                    "status": "edited",
                    "output": photo.target.name,
                    "face": number,
                    "faces": len(photo.portraits),
                    "x": f"{portrait.face.x:.1f}",
                    "y": f"{portrait.face.y:.1f}",
                    "side": f"{portrait.face.side:.1f}",
                    "angle": f"{portrait.face.angle:.1f}",
                    "in_photo": f"{portrait.face.inside(*photo.pixels.shape[:2]):.3f}",
                    "psnr": f"{near:.2f}",
                    "edit": done,
                    "note": "; ".join(filter(None, [portrait.words, unlike])),
                }
            )
        if alone:
            picture = np.concatenate(alone)
        elif is_gray(photo.pixels):
            picture = np.asarray(Image.fromarray(picture).convert("L").convert("RGB"))
        images.save_png(photo.target, picture)
        for portrait, row in zip(photo.portraits, rows, strict=True):
            tqdm.write(f"{photo.path} ({portrait.words}) -> {photo.target}: {row['edit']}")
        table.rows += rows


def is_gray(pixels: np.ndarray) -> bool:
    """Whether a photo `[H, W, 3]` has no color anywhere: what is pasted into it gets none."""
    return bool(np.all(pixels == pixels[..., :1]))


def unlike_training(near: float, usual: float | None) -> str:
    """Words for a face that is reconstructed worse than nearly all photos of the training data.

    Args:
        near: its reconstruction's PSNR, dB.
        usual: what nearly all validation photos reach; None where a model does not tell.
    """
    if usual is None or near >= usual:
        return ""
    return f"unlike the training photos: drawn at {near:.1f} dB, nearly all of them at {usual:.1f}"


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
    flags.DEFINE_string(
        "face", None,
        "which faces of a photo: all, a number (1 is the largest), or center, which takes the "
        "photo's center as it is; if not given, all where the model has learned from CelebA's "
        "framing, else center",
    )  # fmt: skip
    flags.DEFINE_bool(
        "keep_detail", False,
        "apply only the difference that the edit makes to the model's picture, so that the photo "
        "keeps its own detail",
    )  # fmt: skip
    flags.DEFINE_integer(
        "tune", None, "steps of adapting the generator to each face first; the model on disk stays",
        lower_bound=1,
    )  # fmt: skip
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
        "mask", None, "what of the face hybrid and optimize look at: an image file, white where "
        "it counts, or ellipse, the face of an aligned photo",
    )  # fmt: skip
    flags.DEFINE_bool(
        "crop", False, "write each face alone, as the model sees it, and not the whole photo"
    )
    flags.DEFINE_bool(
        "strip", False,
        "write a row for each face: the input, then the edit at -1 to +1 times the strengths",
    )  # fmt: skip
    flags.DEFINE_bool("overwrite", False, "replace output files that exist")


def main() -> int:
    """The command behind the flags; returns the exit code."""
    options = flags.FLAGS
    cli.require("model", "image", "output")
    wish = strengths.parse(options.edit, options.set)
    check_inversion(options.inversion, options.steps, options.mask)
    if options.face is not None:
        parse_face(options.face)
    photos = find_photos(options.image)
    is_folder = Path(options.image).expanduser().is_dir()
    targets = plan_outputs(photos, is_folder, options.output, options.overwrite)

    quiet.import_tensorflow()
    from cgan_tf.editing import backends, tuning

    editor = backends.open_backend(options.model, scores=bool(wish.values))
    wish.check(editor.attributes)
    which = choose_face(options.face, editor.aligned)
    projector = open_projector(editor, options)
    inverter = Inverter(editor, options.inversion, projector)
    drawer = Drawer(editor, options.keep_detail, options.strip, options.crop)
    tuner = tuning.Tuner.of(projector) if options.tune else None
    if options.keep_detail and editor.keep_detail is None:
        print(
            "--keep_detail: this model, of an older version, does not tell where its edits act and "
            "how much further they must go; +1 changes less than its calibration says"
        )

    table = Table(Path(options.output).expanduser() / TABLE if is_folder else None)
    bar = tqdm(
        total=len(photos), unit=" photos", desc="translate", dynamic_ncols=True,
        disable=not (is_folder and sys.stderr.isatty()),
    )  # fmt: skip
    start = time.perf_counter()
    try:
        with bar:
            readable = read_photos(photos, targets, editor, which, table)
            for group in grouped(readable, inverter.batch):
                edit_group(group, inverter, drawer, wish, table, tuner, options.tune or 0)
                bar.update(photos.index(group[-1].path) + 1 - bar.n)
    except BaseException:
        with contextlib.suppress(OSError):  # it must not hide the error that ended the edits
            if table.edited:  # what was done before Ctrl-C is listed, too
                table.write()
        raise
    if table.edited:
        table.write()
    if not table.edited:
        raise UserError(
            f"--image={options.image}: none of its {len(photos)} photos could be edited"
        )
    if is_folder or projector is not None:
        print(f"{table.summary()}; {(time.perf_counter() - start) / table.edited:.2f} s a face")
    return 0
