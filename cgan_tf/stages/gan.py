"""Stage 1: the GAN. Leaves gan/model (the averaged generator) and gan/discriminator."""

import numpy as np
import tensorflow as tf

from cgan_tf import data
from cgan_tf.core import artifact, replicas
from cgan_tf.core.config import Config
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.data import images, pipeline
from cgan_tf.evaluation import metrics
from cgan_tf.networks.stylegan import StyleGenerator
from cgan_tf.stages import init_from, progressive, tensorboard
from cgan_tf.training import loop, precision

GRID = 64  # samples that a snapshot examines; a grid shows those that `images.columns` allows
GRIDS = 20  # sample grids per training
TRUNCATIONS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)  # psi, one per row
COARSE = 8  # px; layers up to this side are the coarse ones
COLLAPSE_KIMG = 20  # not checked earlier: the samples of an early generator are all alike
COLLAPSE_RATIO = 0.1  # mean distance of samples, relative to photos, below which G has collapsed


def truncation_grid(generator: StyleGenerator, z: tf.Tensor) -> np.ndarray:
    """A column per z `[N, z_dim]` and a row per psi of `TRUNCATIONS`, as one uint8 image."""
    rows = [generator.from_prior(z, psi).numpy() for psi in TRUNCATIONS]
    return images.grid(images.to_uint8(np.concatenate(rows)), len(z))


def mixing_grid(generator: StyleGenerator, z: tf.Tensor) -> np.ndarray:
    """Style mixing between the two halves of z `[2N, z_dim]`, as one uint8 image.

    The first half's images are in the left column, the second half's in the top row. The other
    cells combine the coarse layers, up to 8 px, of the left with the remaining layers of the top.
    """
    w = generator.mapping(z)  # [2N, w_dim]
    faces = generator.from_prior(z).numpy()
    left, top = np.split(faces, 2)
    coarse = tf.constant([side <= COARSE for side in generator.sides])[None, :, None]
    rows = [np.concatenate([np.ones_like(top[:1]), top])]
    for index, face in enumerate(left):
        ws = tf.where(coarse, w[None, index : index + 1], w[len(left) :, None, :])
        rows.append(np.concatenate([face[None], generator.synthesize(ws, generator.noise)]))
    return images.grid(images.to_uint8(np.concatenate(rows)), len(top) + 1)


def mean_distance(images: np.ndarray) -> float:
    """Root mean square difference of two images, averaged over all pairs of `[N, H, W, 3]`."""
    rows = np.asarray(images, np.float64).reshape(len(images), -1)
    squares = metrics.squared_distances(rows, rows) / rows.shape[1]
    return float(np.sqrt(squares[np.triu_indices(len(rows), 1)]).mean())


def run(config: Config, folder: RunFolder, dataset: data.ImageData) -> None:
    """Trains G and D in `folder`/gan, or resumes, or reports that the stage has finished.

    Args:
        config: the resolved options.
        folder: the run folder.
        dataset: D's reals are its train split.

    Raises:
        UserError: the training diverges or G collapses; or see `StageFolder.begin`
            and `init_from.check`.
        Interrupted: SIGINT or SIGTERM was received; a checkpoint has been written.
    """
    stage = folder.stage("gan")
    if not stage.begin(config, dataset.digest):
        return
    precision.seed_everything(config)
    start = init_from.begin(config, stage)
    with replicas.scope():
        trainer = progressive.make_trainer(
            config, precision.compute_policy(config), start.record.get("resolution")
        )
    init_from.copy_gan(trainer, start)
    z = trainer.generator.sample_prior(GRID, seed=config.seed)

    columns = images.columns(config.resolution)
    shown = slice(columns**2)
    reals = dataset.read(dataset.splits["train"][:GRID])
    collapsed_below = COLLAPSE_RATIO * mean_distance(images.to_float(reals))

    def snapshot(seen: int) -> loop.Snapshot:
        fakes = trainer.samples(z).numpy()
        fakes = fakes.repeat(config.resolution // fakes.shape[1], axis=1)  # while it grows
        fakes = fakes.repeat(config.resolution // fakes.shape[2], axis=2)
        grid = images.grid(images.to_uint8(fakes[shown]), columns)
        images.save_png(stage.path / f"fakes{round(seen / 1000):06d}.png", grid)
        failure = None
        if seen >= 1000 * COLLAPSE_KIMG and mean_distance(fakes) < collapsed_below:
            failure = (
                f"collapsed (the mean distance of {GRID} samples, {mean_distance(fakes):.3g}, is "
                f"less than {COLLAPSE_RATIO:g} of that of photos)"
            )
        return loop.Snapshot("fakes", grid, failure)

    if folder.writes:
        images.save_png(stage.path / "reals.png", images.grid(np.asarray(reals[shown]), columns))
    reals_per_step = config.gan.batch_size * config.gan.d_steps  # kimg counts D's reals
    loop.train(
        trainer,
        pipeline.training_feed(dataset, config, reals_per_step, passes=config.gan.d_steps),
        config.gan.kimg,
        reals_per_step,
        stage,
        config,
        snapshot=snapshot,
        snapshot_kimg=config.gan.kimg / GRIDS,
        writer=tensorboard.events(config, stage),
    )
    artifact.save_model(trainer.discriminator, stage.path / "discriminator")
    artifact.save_model(trainer.average, stage.model)
    if config.gan.arch == "stylegan":
        truncation = truncation_grid(trainer.average, z[:columns])
        images.save_png(stage.path / "truncation.png", truncation)
        mixing = mixing_grid(trainer.average, z[: 2 * (columns - 1)])
        images.save_png(stage.path / "mixing.png", mixing)
    stage.finish(kimg=config.gan.kimg)
