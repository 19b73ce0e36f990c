"""How a network is trained, whatever the network is.

Here: the training loop with its statistics, snapshots and checkpoints; optimizers; losses;
augmentation; precision and seeds; several devices and workers (`cluster`); faster kernels for the
CPU. Not here: architectures (`networks`), and what a stage trains on which data (`stages`), which
is a `loop.Trainer` of the stage.
"""
