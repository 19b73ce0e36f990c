"""The model that the service's tests talk to: the shared run's editor, and a signature of strings.

    python tests/served_model.py DIR

writes it into DIR/1, for a server of one's own; see test_serve.py.
"""

import sys
from pathlib import Path

import fake_run
import keras
import tensorflow as tf

from cgan_tf.editing.description import SQUARE_CROP
from cgan_tf.editing.network import Translator
from cgan_tf.export import saved_model

SIGNATURES = ("translate", "encode", "generate", "sample", "attributes")  # of numbers


def translator() -> Translator:
    """The Keras model of the shared run."""
    return Translator.from_run(fake_run.shared_run().path, scores=True)


def turned(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
    """PNG files turned upside down, and their heights."""

    def turn(content):
        pixels = tf.io.decode_png(content, 3)
        return tf.io.encode_png(pixels[::-1]), tf.shape(pixels)[0]

    files, heights = tf.map_fn(turn, image_bytes, fn_output_signature=(tf.string, tf.int32))
    return {"image_bytes": files, "height": heights}


def write(folder: Path, model: Translator) -> None:
    """Version 1 of the model, into `folder`/1."""
    archive = keras.export.ExportArchive()
    available = saved_model.endpoints(model, None, SQUARE_CROP)
    for name in (*SIGNATURES, "translate_bytes"):
        archive.add_endpoint(name, *available[name])
    archive.add_endpoint("turn", turned, [tf.TensorSpec((None,), tf.string, name="image_bytes")])
    archive.write_out(str(folder / "1"), verbose=False)


if __name__ == "__main__":
    write(Path(sys.argv[1]), translator())
