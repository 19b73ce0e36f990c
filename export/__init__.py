"""SavedModel and TFLite files of a finished run, checked against Keras before they are published.

Imports cgan_tf, never the reverse. Importing this package does not import TensorFlow, so that
`python -m export --help` answers at once and start-up lines can be kept from the user.
"""

from collections.abc import Callable

from cgan_tf.config import Config
from cgan_tf.run import RunFolder


def run(config: Config, run: RunFolder, say: Callable[[str], None] = print) -> None:
    """The export stage, into RUN_DIR/export; see `export.stage.run`."""
    from export import stage

    stage.run(config, run, say)
