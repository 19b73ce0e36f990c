"""SavedModel and TFLite files of a finished run, checked against Keras before they are published.

Imports cgan_tf, never the reverse. Importing this package does not import TensorFlow, so that
`cgan export --help` answers at once and start-up lines can be kept from the user.
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
    """The export stage, into `folder`/export; see `export.stage.run`."""
    from cgan_tf.export import stage

    stage.run(config, folder, dataset, say)
