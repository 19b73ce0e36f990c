"""The generators by `--arch`: what the GAN stage builds, and the later stages load.

All have `sample_prior(count, seed)`, z from the prior; `space` and `latent_shape`, what they are
called with; `sample_latent(count, seed)` and `to_space(z)`, latents of that space; `from_prior(z)`,
images of z whatever the space; and `draw(count, seed)` and `training_images(drawn)`, what D is to
judge.
"""

from pathlib import Path

from cgan_tf.core import artifact
from cgan_tf.core.config import Config
from cgan_tf.networks.dcgan import Generator
from cgan_tf.networks.stylegan import StyleGenerator

AnyGenerator = Generator | StyleGenerator


def build(config: Config, dtype: str = "float32", name: str = "generator") -> AnyGenerator:
    """The generator that the options describe, with fresh weights, in the space z."""
    if config.arch == "stylegan":
        return StyleGenerator(
            config.resolution, config.z_dim, config.width, config.style, dtype=dtype, name=name
        )
    return Generator(
        config.resolution, config.z_dim, config.width, config.prior, config.g_norm,
        config.equalized_lr, dtype=dtype, name=name,
    )  # fmt: skip


def load(folder: Path, space: str = "z", dtype: str = "float32") -> AnyGenerator:
    """The generator of an artifact.

    Args:
        folder: the artifact's folder.
        space: what it is to be called with; only a StyleGenerator has others than z.
        dtype: dtype policy of the computation.

    Raises:
        UserError: the artifact is missing, damaged, or of another class.
    """
    generator = artifact.load_model((Generator, StyleGenerator), folder, dtype)
    generator.space = space
    return generator
