"""Network architectures: Keras models and layers, and how they are built and called.

Here: the generators (DCGAN, StyleGAN) and the interface that they share, the discriminator, their
progressive growing, the encoder, VGG16 (the attribute regressor and the perceptual distance), the
judge, and the layers that they are made of. Not here: options, run folders, losses and training
steps. A network takes plain arguments and never a `Config`.
"""
