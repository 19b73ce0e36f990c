"""Where a stage's training writes TensorBoard events, with --tensorboard."""

import functools
from collections.abc import Callable

from cgan_tf.core.config import Config
from cgan_tf.core.run_folder import StageFolder
from cgan_tf.report.tensorboard import TensorBoardWriter


def events(config: Config, stage: StageFolder) -> Callable[[int], TensorBoardWriter] | None:
    """The `writer` of `loop.train`: from the images seen so far to a writer, if requested."""
    return functools.partial(TensorBoardWriter, stage.path) if config.tensorboard else None
