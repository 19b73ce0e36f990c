"""A stage's scalars and sample grids as TensorBoard events, for --tensorboard.

The only file of this folder that uses TensorFlow; it imports it when a writer is made.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cgan_tf.core.files import names_full_disk


class TensorBoardWriter:
    """Writes events to STAGE_FOLDER/tensorboard; steps count the training images seen."""

    def __init__(self, folder: Path, resume_step: int = 0) -> None:
        """Opens a new event file, and drops older events past `resume_step`, all of them at 0.

        A stage that resumes repeats what came after its checkpoint; so each curve still has one
        value per step.

        Args:
            folder: the stage's folder.
            resume_step: step of the checkpoint; 0 if the stage starts.
        """
        import tensorflow as tf

        self._tf = tf
        self._path = folder / "tensorboard"
        with names_full_disk(self._path):
            for file in sorted(self._path.glob("events.out.tfevents.*")):
                self._rewind(file, resume_step)
            self._writer = tf.summary.create_file_writer(str(self._path))

    def _rewind(self, path: Path, step: int) -> None:
        """Replaces an event file by its events up to `step`; a damaged end is dropped, too."""
        if step == 0:
            path.unlink()
            return
        temporary = path.with_name(".rewound.tmp")  # TensorBoard reads every *tfevents*
        with self._tf.io.TFRecordWriter(str(temporary)) as writer:
            try:
                for record in self._tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                    if self._tf.compat.v1.Event.FromString(record).step <= step:
                        writer.write(record)
            except self._tf.errors.DataLossError:
                pass
        os.replace(temporary, path)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes one value of each curve."""
        with names_full_disk(self._path), self._writer.as_default(step):
            for name, value in values.items():
                self._tf.summary.scalar(name, value)
            self._writer.flush()

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Writes one image, uint8 `[H, W, 3]`."""
        with names_full_disk(self._path), self._writer.as_default(step):
            self._tf.summary.image(name, image[None])
            self._writer.flush()

    def close(self) -> None:
        """Completes the event file."""
        self._writer.close()
