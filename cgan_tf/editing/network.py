"""Encoder, directions and generator as one Keras model: x' = G(E(x) + sum_k strength_k * d_k).

With detail features, E also predicts them, and G takes them; see `networks.codec`.

It is assembled from the gan, inversion and directions stages of a run folder. `backends` runs it,
and `export` writes it as SavedModel and TFLite.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from cgan_tf.core.errors import UserError
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.editing import models
from cgan_tf.networks.codec import EDIT, Code, Codec


class EditingNetwork(keras.Model):
    """Encodes an image, moves its latent along the directions, and generates the edited image.

    Args:
        codec: image -> code, and code and offset of the latent -> image.
        directions: one float32 vector of the latent's shape per attribute, in the order of the
            strengths. A strength of 1 adds the vector once.
        regressor: image -> scores `[N, all attributes]` in [0, 1]; None without scores.
        truncation: truncation psi of `sample`; only a `StyleGenerator` can have one other than 1.
    """

    def __init__(
        self,
        codec: Codec,
        directions: Mapping[str, np.ndarray],
        regressor: keras.Model | None = None,
        truncation: float = 1.0,
    ) -> None:
        super().__init__(name="translator")
        self.codec = codec
        self.generator = codec.generator
        self.encoder = codec.encoder
        self.features = codec.features
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

    def encode(self, image: tf.Tensor) -> Code:
        """The codes of images float32 `[N, R, R, 3]` in [-1, 1]."""
        return self.codec.encode(image)

    def generate(self, code: Code, strengths: tf.Tensor) -> tf.Tensor:
        """Images `[N, R, R, 3]` in [-1, 1] of codes moved by strengths float32 `[N, K]`."""
        with tf.name_scope(EDIT):
            offset = self.offset(strengths)
        return self.codec.generate(code, offset)

    def offset(self, strengths: tf.Tensor) -> tf.Tensor:
        """Offsets of the latents, `[N, *latent_shape]`, for strengths float32 `[N, K]`."""
        rows = tf.reshape(self.directions, (len(self.attributes), -1))
        return tf.reshape(tf.matmul(strengths, rows), (-1, *self.directions.shape[1:]))

    def translate(self, image: tf.Tensor, strengths: tf.Tensor) -> tf.Tensor:
        """The edited images `[N, R, R, 3]`; with strengths of 0 the reconstructions."""
        return self.generate(self.encode(image), strengths)

    @property
    def signatures(self) -> dict[str, Callable[..., dict[str, tf.Tensor]]]:
        """The functions of `description.signatures` but `translate_bytes`, by their names.

        Their arguments and outputs have the names of the exported signatures. `features` are part
        of a code only if there are detail features.
        """

        def encode(image: tf.Tensor) -> dict[str, tf.Tensor]:
            code = self.encode(image)._asdict()
            return code if self.features is not None else {"latent": code["latent"]}

        def generate(
            latent: tf.Tensor, strengths: tf.Tensor, features: tf.Tensor | None = None
        ) -> dict[str, tf.Tensor]:
            return {"image": self.generate(Code(latent, features), strengths)}

        return {
            "translate": lambda image, strengths: {"image": self.translate(image, strengths)},
            "encode": encode,
            "generate": generate,
            "sample": lambda z: {"image": self.sample(z)},
            "attributes": lambda image: {"scores": self.score(image)},
        }

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
    def from_run(
        cls, path: str | Path, scores: bool = False, custom: bool = False
    ) -> "EditingNetwork":
        """Assembles the models of a run folder, in float32.

        Args:
            path: the run folder.
            scores: load the regressor, too.
            custom: include the custom attributes (`cgan attribute`). The judge does not score
                them, so the evaluate stage leaves them out.

        Raises:
            UserError: no run folder, a stage that has not finished (the message gives its command),
                a damaged model, or a model that belongs to another generator.
        """
        run = RunFolder(path)
        config = run.load_config()
        names = ("gan", "inversion", "features", "directions") + (("regressor",) if scores else ())
        stages = {name: models.finished_stage(run, name) for name in names}
        for name in ("inversion", "features", "directions"):
            if stages[name].read_metadata()["parents"].get("gan") != stages["gan"].artifact_hash():
                raise UserError(
                    f"{run.path}: the {name} stage belongs to another generator than that of the "
                    f"gan stage; run python train_main.py --stage={name} --restart "
                    f"--run_dir={run.path}"
                )
        codec = models.load_codec(run, config)
        directions = models.read_directions(run, codec.latent_shape, custom)
        heads = run.custom_attributes() if custom else ()
        return cls(
            codec,
            {name: entry["vector"] for name, entry in directions.items()},
            models.load_regressor(run, heads) if scores else None,
            config.export.truncation,
        )


def sample(generator: keras.Model, z: tf.Tensor, truncation: float) -> tf.Tensor:
    """Images `[N, R, R, 3]` of z `[N, z_dim]`, with truncation psi.

    DCGAN generators have no truncation: for them psi is always 1.
    """
    if truncation == 1:
        return generator.from_prior(z)
    return generator.from_prior(z, truncation)
