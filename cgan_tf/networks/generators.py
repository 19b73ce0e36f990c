"""The generators by `--gan_arch`: what the GAN stage builds, and the later stages load.

All have `sample_prior(count, seed)`, z from the prior; `space` and `latent_shape`, what they are
called with; `sample_latent(count, seed)` and `to_space(z)`, latents of that space; `from_prior(z)`,
images of z whatever the space; and `draw(count, seed)` and `training_images(drawn)`, what D is to
judge.
"""

from cgan_tf.networks.dcgan import Generator
from cgan_tf.networks.stylegan import StyleGenerator

AnyGenerator = Generator | StyleGenerator
