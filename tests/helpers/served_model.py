"""The model that the tests of the service use: the shared run's editor, and a string signature.

    python tests/helpers/served_model.py DIR

writes it to DIR/1, for another server such as TensorFlow Serving. The tests of tests/export/serving
use that server if it serves the model under the name `translator` and the environment variables
CGAN_SERVE_REST and CGAN_SERVE_GRPC contain its addresses, host:port.
"""

import sys
from pathlib import Path

import fake_run
import keras
import tensorflow as tf

from cgan_tf.editing.description import SQUARE_CROP
from cgan_tf.editing.network import EditingNetwork
from cgan_tf.export import saved_model

SIGNATURES = ("translate", "encode", "generate", "sample", "attributes")  # with numeric inputs


def network() -> EditingNetwork:
    """The Keras model of the shared run."""
    return EditingNetwork.from_run(fake_run.shared_run().path, scores=True)


def flip(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
    """Flips PNG files vertically; also returns their heights."""

    def flip_one(content):
        pixels = tf.io.decode_png(content, 3)
        return tf.io.encode_png(pixels[::-1]), tf.shape(pixels)[0]

    files, heights = tf.map_fn(flip_one, image_bytes, fn_output_signature=(tf.string, tf.int32))
    return {"image_bytes": files, "height": heights}


def write(folder: Path, model: EditingNetwork) -> None:
    """Writes version 1 of the model to `folder`/1."""
    archive = keras.export.ExportArchive()
    available = saved_model.endpoints(model, None, SQUARE_CROP)
    for name in (*SIGNATURES, "translate_bytes"):
        archive.add_endpoint(name, *available[name])
    archive.add_endpoint("flip", flip, [tf.TensorSpec((None,), tf.string, name="image_bytes")])
    archive.write_out(str(folder / "1"), verbose=False)


if __name__ == "__main__":
    write(Path(sys.argv[1]), network())
