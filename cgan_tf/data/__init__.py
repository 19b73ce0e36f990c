"""Image data: from the files on disk to batches.

`open_data(config)` finds the images and labels of a data source (CelebA, any folder, or synthetic
faces), decodes them once into the cache and returns an `ImageData`; `pipeline` makes batches of it.
The conversion between uint8 and float (`images`), and the faces in a user's photos (`portraits`,
`face_detection`), belong here too. Nothing here knows a network or a run folder.
"""

from cgan_tf.data.dataset import ImageData, open_data

__all__ = ["ImageData", "open_data"]
