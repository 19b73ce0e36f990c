"""A backend without networks, whose edits are known exactly."""

import numpy as np

from cgan_tf.editing import backends, description


class ShiftBackend(backends.Backend):
    """The latent is 0.9 times the image; the first strength is added to every pixel of it."""

    def __init__(self, crop=description.SQUARE_CROP, psnr_p5=None):
        super().__init__(("Light",), 32, crop, psnr_p5)

    def run(self, signature, **inputs):
        if signature == "encode":
            return {"latent": inputs["image"] * np.float32(0.9)}
        assert signature == "generate"
        return {"image": inputs["latent"] + inputs["strengths"][:, 0, None, None, None]}
