"""Exports a finished run for servers, devices and browsers, each file checked against Keras.

    stage             the export stage: builds, checks and publishes
    variants          one entry per exported file: write, measure, set aside if it fails
    saved_model       writes the SavedModel, and defines the signatures
    image_bytes       decodes and encodes image files inside the SavedModel's graph
    tflite            converts to TFLite, and inspects the resulting file
    device_generator  the DCGAN generator in operators that are fast on devices
    quantization      the int8 variants
    parity            first check: outputs compared with Keras's
    gates             second check: edits compared with Keras's
    summary           the text report
    install           makes a named model of a run
    device_files      the names of the .tflite files, and the one for the page
    browser           the files of the device page, from page/
    page/             the browser's code
    litert            LiteRT.js, the page's runtime, from an archive in page/
    page_server       serves the page on this machine, for `cgan page`
    serving/          the development server behind `cgan serve`
    GUIDE.md          how to use the exported files in an app

Training, metrics and the Keras models themselves belong in the other packages of `cgan_tf`; flags
belong in `cgan_tf.commands`. This folder is also `cgan_tf/export` and is imported under that name.
Importing it does not import TensorFlow, so that `cgan export --help` answers at once.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from cgan_tf.core.config import Config
from cgan_tf.core.run_folder import RunFolder

if TYPE_CHECKING:
    from cgan_tf.data import ImageData


def run(
    config: Config,
    folder: RunFolder,
    dataset: "ImageData | None" = None,
    say: Callable[[str], None] = print,
) -> None:
    """Runs the export stage; see `export.stage.run`."""
    from cgan_tf.export import stage

    stage.run(config, folder, dataset, say)
