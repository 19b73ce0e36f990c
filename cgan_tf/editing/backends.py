"""One interface to the forms of an editor: run folder, SavedModel, TFLite file, named model.

`Editor` and the commands edit photos with them. The exporter's parity check calls the same
signatures of all forms and compares the outputs.
"""

import abc
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from cgan_tf.core.errors import UserError, first_line
from cgan_tf.core.files import NO_HOME, impossible
from cgan_tf.core.quiet import native_stderr_held
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.core.saved_models import GRAPH_NAME, numbered_versions, without_wildcards
from cgan_tf.editing import description, named_models
from cgan_tf.editing.description import ASSETS, CELEBA_CROP, DESCRIPTION_NAME
from cgan_tf.editing.errors import EditorError
from cgan_tf.editing.network import EditingNetwork
from cgan_tf.editing.tflite_file import REMEDY, TFLiteFile, read_bytes


class Backend(abc.ABC):
    """A loaded model. All arrays are float32, images `[N, R, R, 3]` in [-1, 1].

    Attributes:
        attributes: the K names of the directions, in the order of the strengths.
        resolution: side of the images in px.
        aligned: whether the model was trained on CelebA's aligned photos and their crop, or on
            what `cgan align` writes; if not, on the largest centered squares.
        psnr_p5: 5th percentile of the validation photos' reconstruction PSNR, dB; None in older
            runs and exports.
        score_names: the attributes that the signature `attributes` scores, in order; empty without
            a regressor.
    """

    score_names: tuple[str, ...] = ()

    def __init__(
        self,
        attributes: tuple[str, ...],
        resolution: int,
        crop: str,
        psnr_p5: float | None = None,
    ) -> None:
        self.attributes = attributes
        self.resolution = resolution
        self.aligned = crop == CELEBA_CROP
        self.psnr_p5 = psnr_p5

    @abc.abstractmethod
    def run(self, signature: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs of a signature (`description.signatures`) for inputs of any batch size."""

    def _check_signatures(
        self,
        path: Path,
        form: str,
        names: Collection[str],
        inputs: Mapping[tuple[str, str], tuple[int | None, ...]],
    ) -> None:
        """Checks that an exported model has the signatures of an editor and fits its description.

        Args:
            path: of the model, for the error.
            form: of the model, for the error.
            names: of its signatures.
            inputs: their shapes, by signature and name.

        Raises:
            UserError: a signature is missing, or takes other shapes.
        """
        for name in ("translate", "encode", "generate"):
            if name not in names:
                raise UserError(f"{path}: a {form} without the signature {name}; {REMEDY}")
        image = (self.resolution, self.resolution, 3)
        strengths = (len(self.attributes),)
        for name in ("translate", "generate"):
            if inputs.get((name, "strengths"), ())[1:] != strengths:
                raise UserError(f"{path}: its attribute names belong to another model; {REMEDY}")
        for name in ("translate", "encode"):
            if inputs.get((name, "image"), ())[1:] != image:
                raise UserError(f"{path}: its description belongs to another model; {REMEDY}")

    def translate(self, image: np.ndarray, strengths: np.ndarray) -> np.ndarray:
        """The edited images for strengths `[N, K]`."""
        return self.run("translate", image=image, strengths=strengths)["image"]

    def encode(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """The code of images: `latent`, and `features` if the model has detail features."""
        return self.run("encode", image=image)

    def generate(self, code: Mapping[str, np.ndarray], strengths: np.ndarray) -> np.ndarray:
        """The images of codes from `encode`, edited by strengths `[N, K]`."""
        return self.run("generate", **code, strengths=strengths)["image"]


class KerasBackend(Backend):
    """An `EditingNetwork`, run by Keras on the CPU: a GPU may round to TF32.

    Attributes:
        network: the model.
    """

    def __init__(self, network: EditingNetwork, crop: str, psnr_p5: float | None = None) -> None:
        super().__init__(network.attributes, network.resolution, crop, psnr_p5)
        self.network = network
        if network.regressor is not None:
            self.score_names = network.regressor.attribute_names

    def run(self, signature: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        function = self.network.signatures[signature]
        with tf.device("CPU:0"):
            tensors = {name: tf.constant(value, tf.float32) for name, value in inputs.items()}
            return {name: value.numpy() for name, value in function(**tensors).items()}


class SavedModelBackend(Backend):
    """A SavedModel that `cgan export` wrote.

    Attributes:
        description: the content of its model.json.
        signatures: the names that `run` accepts.
    """

    def __init__(self, folder: Path) -> None:
        self.description = description.read_description(folder / ASSETS / DESCRIPTION_NAME, folder)
        super().__init__(*description.facts(self.description, folder))
        try:
            with native_stderr_held(), tf.device("CPU:0"), without_wildcards(folder) as path:
                self._model = tf.saved_model.load(path)
        except Exception as error:  # a damaged file makes TensorFlow raise errors of many types
            raise UserError(f"{folder}: damaged SavedModel ({first_line(error)})") from None
        self._folder = folder
        self._functions = self._model.signatures
        self.signatures = tuple(self._functions)
        inputs = {
            (name, key): tuple(spec.shape)
            for name, function in self._functions.items()
            for key, spec in function.structured_input_signature[1].items()
        }
        self._check_signatures(folder, "SavedModel", self.signatures, inputs)
        z_shape = inputs.get(("sample", "z"))
        if z_shape is not None and z_shape[1:] != (self.description.get("z_dim"),):
            raise UserError(f"{folder}: its description belongs to another model; {REMEDY}")
        if "attributes" in self.signatures:
            self.score_names = tuple(self.description.get("scores", ()))

    def run(self, signature: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        with tf.device("CPU:0"):
            tensors = {name: tf.constant(value, tf.float32) for name, value in inputs.items()}
            try:
                outputs = self._functions[signature](**tensors)
            except tf.errors.OpError as error:
                raise UserError(
                    f"{self._folder}: {signature} failed ({first_line(error)}); {REMEDY}"
                ) from None
            return {name: value.numpy() for name, value in outputs.items()}


class TFLiteBackend(Backend):
    """A .tflite file that `cgan export` wrote. Its batch size is 1, so it runs row by row.

    Attributes:
        description: the content of its model.json.
    """

    def __init__(self, path: Path, content: bytes | None = None) -> None:
        if content is None:
            content = read_bytes(path)
        self._file = TFLiteFile(path, content)
        self.description = description.tflite_description(path, content)
        super().__init__(*description.facts(self.description, path))
        self._check_signatures(path, "TFLite model", self._file.signatures, self._file.inputs)

    def run(self, signature: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        return self._file.run(signature, **inputs)


class NamedBackend(TFLiteBackend):
    """A named model: a translator and, in another .tflite file, the signature `attributes`."""

    def __init__(self, folder: Path) -> None:
        model = named_models.read(folder)
        model.check_hashes()  # some damages would make the runtime abort the process
        super().__init__(folder / named_models.MODEL)
        self._scores = TFLiteFile(folder / named_models.SCORES)
        if "attributes" not in self._scores.signatures:
            raise UserError(
                f"{folder / named_models.SCORES}: a TFLite model without the signature attributes; "
                f"{named_models.REMEDY}"
            )
        self.score_names = tuple(model.description["scores"])

    def shapes(self) -> dict[str, tuple[dict[str, tuple], dict[str, tuple]]]:
        """Shapes of the inputs and of the outputs of each signature, by name; batches of 1."""
        names = dict.fromkeys(self._file.signatures, self._file) | {"attributes": self._scores}
        return {
            name: tuple(
                {key: shape for (owner, key), shape in shapes.items() if owner == name}
                for shapes in (file.inputs, file.outputs)
            )
            for name, file in names.items()
        }

    def run(self, signature: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        file = self._scores if signature == "attributes" else self._file
        return file.run(signature, **inputs)


def run_on_cpu(function: Callable[..., tf.Tensor], **inputs: np.ndarray) -> np.ndarray:
    """Calls the function on the CPU with float32 tensors: a GPU may round to TF32."""
    with tf.device("CPU:0"):
        tensors = {name: tf.constant(value, tf.float32) for name, value in inputs.items()}
        return function(**tensors).numpy()


def sample_prior(draw: np.random.Generator, prior: str, count: int, z_dim: int) -> np.ndarray:
    """z float32 `[count, z_dim]` for the signature `sample`; prior is "normal" or "uniform"."""
    shape = (count, z_dim)
    uniform = prior == "uniform"
    return np.float32(draw.uniform(-1, 1, shape) if uniform else draw.standard_normal(shape))


def open_backend(path: str | Path, scores: bool = False) -> Backend:
    """Loads a model: a run folder, a SavedModel folder, a .tflite file or a named model.

    Args:
        path: of the model, or its name.
        scores: whether the signature `attributes` is needed. Without it a run folder is loaded
            without its regressor.

    Raises:
        EditorError: the path is missing or not a model, or a .tflite file has no scores.
        UserError: the model is unfinished, damaged, or has no scores.
    """
    form, place = find_model(path)
    if form == "tflite":
        if scores:
            reason = (
                "a .tflite file has no regressor, which target predictions need; give the run "
                "folder or the SavedModel, or only strengths"
            )
            raise EditorError("model", reason, path)
        return TFLiteBackend(place)
    if form in ("saved_model", "named"):
        backend = SavedModelBackend(place) if form == "saved_model" else NamedBackend(place)
        if scores and not set(backend.attributes) <= set(backend.score_names):
            raise UserError(f"{place}: a model without its attributes' scores; {REMEDY}")
        return backend
    run = RunFolder(place)
    crop = description.training_crop(run)
    network = EditingNetwork.from_run(place, scores, custom=True)
    return KerasBackend(network, crop, description.psnr_p5(run))


def find_model(path: str | Path) -> tuple[str, Path]:
    """The form of a model, "run", "saved_model", "tflite" or "named", and its place.

    Only looks at names: a damaged model is found, too. A path that exists comes before a named
    model.

    Args:
        path: of the model, or its name.

    Raises:
        EditorError: the path is missing or not a model.
    """
    try:
        place = Path(path).expanduser()
    except RuntimeError:
        raise EditorError("model", NO_HOME, path) from None
    if reason := impossible(place):
        raise EditorError("model", f"{reason}; give another path", str(path)[:100])
    named = named_models.folder_of(place)
    if named is not None:
        return "named", named
    if not place.exists():
        reason = (
            "no such file or folder; give a run folder, a SavedModel folder, a .tflite file or the "
            "name of a model"
        )
        if named_models.is_name(str(place)):
            reason += named_models.others(str(place))
    elif place.is_file():
        if place.suffix == ".tflite":
            return "tflite", place
        reason = "not a model; a file must be a .tflite"
    elif (place / "saved_model.pb").exists():
        return "saved_model", place
    elif (place / "config.json").exists():
        return "run", place
    elif (version := newest_version(place)) is not None:
        return "saved_model", version
    elif newest_version(inside := place / "saved_model") or (inside / "saved_model.pb").exists():
        reason = f"not a model; did you mean {inside}?"
    else:
        reason = (
            "not a model; it contains neither config.json (a run folder) nor saved_model.pb (a "
            "SavedModel)"
        )
    if place.exists() and (known := named_models.locate(str(place))):
        reason += f"; the named model is {known[0]}"
    raise EditorError("model", reason, path)


def newest_version(folder: Path) -> Path | None:
    """The SavedModel of the highest version in a folder for TensorFlow Serving (1/, 2/, ...).

    None if the folder contains no numbered SavedModel.
    """
    versions = numbered_versions(folder)
    complete = [number for number, path in versions.items() if (path / GRAPH_NAME).exists()]
    return versions[max(complete)] if complete else None
