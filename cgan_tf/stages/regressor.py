"""Stage 2: a VGG16 regressor of all attributes. Writes regressor/model."""

import keras
import numpy as np
import tensorflow as tf

from cgan_tf.core import artifact, replicas
from cgan_tf.core.config import Config
from cgan_tf.core.errors import UserError
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.data import ImageData, pipeline
from cgan_tf.networks import vgg
from cgan_tf.stages import init_from, tensorboard
from cgan_tf.training import augment, loop, optimizers, precision

WARMUP = 0.05  # of the training: the learning rate rises linearly
WEIGHT_DECAY = 1e-2
SMALL_FRACTION = 0.5  # of the training at half the resolution, which costs a quarter
# Exponent of the inverse class frequency that weights positives; corrected in the scores.
CLASS_BALANCE = 0.25


class RegressorTrainer(loop.Trainer):
    """Weighted binary cross-entropy on augmented photos, first at half and then at full resolution.

    At half the resolution a step costs a quarter; VGG16 is convolutional, so that what it learns
    there transfers to the full resolution.

    Args:
        model: the regressor; its offsets are the logarithms of the weights of positives.
        config: the resolved options.
    """

    remedy = "lower --regressor_lr"

    def __init__(self, model: vgg.Regressor, config: Config) -> None:
        super().__init__(name="regressor_trainer")
        self.model = model
        self.positive_weights = tf.exp(tf.constant(model.offsets, tf.float32))
        steps = int(np.ceil(config.regressor.kimg * 1000 / config.regressor.batch_size))
        # Less than 32 px would be pooled to nothing by VGG16.
        half = model.vgg_resolution >= 64
        self.small_steps = int(SMALL_FRACTION * steps) if half else 0
        schedule = optimizers.warmup_cosine(config.regressor.lr, steps, WARMUP)
        self.optimizer = optimizers.AdamW(schedule, weight_decay=WEIGHT_DECAY, global_clipnorm=1.0)
        self.optimizer.build(model.trainable_variables)
        self.seed_generator = keras.random.SeedGenerator(config.seed)
        self.built = True

    def checkpoint_parts(self) -> dict:
        return {
            "model": self.model,
            "optimizer": self.optimizer,
            "seed_generator": self.seed_generator,
        }

    def train_step(self, data: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """One update on photos float32 `[N, R, R, 3]` and labels float32 `[N, K]`."""
        photos, labels = data
        photos = augment.jitter(photos, self.seed_generator)
        if self.small_steps:
            loss, accuracy, gradients = tf.cond(
                self.optimizer.iterations < self.small_steps,
                lambda: self._gradients(tf.nn.avg_pool2d(photos, 2, 2, "VALID"), labels),
                lambda: self._gradients(photos, labels),
            )
        else:
            loss, accuracy, gradients = self._gradients(photos, labels)
        self.optimizer.apply(gradients, self.model.trainable_variables)
        return {"loss": loss, "accuracy": accuracy}

    def _gradients(self, photos: tf.Tensor, labels: tf.Tensor) -> tuple:
        variables = [variable.value for variable in self.model.trainable_variables]
        with tf.GradientTape() as tape:
            logits = self.model.logits(photos, training=True)
            # The model's logits are corrected for the weights; the loss takes them uncorrected.
            loss = tf.reduce_mean(
                tf.nn.weighted_cross_entropy_with_logits(
                    labels, logits + tf.math.log(self.positive_weights), self.positive_weights
                )
            )
        accuracy = tf.reduce_mean(tf.cast((logits > 0) == (labels > 0.5), tf.float32))
        return loss, accuracy, tape.gradient(loss, variables)


def build(
    config: Config,
    dataset: ImageData,
    policy: str,
    began_with: str | None = None,
    input_scale: float | None = None,
) -> tuple[vgg.Regressor, str]:
    """A regressor with the initial weights of --regressor_vgg_weights.

    Args:
        config: the resolved options.
        dataset: its train labels give the offsets.
        policy: dtype policy of the computation.
        began_with: the note of the first start of a training that will be resumed. The checkpoint
            gives the weights; the download may have become available or unavailable since, but the
            model must be built as before.
        input_scale: that of another regressor whose weights replace the initial ones; None for
            those of --regressor_vgg_weights.

    Returns:
        The model, and a note on substituted weights (empty if there are none).
    """
    labels = dataset.labels[dataset.splits["train"]]
    # A constant column would lead to infinite logits.
    rate = np.clip(labels.mean(axis=0), 1e-3, 1 - 1e-3)
    offsets = CLASS_BALANCE * np.log((1 - rate) / rate)
    weights = config.regressor.vgg_weights if input_scale is None else "none"
    pretrained, note = weights not in vgg.FROM_SCRATCH and not began_with, began_with or ""

    def build_model(scale: float) -> vgg.Regressor:
        return vgg.Regressor(
            dataset.attribute_names,
            config.resolution,
            config.regressor.resolution,
            scale,
            offsets.tolist(),
            vgg.width_of(config.regressor.vgg_weights),
            policy,
        )

    model = build_model(input_scale or (1.0 if pretrained else vgg.SCRATCH_INPUT_SCALE))
    if began_with is not None:
        return model, note
    if weights in ("auto", "imagenet"):
        try:
            vgg.load_weights(model.backbone, "imagenet", "--regressor_vgg_weights")
        except UserError:
            if weights == "imagenet":
                raise
            note = "ImageNet weights of VGG16 are not available; the regressor trains from scratch"
            model = build_model(vgg.SCRATCH_INPUT_SCALE)
    elif pretrained:
        vgg.load_weights(model.backbone, weights, "--regressor_vgg_weights")
    # The initial scores are the base rates.
    model.head.bias.assign(np.log(rate / (1 - rate)) + offsets)
    model.head.kernel.assign(model.head.kernel * 0.1)
    return model, note


def check(config: Config, dataset: ImageData, began: bool) -> None:
    """Checks the labels and initial weights that `run` needs, before any stage starts.

    Args:
        config: the resolved options.
        dataset: the photos.
        began: a checkpoint has the weights already.

    Raises:
        UserError: the data has no labels, or the weights of --regressor_vgg_weights are missing.
    """
    dataset.require_labels("the regressor")
    if config.regressor.vgg_weights not in ("auto", *vgg.FROM_SCRATCH) and not began:
        source = config.regressor.vgg_weights
        vgg.load_weights(vgg.build_backbone(), source, "--regressor_vgg_weights")


def run(config: Config, folder: RunFolder, dataset: ImageData) -> None:
    """Trains the regressor in `folder`/regressor; resumes if it was interrupted."""
    dataset.require_labels("the regressor")
    stage = folder.stage("regressor")
    if not stage.begin(config, dataset.digest):
        return
    precision.seed_everything(config)
    began_with = None
    if any(stage.checkpoints.glob("step-*.npz")):
        began_with = folder.read()["substitutions"].get("vgg_weights", "")
    start = init_from.begin(config, stage, dataset.attribute_names)
    with replicas.scope():
        model, note = build(
            config,
            dataset,
            precision.compute_policy(config),
            began_with,
            start.record.get("input_scale"),
        )
        trainer = RegressorTrainer(model, config)
    init_from.copy_regressor(model, start)
    if began_with is None:
        folder.clear_substitutions("vgg_weights")
        if note:
            folder.record_substitution("vgg_weights", note)
    loop.train(
        trainer,
        pipeline.training_feed(dataset, config, config.regressor.batch_size, labels=True),
        config.regressor.kimg,
        config.regressor.batch_size,
        stage,
        config,
        writer=tensorboard.events(config, stage),
    )
    validation = dataset.splits["validation"]
    scores = np.concatenate(
        [
            model(photos, training=False).numpy()
            for photos in pipeline.sequential_batches(dataset, validation, 64)
        ]
    )
    accuracy = ((scores > 0.5) == (dataset.labels[validation] > 0.5)).mean(axis=0)
    print(f"regressor: mean accuracy {accuracy.mean():.4f} on {len(validation)} validation photos")
    artifact.save_model(model, stage.model)
    stage.finish(
        kimg=config.regressor.kimg,
        validation_accuracy=dict(zip(dataset.attribute_names, accuracy.tolist(), strict=True)),
    )
