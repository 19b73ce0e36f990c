"""The edit of the faces in a photo: encode each, move its code, generate it and paste it back.

`Editor` and `cgan translate` both edit with `FaceEditor`.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cgan_tf.data import face_crop, images
from cgan_tf.data.portraits import Portrait
from cgan_tf.editing.errors import EditorError
from cgan_tf.editing.request import EditRequest

if TYPE_CHECKING:  # importing them would start TensorFlow
    from cgan_tf.editing.backends import Backend
    from cgan_tf.editing.projection import Projector
    from cgan_tf.editing.recognizer import Recognizer
    from cgan_tf.editing.tuning import Tuner

Code = dict[str, np.ndarray]  # of one face: its latent, and features if the model has them

INVERSIONS = ("encoder", "hybrid", "optimize")
STRIP_FACTORS = (-1.0, -0.5, 0.0, 0.5, 1.0)  # multiply the requested strengths
_LABEL_HEIGHT = 16  # px, below each tile of a strip
_LABEL_SIZE = 11  # px


# ---- inversion ---------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Inverter:
    """Finds the codes of faces.

    Attributes:
        backend: the loaded model.
        mode: one of `INVERSIONS`.
        projector: for "hybrid" and "optimize".
    """

    backend: "Backend"
    mode: str = "encoder"
    projector: "Projector | None" = None

    @property
    def batch(self) -> int:
        """Number of faces that should be inverted together."""
        if self.mode == "encoder":
            return 1
        from cgan_tf.editing import projection

        return projection.BATCH

    def encode(self, crop: np.ndarray) -> Code:
        """The encoder's code of a crop uint8 `[R, R, 3]`."""
        code = self.backend.encode(images.to_float(crop[None]))
        return {name: value[0] for name, value in code.items()}

    def invert(self, crops: list[np.ndarray], encoded: list[Code]) -> list[Code]:
        """The codes of crops.

        Args:
            crops: uint8 `[R, R, 3]`.
            encoded: their codes by `encode`.
        """
        if self.mode == "encoder":
            return encoded
        from cgan_tf.editing import projection

        batches = projection.invert(self.projector, images.to_float(np.stack(crops)), self.mode)
        return [
            {name: found[name] for name in first}
            for first, found in zip(
                encoded, (code for batch in batches for code in batch.codes()), strict=True
            )
        ]


# ---- rendering ---------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class FaceRenderer:
    """Renders edited faces.

    Attributes:
        backend: the loaded model.
        keep_detail: keep the photo's own detail wherever the edit leaves it in place.
        strip: render a labeled row for each face: the input, then the edit times `STRIP_FACTORS`.
        crop: render each face alone, as the model sees it, instead of the complete photo.
    """

    backend: "Backend"
    keep_detail: bool = False
    strip: bool = False
    crop: bool = False

    @property
    def faces_alone(self) -> bool:
        """Whether the result contains the faces without the photo."""
        return self.strip or self.crop

    def generate(self, code: Code, strengths: np.ndarray) -> np.ndarray:
        """The generated image, float32 `[R, R, 3]`, of a code moved by strengths `[K]`.

        Raises:
            EditorError: the image is not finite.
        """
        # One by one, so that an edit is the same, bit for bit, in a strip and alone.
        batch = {name: value[None] for name, value in code.items()}
        image = self.backend.generate(batch, strengths[None])[0]
        if not np.isfinite(image).all():
            raise EditorError(
                "strengths", "the image for these strengths is not finite; lower them"
            )
        return image

    def before(self, code: Code) -> np.ndarray | None:
        """The generated image without the edit; None without keep_detail, which alone needs it."""
        if not self.keep_detail:
            return None
        return self.generate(code, np.zeros(len(self.backend.attributes), np.float32))

    def render_function(self, portrait: Portrait, code: Code) -> Callable[[np.ndarray], np.ndarray]:
        """A function from strengths `[n, K]` to images of the edited face, for `EditRequest`.

        Args:
            portrait: the face.
            code: its code.
        """
        before = functools.cache(lambda: self.before(code))
        crop = images.to_float(portrait.crop)[None]

        def render(strengths: np.ndarray) -> np.ndarray:
            edited = np.stack([self.generate(code, row) for row in strengths])
            if not self.keep_detail:
                return edited
            return face_crop.keep_detail(crop, edited, before()[None])

        return render

    def render(
        self, pixels: np.ndarray, portrait: Portrait, code: Code, strengths: np.ndarray
    ) -> np.ndarray:
        """The photo uint8 `[H, W, 3]` with the edited face in it, or the face alone.

        Args:
            pixels: the photo, with the faces before this one already edited.
            portrait: the face.
            code: its code.
            strengths: float32 `[K]`.
        """
        before = self.before(code)
        if not self.faces_alone:
            image = self.generate(code, strengths)
            return face_crop.paste_face(pixels, image, portrait.face, before)
        tiles = []
        for factor in np.float32(STRIP_FACTORS if self.strip else (1.0,)):
            image = self.generate(code, strengths * factor)
            if before is None:
                tiles.append(images.to_uint8(image))
            else:
                side = len(image)
                square = face_crop.FaceBox(side / 2, side / 2, side)
                tiles.append(face_crop.paste_face(portrait.crop, image, square, before))
        if not self.strip:
            return tiles[0]
        labels = ["input", *(f"{factor:+g}x" if factor else "0" for factor in STRIP_FACTORS)]
        return labeled_row([portrait.crop, *tiles], labels)


def labeled_row(tiles: list[np.ndarray], labels: list[str]) -> np.ndarray:
    """n tiles uint8 `[R, R, 3]` in a row, with labels below: uint8 `[R + 16, n * R, 3]`."""
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


# ---- photos ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class EditedFace:
    """What was done with one face.

    Attributes:
        portrait: the face.
        edit: the strengths and predictions, for the user.
        psnr: of the encoder's reconstruction, dB.
        distance: of the face before and after the edit, by the face recognizer; None without one.
        warning: for the user, if the reconstruction is unusually bad; else "".
    """

    portrait: Portrait
    edit: str
    psnr: float
    distance: float | None
    warning: str


@dataclasses.dataclass(frozen=True)
class FaceEditor:
    """Edits the faces of photos.

    Attributes:
        request: the edit.
        renderer: renders the edited faces.
        inverter: finds their codes.
        tuner: adapts the generator to each face first; None does not.
        tuning_steps: of the tuner.
        recognizer: measures how far each edited face is from the photo's.
    """

    request: EditRequest
    renderer: FaceRenderer
    inverter: Inverter
    tuner: "Tuner | None" = None
    tuning_steps: int = 0
    recognizer: "Recognizer | None" = None

    def edit(
        self, photos: Sequence[tuple[np.ndarray, list[Portrait]]]
    ) -> Iterator[tuple[np.ndarray, list[EditedFace]]]:
        """The edited photos, or the edited faces alone, as uint8 `[H, W, 3]`, and their faces.

        Args:
            photos: pixels uint8 `[H, W, 3]` and the portraits to edit. Their codes are found
                together.

        Raises:
            EditorError: an image is not finite.
        """
        crops = [portrait.crop for _, found in photos for portrait in found]
        encoded = [self.inverter.encode(crop) for crop in crops]
        codes = iter(zip(self.inverter.invert(crops, encoded), encoded, strict=True))
        for pixels, found in photos:
            result, alone, faces = pixels, [], []
            for portrait in found:
                code, start = next(codes)
                psnr = self._reconstruction_psnr(portrait.crop, start)
                rendered, edit, distance = self._edit_face(result, portrait, code)
                if self.renderer.faces_alone:
                    alone.append(rendered)
                else:
                    result = rendered
                warning = unlike_training(psnr, self.renderer.backend.psnr_p5)
                faces.append(EditedFace(portrait, edit, psnr, distance, warning))
            if alone:
                result = np.concatenate(alone)
            elif is_gray(pixels):
                result = np.asarray(Image.fromarray(result).convert("L").convert("RGB"))
            yield result, faces

    def _edit_face(
        self, pixels: np.ndarray, portrait: Portrait, code: Code
    ) -> tuple[np.ndarray, str, float | None]:
        """The rendered face, a description of its edit, and its distance from the photo's face."""
        tuned = contextlib.nullcontext()
        if self.tuner is not None:
            photo = images.to_float(portrait.crop)
            tuned = self.tuner.tuned(photo, code, self.tuning_steps)
        with tuned:
            render = self.renderer.render_function(portrait, code)
            strengths, edit = self.request.resolve(self.renderer.backend, render)
            rendered = self.renderer.render(pixels, portrait, code, strengths)
            distance = None
            if self.recognizer is not None:
                # The face alone, as the evaluation measures it, whatever the result shows.
                faces = [images.to_float(portrait.crop), render(strengths[None])[0]]
                before, after = self.recognizer.embed(np.stack(faces))
                distance = float(self.recognizer.distances(before[None], after[None])[0])
            return rendered, edit, distance

    def _reconstruction_psnr(self, crop: np.ndarray, code: Code) -> float:
        """PSNR in dB of the image that is generated from a code without an edit."""
        none = np.zeros(len(self.renderer.backend.attributes), np.float32)
        errors = np.float64(self.renderer.generate(code, none)) - images.to_float(crop)
        with np.errstate(divide="ignore"):
            return float(10.0 * np.log10(4.0 / np.mean(np.square(errors))))


def is_gray(pixels: np.ndarray) -> bool:
    """Whether a photo `[H, W, 3]` has no color; then its edited faces must have none either."""
    return bool(np.all(pixels == pixels[..., :1]))


def unlike_training(psnr: float, psnr_p5: float | None) -> str:
    """A warning for a face that is reconstructed worse than 95 % of the validation photos.

    Args:
        psnr: of its reconstruction, dB.
        psnr_p5: 5th percentile of the validation photos, dB; None if it is unknown.
    """
    if psnr_p5 is None or psnr >= psnr_p5:
        return ""
    return (
        f"unlike the training photos: reconstructed at {psnr:.1f} dB, 95 % of the validation "
        f"photos at {psnr_p5:.1f} dB or more"
    )
