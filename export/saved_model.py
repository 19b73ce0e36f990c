"""Writes the editing network as a SavedModel, for servers (any batch) or the TFLite converter.

Only `ExportArchive.add_endpoint` is used: tracking the model as well, or `model.export`, would
write every weight twice, and saving a `tf.Module` that contains a Keras model loses them.

Graphs for servers refuse values that are not finite, and pixels that are clearly not in [-1, 1],
with an InvalidArgument error. Graphs for
devices do not check, since TFLite has no operator for it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cgan_tf.core.files import write_json
from cgan_tf.core.quiet import native_stderr_held
from cgan_tf.core.saved_models import without_wildcards
from cgan_tf.editing.description import ASSETS, DESCRIPTION_NAME, SQUARE_CROP
from cgan_tf.editing.network import EditingNetwork
from cgan_tf.export.image_bytes import read_squares, write_pngs
from cgan_tf.networks.codec import Code

# The first is also served as `serving_default`.
DEVICE_SIGNATURES = ("translate", "encode", "generate")
FLOAT_SIGNATURES = (*DEVICE_SIGNATURES, "sample", "attributes")
MAX_PIXEL = 1.5  # beyond [-1, 1], for images that were computed; 0 to 255 is far outside
SERVER_SIGNATURES = (*FLOAT_SIGNATURES, "translate_bytes")


def endpoints(
    network: EditingNetwork, batch: int | None, crop: str
) -> dict[str, tuple[Callable[..., dict[str, tf.Tensor]], list[tf.TensorSpec]]]:
    """Function and input specs of each signature, with the exported names."""
    side, functions, edited = network.resolution, network.signatures, "the edited image"

    def spec(name: str, *shape: int, dtype: tf.DType = tf.float32) -> tf.TensorSpec:
        return tf.TensorSpec((batch, *shape), dtype, name=name)

    def finite(tensor: tf.Tensor, name: str) -> tf.Tensor:
        return tensor if batch else tf.debugging.check_numerics(tensor, name)

    def pixels(image: tf.Tensor) -> tf.Tensor:
        image = finite(image, "image")
        if batch:
            return image
        outside = ["image: pixels must be floats in [-1, 1] (level / 127.5 - 1), not up to"]
        largest = tf.reduce_max(tf.abs(image))
        check = tf.debugging.Assert(largest <= MAX_PIXEL, [*outside, largest])
        with tf.control_dependencies([check]):
            return tf.identity(image)

    def translated(image: tf.Tensor, strengths: tf.Tensor) -> tf.Tensor:
        moved = network.translate(pixels(image), finite(strengths, "strengths"))
        return finite(moved, edited)

    def translate(image, strengths):
        return {"image": translated(image, strengths)}

    def encode(image):
        code = functions["encode"](pixels(image))
        return {name: finite(value, f"the image's {name}") for name, value in code.items()}

    def generate(latent, features, strengths):
        code = Code(finite(latent, "latent"), finite(features, "features"))
        return {"image": finite(network.generate(code, finite(strengths, "strengths")), edited)}

    def generate_from_latent(latent, strengths):
        code = Code(finite(latent, "latent"), tf.zeros((tf.shape(latent)[0], 0)))
        return {"image": finite(network.generate(code, finite(strengths, "strengths")), edited)}

    def sample(z):
        return {"image": finite(network.sample(finite(z, "z")), "the sample")}

    def attributes(image):
        return {"scores": finite(network.score(pixels(image)), "the scores")}

    def translate_bytes(image_bytes, strengths):
        image = read_squares(image_bytes, side, crop)
        return {"image_bytes": write_pngs(translated(image, strengths))}

    image = spec("image", side, side, 3)
    latent = spec("latent", *network.generator.latent_shape)
    strengths = spec("strengths", len(network.attributes))
    if network.features is None:
        generating = generate_from_latent, [latent, strengths]
    else:
        features = spec("features", *network.features.shape)
        generating = generate, [latent, features, strengths]
    return {
        "translate": (translate, [image, strengths]),
        "encode": (encode, [image]),
        "generate": generating,
        "sample": (sample, [spec("z", network.generator.z_dim)]),
        "attributes": (attributes, [image]),
        "translate_bytes": (translate_bytes, [spec("image_bytes", dtype=tf.string), strengths]),
    }


def write(
    network: EditingNetwork,
    folder: Path,
    signatures: Sequence[str] = SERVER_SIGNATURES,
    batch: int | None = None,
    description: dict[str, Any] | None = None,
    crop: str = SQUARE_CROP,
) -> None:
    """Writes a SavedModel.

    Args:
        network: built; with its regressor if `attributes` is among the signatures.
        folder: the folder to write; must not exist.
        signatures: names from `endpoints`; the first also becomes `serving_default`.
        batch: fixed batch size, None for any.
        description: content of model.json, stored as an extra asset.
        crop: the square of a photo that `translate_bytes` edits, a constant of
            `editing.description`.
    """
    available = endpoints(network, batch, crop)
    archive = keras.export.ExportArchive()
    for name in signatures:
        archive.add_endpoint(name, *available[name])
    folder.mkdir(parents=True)
    with native_stderr_held(), without_wildcards(folder) as path:
        archive.write_out(path, verbose=False)
    if description is not None:
        write_json(folder / ASSETS / DESCRIPTION_NAME, description)


def weight_bytes(models: Sequence[keras.Model | keras.Variable]) -> int:
    """Size of the models' weights in bytes, each stored once."""
    weights = {
        id(weight): weight
        for model in models
        for weight in (model.weights if isinstance(model, keras.Model) else [model])
    }
    return sum(int(np.prod(w.shape)) * np.dtype(w.dtype).itemsize for w in weights.values())


def stored_bytes(folder: Path) -> int:
    """Size of all variables in a SavedModel, in bytes."""
    with without_wildcards(folder) as path:
        reader = tf.train.load_checkpoint(f"{path}/variables/variables")
        types, shapes = reader.get_variable_to_dtype_map(), reader.get_variable_to_shape_map()
    return sum(
        int(np.prod(shape)) * types[name].size
        for name, shape in shapes.items()
        if types[name] != tf.string  # the object graph
    )


def check_weights(folder: Path, expected: int) -> str | None:
    """None if the SavedModel contains `expected` bytes of weights, else the reason in words."""
    stored = stored_bytes(folder)
    if stored == expected:
        return None
    return f"contains {stored:,} bytes of weights instead of {expected:,}: not each weight once"
