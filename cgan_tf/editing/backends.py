"""One interface to the three forms of the finished editor: run folder, SavedModel, TFLite file.

Between what the stages and `export` left on disk and its users: `cgan translate`,
`cgan label`, and the exporter's parity check, which calls the same signatures of each form and
compares.
"""

import abc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from cgan_tf.core.errors import UserError
from cgan_tf.core.quiet import native_stderr_held
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.editing import description, detail
from cgan_tf.editing.description import _REMEDY, ASSETS, CELEBA_CROP, DESCRIPTION_NAME
from cgan_tf.editing.detail import KeepDetail
from cgan_tf.editing.models import read_directions
from cgan_tf.editing.network import Translator


class Editor(abc.ABC):
    """A loaded editor. All arrays are float32, images `[N, R, R, 3]` in [-1, 1].

    Attributes:
        attributes: the K names that the strengths stand for, in order.
        resolution: side of the images in px.
        aligned: it has learned from CelebA's aligned photos and their crop, not from the largest
            centered square.
        psnr_p5: dB that the reconstructions of nearly all validation photos have; None where an
            older run or export does not tell.
        keep_detail: for photos that get only the difference that an edit makes; None likewise.
        score_names: what the signature `attributes` scores, in order; nothing without a regressor.
    """

    score_names: tuple[str, ...] = ()

    def __init__(
        self,
        attributes: tuple[str, ...],
        resolution: int,
        crop: str,
        psnr_p5: float | None = None,
        keep_detail: KeepDetail | None = None,
    ) -> None:
        self.attributes = attributes
        self.resolution = resolution
        self.aligned = crop == CELEBA_CROP
        self.psnr_p5 = description.psnr_p5
        self.keep_detail = keep_detail

    @abc.abstractmethod
    def run(self, signature: str, **inputs: np.ndarray) -> np.ndarray:
        """The one output of a signature (see the design's table) for inputs of any batch size."""

    def translate(self, image: np.ndarray, strengths: np.ndarray) -> np.ndarray:
        """The edited images for strengths `[N, K]`."""
        return self.run("translate", image=image, strengths=strengths)


class KerasEditor(Editor):
    """A `Translator`, run by Keras on the CPU in plain float32 (a GPU may round to TF32)."""

    def __init__(
        self,
        translator: Translator,
        crop: str,
        psnr_p5: float | None = None,
        keep_detail: KeepDetail | None = None,
    ) -> None:
        super().__init__(
            translator.attributes, translator.resolution, crop, description.psnr_p5, keep_detail
        )
        self.translator = translator
        if translator.regressor is not None:
            self.score_names = translator.regressor.attribute_names
        self._functions = {
            "translate": translator.translate,
            "encode": translator.encode,
            "generate": translator.generate,
            "sample": translator.sample,
            "attributes": translator.score,
        }

    def run(self, signature: str, **inputs: np.ndarray) -> np.ndarray:
        return run_on_cpu(self._functions[signature], **inputs)


class SavedModelEditor(Editor):
    """A SavedModel that `cgan export` wrote.

    Attributes:
        description: its model.json.
        signatures: the names that `run` takes.
    """

    def __init__(self, folder: Path) -> None:
        self.description = description.read_description(folder / ASSETS / DESCRIPTION_NAME, folder)
        super().__init__(*description._essentials(self.description, folder))
        try:
            with native_stderr_held(), tf.device("CPU:0"):
                self._model = tf.saved_model.load(str(folder))
        except Exception as error:  # TensorFlow raises whatever a damaged file makes it trip on
            raise UserError(f"{folder}: damaged SavedModel ({description._reason(error)})") from None
        self._functions = self._model.signatures
        self.signatures = tuple(self._functions)
        if "translate" not in self.signatures:
            raise UserError(f"{folder}: a SavedModel without the signature translate; {_REMEDY}")
        if "attributes" in self.signatures:
            self.score_names = tuple(self.description.get("scores", ()))

    def run(self, signature: str, **inputs: np.ndarray) -> np.ndarray:
        with tf.device("CPU:0"):
            tensors = {name: tf.constant(value, tf.float32) for name, value in inputs.items()}
            (output,) = self._functions[signature](**tensors).values()
            return output.numpy()


class TFLiteEditor(Editor):
    """A .tflite file that `cgan export` wrote; its batch is 1, so it runs row by row."""

    def __init__(self, path: Path, content: bytes | None = None) -> None:
        if content is None:
            try:
                content = path.read_bytes()
            except OSError as error:
                raise UserError(f"{path}: {error.strerror}") from None
        try:
            with native_stderr_held():
                self._interpreter = Interpreter(model_content=content)
                self._interpreter.allocate_tensors()  # says which delegate it has made
                signatures = self._interpreter.get_signature_list()
                self._runners = {
                    name: self._interpreter.get_signature_runner(name) for name in signatures
                }
        except Exception as error:  # RuntimeError or ValueError with the runtime's own words
            raise UserError(f"{path}: damaged or no TFLite model ({description._reason(error)})") from None
        super().__init__(*description._essentials(description.tflite_description(path, content), path))
        if "translate" not in self._runners:
            raise UserError(f"{path}: a TFLite model without the signature translate; {_REMEDY}")
        strengths = self._runners["translate"].get_input_details().get("strengths")
        if strengths is None or strengths["shape"][-1] != len(self.attributes):
            raise UserError(f"{path}: its attribute names are those of another model; {_REMEDY}")

    def run(self, signature: str, **inputs: np.ndarray) -> np.ndarray:
        rows = []
        for index in range(len(next(iter(inputs.values())))):
            row = {name: np.float32(value[index : index + 1]) for name, value in inputs.items()}
            (output,) = self._runners[signature](**row).values()
            rows.append(output)
        return np.concatenate(rows)


def run_on_cpu(function: Callable[..., tf.Tensor], **inputs: np.ndarray) -> np.ndarray:
    """The function's output for the inputs as float32 tensors (a GPU may round to TF32)."""
    with tf.device("CPU:0"):
        tensors = {name: tf.constant(value, tf.float32) for name, value in inputs.items()}
        return function(**tensors).numpy()


def draw_prior(draw: np.random.Generator, prior: str, count: int, z_dim: int) -> np.ndarray:
    """z float32 `[count, z_dim]` for the signature `sample`; prior is "normal" or "uniform"."""
    shape = (count, z_dim)
    return np.float32(draw.uniform(-1, 1, shape) if prior == "uniform" else
                      draw.standard_normal(shape))  # fmt: skip


def open_editor(path: str, scores: bool = False) -> Editor:
    """Loads the editor behind --model: a run folder, a SavedModel folder or a .tflite file.

    Args:
        path: where it is.
        scores: the signature `attributes` is wanted too, for --set.

    Raises:
        UserError: it is missing, none of the three, unfinished, damaged, or without the scores.
    """
    form, place = find_model(path)
    if form == "tflite":
        if scores:
            raise UserError(
                f"--model={path}: a .tflite file has no regressor, by which --set is measured; "
                "give the run folder or the SavedModel, or strengths by --edit"
            )
        return TFLiteEditor(place)
    if form == "saved_model":
        editor = SavedModelEditor(place)
        if scores and not set(editor.attributes) <= set(editor.score_names):
            raise UserError(f"{place}: a SavedModel without its attributes' scores; {_REMEDY}")
        return editor
    run = RunFolder(place)
    crop = description.training_crop(run.load_config())
    translator = Translator.from_run(place, scores, own=True)
    directions = read_directions(run, translator.generator.latent_shape, own=True)
    keep = KeepDetail.of(
        detail.entries(directions), translator.attributes, translator.resolution, place
    )
    return KerasEditor(translator, crop, description.psnr_p5(run), keep)


def find_model(path: str) -> tuple[str, Path]:
    """Which form --model has, "run", "saved_model" or "tflite", and where it is; opens nothing.

    Raises:
        UserError: it is missing, or none of the three.
    """
    place = Path(path).expanduser()
    if not place.exists():
        raise UserError(
            f"--model={path}: no such file or folder; give a run folder, a SavedModel folder or a "
            ".tflite file"
        )
    if place.is_file():
        if place.suffix != ".tflite":
            raise UserError(f"--model={path}: not a model; a file must be a .tflite")
        return "tflite", place
    if (place / "saved_model.pb").exists():
        return "saved_model", place
    if (place / "config.json").exists():
        return "run", place
    version = newest_version(place)
    if version is not None:
        return "saved_model", version
    inside = place / "saved_model"
    if newest_version(inside) is not None or (inside / "saved_model.pb").exists():
        raise UserError(f"--model={path}: not a model; did you mean {inside}?")
    raise UserError(
        f"--model={path}: not a model; it holds neither config.json (a run folder) nor "
        "saved_model.pb (a SavedModel)"
    )


def newest_version(folder: Path) -> Path | None:
    """The SavedModel of the highest version in a folder as TensorFlow Serving takes them, 1/, 2/;
    None if it is no such folder."""
    versions = [file.parent for file in folder.glob("*/saved_model.pb")]
    numbered = [version for version in versions if version.name.isdecimal()]
    return max(numbered, key=lambda version: int(version.name), default=None)
