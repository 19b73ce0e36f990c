"""The Python interface: `load_editor` and `Editor`."""

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cgan_tf.core import quiet
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import NO_HOME
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.data import images, photo_file
from cgan_tf.data.photo_file import PhotoFile
from cgan_tf.data.portraits import Portrait, choose_face, portraits
from cgan_tf.editing.errors import EditorError
from cgan_tf.editing.faces import FaceEditor, FaceRenderer, Inverter
from cgan_tf.editing.request import EditRequest

if TYPE_CHECKING:  # importing it would start TensorFlow
    from cgan_tf.editing.backends import Backend

Path_ = str | os.PathLike[str]
Array = NDArray[Any]  # uint8 [H, W, 3], or floats in [-1, 1]


def load_editor(model: Path_) -> "Editor":
    """Loads an editor: a run folder, a SavedModel folder, a .tflite file or a named model.

    TensorFlow is imported now, without its start-up messages.

    Args:
        model: path of the model, or its name in `cgan models`; a path that exists comes first.

    Warns:
        UserWarning: a model of this name ships, but the user's own one is loaded.

    Raises:
        EditorError: the path is missing, not a model, unfinished or damaged.
    """
    quiet.import_tensorflow()
    from cgan_tf.editing import backends, named_models

    if note := named_models.note(model):
        warnings.warn(note, stacklevel=2)

    with _errors("model"):
        form, place = backends.find_model(model)
        scores = form in ("saved_model", "named") or (
            form == "run" and RunFolder(place).stage("regressor").finished()
        )
        return Editor(backends.open_backend(model, scores))


class Editor:
    """Edits the attributes of the faces in photos.

    A photo is a path, a PIL image, or an array `[H, W, 3]`: uint8, or floats in [-1, 1]. The EXIF
    orientation of files and PIL images is applied. A model that was trained on CelebA's aligned
    photos edits the faces that it finds; any other model edits the center square of the photo.

    All methods raise `EditorError` for wrong input.

    Args:
        backend: the loaded model; use `load_editor`.
    """

    def __init__(self, backend: "Backend") -> None:
        self._backend = backend

    def __repr__(self) -> str:
        return f"Editor({self.resolution} px; {', '.join(self.attributes)})"

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes that can be edited."""
        return self._backend.attributes

    @property
    def resolution(self) -> int:
        """Side of the square that the model sees of a face, in px."""
        return self._backend.resolution

    @property
    def score_names(self) -> tuple[str, ...]:
        """The attributes that can be scored, and be given a target; empty for a .tflite file."""
        return self._backend.score_names

    @overload
    def edit(
        self,
        photo: Path_ | Image.Image,
        *,
        strengths: Mapping[str, float] | None = None,
        target: Mapping[str, float] | None = None,
        face: str | int | None = None,
        keep_detail: bool = False,
        **strengths_by_attribute: float,
    ) -> Image.Image: ...

    @overload
    def edit(
        self,
        photo: Array,
        *,
        strengths: Mapping[str, float] | None = None,
        target: Mapping[str, float] | None = None,
        face: str | int | None = None,
        keep_detail: bool = False,
        **strengths_by_attribute: float,
    ) -> Array: ...

    def edit(
        self,
        photo: Path_ | Image.Image | Array,
        *,
        strengths: Mapping[str, float] | None = None,
        target: Mapping[str, float] | None = None,
        face: str | int | None = None,
        keep_detail: bool = False,
        **strengths_by_attribute: float,
    ) -> Image.Image | Array:
        """The photo with its faces edited, as `cgan translate` edits them.

            editor.edit("me.jpg", Smiling=+1, Eyeglasses=-0.5)
            editor.edit("me.jpg", target={"Smiling": 0.8}, keep_detail=True)

        Args:
            photo: see the class.
            strengths: {attribute: strength}; +1 is one calibrated step. Attributes whose names are
                Python identifiers can be given as keyword arguments instead.
            target: {attribute: value in [0, 1] that the regressor shall predict after the edit}.
                The strength is searched for each face. Not for a .tflite file.
            face: "all"; "center", the center square of the photo; or a number, of which 1 is the
                largest face. None is "all" for models trained on CelebA's aligned photos, and
                "center" for others. Photos with exactly CelebA's proportions are assumed to be
                aligned: None and "all" take CelebA's crop of them.
            keep_detail: keep the photo's own detail wherever the edit leaves it in place.

        Returns:
            A PIL image of the photo's size, upright, in its own colors: L, LA, RGB or RGBA. Its
            `info` has the photo's icc_profile, exif, xmp and dpi for Pillow's `save`, as far as
            there are any. For an array an array of its shape and dtype. A photo without color
            stays without.

        Warns:
            UserWarning: a face is reconstructed unusually badly.

        Raises:
            EditorError: an unknown attribute, a number out of range, a photo that cannot be read or
                shows no face, or a target for a model without a regressor.
        """
        request = EditRequest(
            _merged(strengths, strengths_by_attribute), dict(target) if target else {}
        )
        request.check()
        request.check_names(self.attributes)
        missing = [name for name in request.targets if name not in self.score_names]
        if missing:
            raise EditorError("target", f"no prediction of {missing[0]}: {self._no_scores}")
        original, name = _read(photo)
        pixels = original if isinstance(original, np.ndarray) else original.pixels
        found = self._portraits(pixels, name, face)
        renderer = FaceRenderer(self._backend, keep_detail)
        ((edited, faces),) = FaceEditor(request, renderer, Inverter(self._backend)).edit(
            [(pixels, found)]
        )
        for one in faces:
            if one.warning:
                warnings.warn(f"{name} ({one.portrait.words}): {one.warning}", stacklevel=2)
        if isinstance(photo, np.ndarray):
            return _like(photo, pixels, edited)
        return original.edited(edited)

    def scores(
        self, photo: Path_ | Image.Image | Array, *, face: str | int | None = None
    ) -> dict[str, float]:
        """The regressor's predictions for a photo's largest face: {attribute: probability}.

        Args:
            photo: see the class.
            face: "center", or the number of another face; see `edit`.

        Raises:
            EditorError: the model has no regressor, or the photo cannot be read or shows no face.
        """
        if not self.score_names:
            raise EditorError("model", self._no_scores)
        original, name = _read(photo)
        pixels = original if isinstance(original, np.ndarray) else original.pixels
        crop = self._portraits(pixels, name, face)[0].crop
        scores = self._backend.run("attributes", image=images.to_float(crop[None]))["scores"][0]
        return {name: float(score) for name, score in zip(self.score_names, scores, strict=True)}

    _no_scores = (
        "this model has no regressor; load the run folder or the SavedModel that it was made from"
    )

    def _portraits(self, pixels: np.ndarray, name: str, face: str | int | None) -> list[Portrait]:
        """The faces that `face` names, largest first."""
        with _errors("face"):
            which = choose_face(None if face is None else str(face), self._backend.aligned)
        with _errors("photo", name):
            return portraits(pixels, self.resolution, self._backend.aligned, which)


def _merged(strengths: Mapping[str, float] | None, more: Mapping[str, float]) -> dict[str, float]:
    """Both ways to give strengths as one dictionary."""
    strengths = dict(strengths or {})
    for name in more:
        if name in strengths:
            raise EditorError("strengths", "given twice; give it once", name)
    return strengths | more


@contextmanager
def _errors(argument: str, value: str = "") -> Iterator[None]:
    """Turns a `UserError`, whose message may name a flag, into an `EditorError` that does not."""
    try:
        yield
    except EditorError:
        raise
    except UserError as error:
        raise EditorError(argument, str(error).replace("--face", "face"), value) from None


def _read(photo: Path_ | Image.Image | Array) -> tuple[np.ndarray | PhotoFile, str]:
    """A photo, of an array its pixels uint8 `[H, W, 3]`, and what to call it in a message."""
    if isinstance(photo, np.ndarray):
        return _array_pixels(photo), "photo"
    if isinstance(photo, Image.Image):
        with _errors("photo", "photo"):
            return photo_file.read(photo, "photo"), "photo"
    if not isinstance(photo, str | os.PathLike):
        kind = type(photo).__name__
        raise EditorError("photo", f"a {kind}; give a path, a PIL image or an array", "photo")
    try:
        path = Path(photo).expanduser()
    except RuntimeError:
        raise EditorError("photo", NO_HOME, photo) from None
    if not path.exists():
        raise EditorError("photo", "no such file", photo)
    if path.is_dir():
        raise EditorError("photo", "a folder; give one photo", photo)
    try:
        with _errors("photo", str(photo)), open(path, "rb") as file:
            return photo_file.read(file, str(photo)), str(photo)
    except OSError as error:
        raise EditorError("photo", error.strerror or str(error), photo) from None


def _array_pixels(photo: np.ndarray) -> np.ndarray:
    if photo.ndim != 3 or photo.shape[2] != 3 or not photo.size:
        raise EditorError("photo", f"an array of shape {photo.shape}; give [H, W, 3]", "photo")
    if photo.dtype == np.uint8:
        return photo
    if not np.issubdtype(photo.dtype, np.floating):
        raise EditorError(
            "photo", f"an array of {photo.dtype}; give uint8, or floats in [-1, 1]", "photo"
        )
    if not (np.abs(photo) <= 1).all():  # also of NaN
        raise EditorError(
            "photo",
            f"an array of values from {photo.min():g} to {photo.max():g}; give floats in [-1, 1], "
            "or uint8",
            "photo",
        )
    return images.to_uint8(photo)


def _like(photo: np.ndarray, pixels: np.ndarray, edited: np.ndarray) -> np.ndarray:
    """The edited pixels in the photo's dtype; what the edit has not changed stays exactly as it is.

    Args:
        photo: uint8, or floats in [-1, 1], `[H, W, 3]`.
        pixels: the photo as uint8.
        edited: uint8.
    """
    if photo.dtype == np.uint8:
        return edited
    return np.where(edited == pixels, photo, images.to_float(edited).astype(photo.dtype))
