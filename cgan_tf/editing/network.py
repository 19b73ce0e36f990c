"""The whole chain as one model: x' = G(E(x) + sum_k eps_k d_k).

Takes what the gan, inversion and directions stages left in a run folder and puts it together;
`editors` offers it to `cgan translate`, and `export` writes it as SavedModel and TFLite.
"""

from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from cgan_tf.core import artifact
from cgan_tf.core.errors import UserError
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.editing import models
from cgan_tf.networks.encoder import Encoder

EDIT = "edit"  # scope of the operators that move latents: `export` must not quantize them


class Translator(keras.Model):
    """Encodes a photo, moves its latent along the attributes' directions, and draws the result.

    Args:
        generator: latent `[N, *latent_shape]` -> image, in the encoder's space.
        encoder: image -> latent.
        directions: one float32 vector of the latent's shape per attribute, in the order of the
            strengths; strength 1 moves by one vector.
        regressor: image -> scores `[N, all attributes]` in [0, 1], if the scores are wanted.
        truncation: psi of `sample`, of a `StyleGenerator`; see there.
    """

    def __init__(
        self,
        generator: keras.Model,
        encoder: keras.Model,
        directions: Mapping[str, np.ndarray],
        regressor: keras.Model | None = None,
        truncation: float = 1.0,
    ) -> None:
        super().__init__(name="translator")
        self.generator = generator
        self.encoder = encoder
        self.regressor = regressor
        self.truncation = truncation
        self.attributes = tuple(directions)
        vectors = np.stack([np.asarray(vector, np.float32) for vector in directions.values()])
        self.directions = self.add_weight(
            shape=vectors.shape, initializer="zeros", trainable=False, name="directions"
        )  # [K, *latent_shape]
        self.directions.assign(vectors)
        self.built = True

    @property
    def resolution(self) -> int:
        """Side of the images in px."""
        return self.generator.resolution

    def encode(self, image: tf.Tensor) -> tf.Tensor:
        """Latents float32 `[N, *latent_shape]` of images float32 `[N, R, R, 3]` in [-1, 1]."""
        return self.encoder(image, training=False)

    def generate(self, latent: tf.Tensor, strengths: tf.Tensor) -> tf.Tensor:
        """Images `[N, R, R, 3]` in [-1, 1] of latents moved by strengths float32 `[N, K]`."""
        with tf.name_scope(EDIT):
            moved = latent + self.step(strengths)
        return self.generator(moved, training=False)

    def step(self, strengths: tf.Tensor) -> tf.Tensor:
        """How far latents move, `[N, *latent_shape]`, for strengths float32 `[N, K]`."""
        rows = tf.reshape(self.directions, (len(self.attributes), -1))
        return tf.reshape(tf.matmul(strengths, rows), (-1, *self.directions.shape[1:]))

    def translate(self, image: tf.Tensor, strengths: tf.Tensor) -> tf.Tensor:
        """The edited images `[N, R, R, 3]`; strengths of 0 give the reconstruction."""
        return self.generate(self.encode(image), strengths)

    def sample(self, z: tf.Tensor) -> tf.Tensor:
        """Images `[N, R, R, 3]` of z `[N, z_dim]` drawn from the generator's prior."""
        return sample(self.generator, z, self.truncation)

    def score(self, image: tf.Tensor) -> tf.Tensor:
        """The regressor's scores `[N, all attributes]` in [0, 1]."""
        return self.regressor(image, training=False)

    def call(self, image: tf.Tensor, strengths: tf.Tensor) -> tf.Tensor:
        """Same as `translate`."""
        return self.translate(image, strengths)

    @classmethod
    def from_run(cls, path: str | Path, scores: bool = False, own: bool = False) -> "Translator":
        """Puts a run folder's models together, in float32.

        Args:
            path: the run folder.
            scores: load the regressor too.
            own: with the own attributes (`cgan attribute`), which the judge does not know.

        Raises:
            UserError: no run folder, a stage that has not finished (the message has its command),
                a damaged model, or directions of another generator.
        """
        run = RunFolder(path)
        config = run.load_config()
        names = ("gan", "inversion", "directions") + (("regressor",) if scores else ())
        stages = {name: models.finished_stage(run, name) for name in names}
        for name in ("inversion", "directions"):
            if stages[name].read_metadata()["parents"].get("gan") != stages["gan"].artifact_hash():
                raise UserError(
                    f"{run.path}: the {name} stage belongs to another generator than the gan stage "
                    f"left; run python train_main.py --stage={name} --restart --run_dir={run.path}"
                )
        generator = models.load_generator(stages["gan"].model, config.inversion.space)
        directions = models.read_directions(run, generator.latent_shape, own)
        return cls(
            generator,
            artifact.load_model(Encoder, stages["inversion"].model),
            {name: entry["vector"] for name, entry in directions.items()},
            models.load_regressor(run, run.custom_attributes() if own else ()) if scores else None,
            config.export.truncation,
        )


def sample(generator: keras.Model, z: tf.Tensor, truncation: float) -> tf.Tensor:
    """Images `[N, R, R, 3]` of z `[N, z_dim]`, truncated as a run's options say."""
    if truncation == 1:  # only a StyleGenerator has another
        return generator.from_prior(z)
    return generator.from_prior(z, truncation)
