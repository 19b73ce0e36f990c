"""Edits photos with a finished model.

    cgan translate --model=RUN_DIR|SAVED_MODEL_DIR|FILE.tflite|NAME --image=PHOTO_OR_FOLDER
        --edit=Smiling=+1.0,Blond_Hair=-0.5 --set=Male=0.2 --output=OUT.jpg|DIR
        [--face=all|center|N] [--keep_detail] [--inversion=encoder|hybrid|optimize] [--steps=100]
        [--mask=FILE|ellipse] [--tune=STEPS] [--identity_model=FILE.onnx] [--crop] [--strip]
        [--overwrite]

Finds the faces in photos of any size, turns each upright and crops it like the training photos,
encodes it, moves its latent along the attributes' directions, generates the edited face and pastes
it back. All else stays as it is in the photo: the other pixels, alpha, color profile, EXIF and, by
the ending of --output, the format. --edit gives strengths. --set gives the values that the
regressor shall predict after the edit, and searches the strengths. One of the two is enough. NAME
is one of `cgan models`.
--inversion=hybrid and optimize find the code by optimization, and --tune adapts the generator to
each face. Both take a second or more per face, and a run folder: exported models have no gradients.
A folder is read with its sub-folders. Its results, in a tree of the same names, come with
translate.csv, which lists what was done with each photo; with --identity_model also the distance of
each edited face from the photo's, by a face recognizer.
"""

import dataclasses
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags
from tqdm import tqdm

from cgan_tf.commands import edit_flags
from cgan_tf.commands.flag_errors import flag_errors
from cgan_tf.commands.output_files import TABLE, plan_outputs
from cgan_tf.core import cli, quiet
from cgan_tf.core.errors import UserError, count_of
from cgan_tf.core.files import expand
from cgan_tf.data import images, photo_file
from cgan_tf.data.portraits import (
    Portrait,
    choose_face,
    describe_folders,
    find_photos,
    parse_face,
    photo_name,
    portraits,
)
from cgan_tf.data.result_files import (
    PLACE_COLUMNS,
    finally_written,
    place_columns,
    write_table,
)
from cgan_tf.editing import named_models
from cgan_tf.editing.faces import (
    INVERSIONS,
    EditedFace,
    FaceEditor,
    FaceRenderer,
    Inverter,
)

if TYPE_CHECKING:  # importing them would start TensorFlow
    from cgan_tf.editing.backends import Backend
    from cgan_tf.editing.projection import Projector
    from cgan_tf.editing.recognizer import Recognizer

COLUMNS = (
    "file",
    "status",
    "output",
    "face",
    "faces",
    *PLACE_COLUMNS,
    "psnr",
    "distance",
    "same_person",
    "edit",
    "note",
)


# ---- inversion ---------------------------------------------------------------------------------


def check_inversion(inversion: str, steps: int | None, mask: str | None) -> None:
    """Raises a UserError for options of the optimization that the encoder does not have."""
    for name, value in (("steps", steps), ("mask", mask)):
        if inversion == "encoder" and value is not None:
            raise UserError(
                f"--{name}={value}: the encoder has none; give --inversion=hybrid or optimize too"
            )


def open_projector(backend: "Backend", options: flags.FlagValues) -> "Projector | None":
    """The projector for --inversion and --tune; None if neither needs one.

    Raises:
        UserError: the model is not a run folder, the mask is unusable, or a stage is missing.
    """
    from cgan_tf.editing import backends, projection

    needed = [f"--tune={options.tune}"] if options.tune else []
    needed += [f"--inversion={options.inversion}"] if options.inversion != "encoder" else []
    if not needed:
        return None
    if not isinstance(backend, backends.KerasBackend):
        raise UserError(
            f"--model={options.model}: an exported model has no gradients for {needed[0]}; "
            "give the run folder"
        )
    mask = None
    if options.mask is not None:
        mask, note = projection.load_mask(options.mask, backend.resolution)
        if note:
            print(note)
    return projection.load_projector(
        options.model, backend.network.codec, options.inversion, options.steps, mask
    )


# ---- identity ----------------------------------------------------------------------------------


def known_thresholds(model: str, recognizer: "Recognizer") -> dict[str, float]:
    """The distances below which two faces are of the same person, by the false accepts.

    They are those of the run's evaluation, if it measured with this recognizer; otherwise none.

    Args:
        model: the run folder.
        recognizer: of the user.
    """
    from cgan_tf.core.run_folder import RunFolder
    from cgan_tf.evaluation import figures, report

    try:
        stage = RunFolder(model).stage("evaluate")
        measured = report.read_report(stage) if stage.finished() else {}
    except UserError:  # of an older version
        measured = {}
    block = measured.get("identity")
    if not block or block["model"] != recognizer.description:
        return {}
    limits = block["thresholds"]
    return {
        percent: limits[key]
        for key, percent in figures.SAME_PERSON.items()
        if limits[key] is not None
    }


def same_person(distance: float | None, thresholds: dict[str, float]) -> str:
    """The fewest false accepts at which the faces are of the same person, "no", or "" if unknown.

    Args:
        distance: of the faces; None without a recognizer.
        thresholds: by the false accepts, in ascending order.
    """
    if distance is None or not thresholds:
        return ""
    return next((text for text, limit in thresholds.items() if distance < limit), "no")


# ---- photos and results ------------------------------------------------------------------------


@dataclasses.dataclass
class Table:
    """What was done with each photo of a folder: a row for each face.

    Attributes:
        path: of the CSV file; None, for a single photo, writes none.
        folder: of the photos, that their names are relative to; None for their names alone.
        thresholds: of the face recognizer, see `known_thresholds`.
        rows: one per face, or one for a photo that was skipped.
    """

    path: Path | None
    folder: Path | None = None
    thresholds: dict[str, float] = dataclasses.field(default_factory=dict)
    rows: list[dict[str, object]] = dataclasses.field(default_factory=list)

    @property
    def edited(self) -> int:
        """Number of edited faces."""
        return sum(row["status"] == "edited" for row in self.rows)

    def add(self, photo: "Photo", faces: list[EditedFace], notes: list[str]) -> None:
        """Adds the rows of an edited photo; the notes are what the result has not of it."""
        for number, one in enumerate(faces, 1):
            self.rows.append(
                {
                    "file": photo_name(photo.path, self.folder),
                    "status": "edited",
                    "output": photo_name(photo.target, self.path and self.path.parent),
                    "face": number,
                    "faces": len(faces),
                    **place_columns(one.portrait.face, *photo.file.pixels.shape[:2]),
                    "psnr": f"{one.psnr:.2f}",
                    "distance": "" if one.distance is None else f"{one.distance:.4f}",
                    "same_person": same_person(one.distance, self.thresholds),
                    "edit": one.edit,
                    "note": "; ".join(filter(None, [one.portrait.words, one.warning, *notes])),
                }
            )

    def skip(self, path: Path, reason: str) -> None:
        """Adds the row of a photo that cannot be edited, and reports it."""
        tqdm.write(f"skipped: {reason}", file=sys.stderr)
        self.rows.append(
            {"file": photo_name(path, self.folder), "status": "skipped", "note": reason}
        )

    def summary(self) -> str:
        """The counts, in one line."""
        photos = {row["file"] for row in self.rows if row["status"] == "edited"}
        skipped = sum(row["status"] == "skipped" for row in self.rows)
        where = "" if self.path is None else f"{self.path}: "
        edited = f"{count_of(self.edited, 'face')} edited in {count_of(len(photos), 'photo')}"
        return f"{where}{edited}, {count_of(skipped, 'photo')} skipped"

    def write(self) -> None:
        """Writes the table, atomically."""
        if self.path is not None:
            write_table(self.path, COLUMNS, self.rows)


@dataclasses.dataclass(frozen=True)
class Photo:
    """A decoded photo and the faces to edit."""

    path: Path
    target: Path
    file: photo_file.PhotoFile
    frames: int  # of which the first is edited
    portraits: list[Portrait]
    number: int  # among all photos, from 1


def read_photos(
    paths: list[Path], targets: list[Path], backend: "Backend", which: str | int, table: Table
) -> Iterator[Photo]:
    """The photos that can be edited; the others are reported, and noted in the table.

    Args:
        paths: of the photos.
        targets: of their results.
        backend: the loaded model.
        which: of the faces; see `portraits.parse_face`.
        table: without a path it is that of a single photo, which is not skipped.

    Raises:
        UserError: a single photo that cannot be edited.
    """
    for number, (path, target) in enumerate(zip(paths, targets, strict=True), 1):
        try:
            file = photo_file.read_file(path)
            frames = images.frame_count(path)
        except UserError as error:
            if table.path is None:
                raise UserError(f"--image: {error}; give another photo") from None
            table.skip(path, str(error))
            continue
        try:
            found = portraits(file.pixels, backend.resolution, backend.aligned, which)
        except UserError as error:
            if table.path is None:
                raise UserError(f"--image={path}: {error}") from None
            table.skip(path, f"{path}: {error}")
            continue
        yield Photo(path, target, file, frames, found, number)


def grouped(photos: Iterator[Photo], faces: int) -> Iterator[list[Photo]]:
    """Groups of consecutive photos with at least so many faces; the last may have fewer."""
    group: list[Photo] = []
    for photo in photos:
        group.append(photo)
        if sum(len(one.portraits) for one in group) >= faces:
            yield group
            group = []
    if group:
        yield group


def edit_group(group: list[Photo], editor: FaceEditor, table: Table) -> None:
    """Edits photos whose codes are found together, saves and reports each.

    Raises:
        UserError: the format of the result cannot hold a single photo; one of a folder is skipped.
    """
    results = editor.edit([(photo.file.pixels, photo.portraits) for photo in group])
    for photo, (pixels, faces) in zip(group, results, strict=True):
        notes = [f"the first of its {photo.frames} frames"] if photo.frames > 1 else []
        if editor.renderer.faces_alone:
            images.save_png(photo.target, pixels)
        else:
            try:
                notes += photo.file.save(photo.target, photo.file.edited(pixels))
            except UserError as error:
                if table.path is None:
                    raise
                table.skip(photo.path, str(error))
                continue
        if notes:
            tqdm.write(f"{photo.path}: {'; '.join(notes)}", file=sys.stderr)
        for one in faces:
            where = f"{photo.path} ({one.portrait.words})"
            if one.warning:
                tqdm.write(f"warning: {where}: {one.warning}", file=sys.stderr)
            distance = "" if one.distance is None else f"; distance {one.distance:.4f}"
            tqdm.write(f"{where} -> {photo.target}: {one.edit}{distance}")
        table.add(photo, faces, notes)


# ---- the command -------------------------------------------------------------------------------


def define_flags() -> None:
    """Defines the command's flags."""
    flags.DEFINE_string(
        "model", None, "run folder, SavedModel folder, .tflite file or name of a model"
    )
    flags.DEFINE_string("image", None, "photo, or tree of folders, of any size and format")
    flags.DEFINE_string(
        "edit", None, "strengths by attribute (Smiling=+1.0,Blond_Hair=-0.5); +1 is a full step"
    )
    flags.DEFINE_string(
        "set",
        None,
        "values by attribute (Smiling=0.8,Male=0.2) that the regressor shall predict after the "
        "edit, from 0 (absent) to 1 (present); not for a .tflite file, which has no regressor",
    )
    flags.DEFINE_string(
        "output",
        None,
        f"file for one photo, whose ending is its format ({' '.join(photo_file.FORMATS)}); folder "
        "for several, whose results keep their formats where these are among them, else PNG; "
        "faces alone (--crop, --strip) are PNG",
    )
    flags.DEFINE_string(
        "face",
        None,
        "faces to edit: all, a number (1 is the largest), or center, the center square of the "
        "photo; by default all if the model was trained in CelebA's framing, else center",
    )
    flags.DEFINE_bool(
        "keep_detail",
        False,
        "keep the photo's own detail, which is finer than the model's, wherever the edit leaves it "
        "in place",
    )
    flags.DEFINE_integer(
        "tune",
        None,
        "number of steps that adapt the generator to each face first; the model on disk does not "
        "change",
        lower_bound=1,
    )
    flags.DEFINE_enum(
        "inversion",
        "encoder",
        INVERSIONS,
        "how the face's code is found: by the encoder; by optimization from the encoder's code "
        "(hybrid), or from the mean latent and random samples (optimize)",
    )
    flags.DEFINE_integer(
        "steps",
        None,
        "number of steps of hybrid, and of each start of optimize; by default the run's",
        lower_bound=1,
    )
    flags.DEFINE_string(
        "mask",
        None,
        "the part of the face that hybrid and optimize reconstruct: an image file, white where "
        "pixels count, or ellipse, the face of an aligned photo",
    )
    flags.DEFINE_string(
        "identity_model",
        None,
        "face recognizer, FILE.onnx with FILE.json, that measures the distance of each edited face "
        "from the photo's",
    )
    flags.DEFINE_bool(
        "crop", False, "write each face alone, as the model sees it, instead of the complete photo"
    )
    flags.DEFINE_bool(
        "strip",
        False,
        "write a row for each face: the input, then the edit at -1 to +1 times the strengths",
    )
    flags.DEFINE_bool("overwrite", False, "replace existing output files")


def main() -> int:
    """Runs the command with the parsed flags; returns the exit code."""
    options = flags.FLAGS
    cli.require("model", "image", "output")
    request = edit_flags.parse(options.edit, options.set)
    check_inversion(options.inversion, options.steps, options.mask)
    if options.face is not None:
        parse_face(options.face)
    folder, output = expand(options.image, "--image"), expand(options.output, "--output")
    photos = find_photos(options.image, leave_out=output)
    is_folder = folder.is_dir()
    endings = (".png",) if options.crop or options.strip else tuple(photo_file.FORMATS)
    targets = plan_outputs(
        photos, folder if is_folder else None, options.output, options.overwrite, endings
    )
    if line := describe_folders(photos):
        print(f"--image={options.image}: {line}")
    if line := named_models.note(options.model):
        print(line)

    quiet.import_tensorflow()
    from cgan_tf.editing import backends, recognizer, tuning

    known = None
    if options.identity_model:
        known = recognizer.load(options.identity_model, "identity_model")
    with flag_errors():
        backend = backends.open_backend(options.model, scores=bool(request.targets))
        request.check_names(backend.attributes)
    which = choose_face(options.face, backend.aligned)
    projector = open_projector(backend, options)
    editor = FaceEditor(
        request,
        FaceRenderer(backend, options.keep_detail, options.strip, options.crop),
        Inverter(backend, options.inversion, projector),
        tuning.Tuner.of(projector) if options.tune else None,
        options.tune or 0,
        known,
    )

    evaluated = known is not None and isinstance(backend, backends.KerasBackend)
    table = Table(
        output / TABLE if is_folder else None,
        folder if is_folder else None,
        known_thresholds(options.model, known) if evaluated else {},
    )
    bar = tqdm(
        total=len(photos),
        unit=" photos",
        desc="translate",
        dynamic_ncols=True,
        disable=not (is_folder and sys.stderr.isatty()),
    )
    start = time.perf_counter()
    with finally_written(lambda: table.edited and table.write()), bar, flag_errors():
        readable = read_photos(photos, targets, backend, which, table)
        for group in grouped(readable, editor.inverter.batch):
            edit_group(group, editor, table)
            bar.update(group[-1].number - bar.n)
    if not table.edited:
        raise UserError(
            f"--image={options.image}: none of its {len(photos)} photos could be edited"
        )
    if is_folder or projector is not None:
        print(f"{table.summary()}; {(time.perf_counter() - start) / table.edited:.2f} s a face")
    return 0
