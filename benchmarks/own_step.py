"""The project's GAN step and the textbook step, in TensorFlow, on one batch of noise in memory.

Imports TensorFlow only when a step is made, so that a process that times PyTorch is without it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks import subprocesses
from cgan_tf.core import options, quiet
from cgan_tf.core.config import Config

if TYPE_CHECKING:
    import tensorflow as tf

    from cgan_tf.stages.gan_trainer import GAN
    from cgan_tf.training import loop

WARM_UP = 3  # calls; the first ones compile


class Size(NamedTuple):
    """The networks and the batch."""

    resolution: int  # px
    width: int  # channels at the finest level
    batch: int  # images


def make_config(size: Size, penalty: str = "none", deterministic: bool = True) -> Config:
    """The resolved default options at a size."""
    values = {
        "seed": 1,
        "resolution": size.resolution,
        "gan_batch_size": size.batch,
        "gan_width": size.width,
        "gan_penalty": penalty,
        "deterministic": deterministic,
    }
    return options.resolve(options.make(None, values))


class BareSteps:
    """Training steps without anything around them: one batch in memory, all graphs compiled.

    On a CPU, each call reads every loss; on a GPU, only `finish` does, and waits for the device.

    Args:
        trainer: its step is run.
        batch: as its `train_step` expects it.
        steps: number of steps in a call.
        jit: compile the step with XLA.
        unrolled: put `steps` copies of the step into the graph, instead of a loop.
    """

    def __init__(
        self,
        trainer: "loop.Trainer",
        batch: Any,
        steps: int = 1,
        jit: bool = False,
        unrolled: bool = False,
    ) -> None:
        from cgan_tf.core import replicas
        from cgan_tf.training import feed, loop

        self.steps, self._next = steps, 0
        self._on_gpu = replicas.on_gpu()
        self._losses: list[dict[str, tf.Tensor]] = []
        compiled = loop.CompiledSteps(trainer, feed.SameBatch(batch), jit)
        self._run = _unrolled(trainer, batch, steps, jit) if unrolled else compiled

    def __call__(self) -> None:
        """`steps` steps."""
        end = self._next + self.steps
        while self._next < end:
            count, losses = self._run(self._next, end - self._next)
            self._next, self._losses = self._next + count, losses
            if not self._on_gpu:
                self.finish()

    def finish(self) -> None:
        """Reads the last losses, which waits for a GPU."""
        for value in self._losses.values():
            float(value)


def _unrolled(trainer: "loop.Trainer", batch: Any, steps: int, jit: bool) -> Callable:
    """As `loop.CompiledSteps`, but for calls of exactly `steps` steps, and without a loop.

    Raises:
        ValueError: the variants of the step do not repeat after `steps`.
    """
    import tensorflow as tf

    if steps % trainer.period:
        raise ValueError(f"{steps} steps are not a multiple of {trainer.period}")
    train_step = trainer.train_step
    if jit:
        train_step = tf.function(train_step, jit_compile=True, autograph=False)

    def run(reals: tf.Tensor) -> dict[str, tf.Tensor]:
        losses = [train_step(reals, *trainer.variant(step)) for step in range(steps)]
        return {
            name: tf.add_n([tf.cast(one[name], tf.float64) for one in losses]) for name in losses[0]
        }

    compiled = tf.function(run, autograph=False)
    return lambda step, limit: (steps, compiled(batch))


def own(
    size: Size,
    policy: str = "mixed_bfloat16",
    penalty: str = "none",
    steps: int = 1,
    unrolled: bool = False,
    jit: bool = False,
    deterministic: bool = True,
) -> subprocesses.Timed:
    """`GAN.train_step` as `loop.train` compiles it, or `unrolled`."""
    trainer, reals = _trainer(make_config(size, penalty, deterministic), policy)
    run = BareSteps(trainer, reals, steps, jit, unrolled)
    facts = {"weights": weights(trainer), "steps": steps, "device": _device()}
    if policy == "float32" and penalty == "none" and steps == 1 and not jit:
        facts["gradient_difference"] = gradient_difference(trainer, reals)
    return _warm(run, facts, run.finish)


def textbook(size: Size, policy: str = "mixed_bfloat16") -> subprocesses.Timed:
    """The textbook step, with the project's layers and optimizers."""
    trainer, reals = _trainer(make_config(size), policy)
    import tensorflow as tf

    g, d = trainer.generator, trainer.discriminator

    def update() -> tuple:
        fakes = g(g.sample_prior(size.batch, trainer.seed_generator), training=True)
        with tf.GradientTape() as tape:
            real_logits, fake_logits = d(reals, training=True), d(fakes, training=True)
            d_loss = trainer.objective.discriminator(real_logits, fake_logits)
        gradients = tape.gradient(d_loss, d.trainable_variables)
        trainer.d_optimizer.apply(gradients, d.trainable_variables)
        z = g.sample_prior(size.batch, trainer.seed_generator)
        with tf.control_dependencies(gradients), tf.GradientTape() as tape:
            g_loss = trainer.objective.generator(d(g(z, training=True), training=True))
        gradients = tape.gradient(g_loss, g.trainable_variables)
        trainer.g_optimizer.apply(gradients, g.trainable_variables)
        return d_loss, g_loss

    train_step = tf.function(update, autograph=False)
    facts = {"weights": weights(trainer), "steps": 1, "device": _device()}
    return _reading(train_step, facts)


def product(size: int) -> subprocesses.Timed:
    """One bfloat16 product of square matrices."""
    quiet.import_tensorflow()
    import tensorflow as tf

    matrix = tf.cast(tf.random.stateless_normal((size, size), (0, 0)), tf.bfloat16)
    multiply = tf.function(lambda: (tf.matmul(matrix, matrix)[0, 0],), autograph=False)
    return _reading(multiply, {"steps": 1, "device": _device()})


def _reading(function: Callable[[], tuple], facts: dict[str, Any]) -> subprocesses.Timed:
    """Times a function of scalars: on a CPU each call's are read, on a GPU those of a turn."""
    from cgan_tf.core import replicas

    last: tuple = ()

    def call() -> None:
        nonlocal last
        last = function()
        if not replicas.on_gpu():
            finish()

    def finish() -> None:
        for value in last:
            float(value)

    return _warm(call, facts, finish)


def _warm(call: Callable, facts: dict[str, Any], finish: Callable) -> subprocesses.Timed:
    for _ in range(WARM_UP):
        call()
    finish()
    return subprocesses.Timed(call, facts, finish)


def _device() -> str:
    from cgan_tf.core import replicas

    return "GPU" if replicas.on_gpu() else "CPU"


def _trainer(config: Config, policy: str) -> "tuple[GAN, tf.Tensor]":
    """A new GAN and a batch of noise as reals."""
    quiet.import_tensorflow()
    import numpy as np
    import tensorflow as tf

    from cgan_tf.stages.gan_trainer import GAN
    from cgan_tf.training import precision

    precision.seed_everything(config)
    shape = (config.gan.batch_size, config.resolution, config.resolution, 3)
    reals = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    return GAN(config, policy), tf.constant(reals)


def weights(trainer: "GAN") -> list[int]:
    """The number of trainable weights of G and of D."""
    import numpy as np

    models = trainer.generator, trainer.discriminator
    return [sum(int(np.prod(v.shape)) for v in m.trainable_variables) for m in models]


class _Recorder:
    """Replaces an optimizer: keeps the gradients and changes nothing."""

    def __init__(self, optimizer: Any) -> None:
        self.iterations = optimizer.iterations

    def apply(self, gradients: list, variables: list) -> None:
        self.gradients = gradients


def gradient_difference(trainer: "GAN", reals: "tf.Tensor") -> float:
    """The largest relative difference between the own step's gradients and the textbook's.

    Compares D's and G's gradients at the same latents, both before D's update. Only G's batch
    statistics and the random state change. In full float32: TF32 would round sums by 1e-3.
    """
    import keras
    import tensorflow as tf

    tf32 = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    g, d, objective = trainer.generator, trainer.discriminator, trainer.objective
    kept = trainer.g_optimizer, trainer.d_optimizer
    recorders = [_Recorder(optimizer) for optimizer in kept]
    trainer.g_optimizer, trainer.d_optimizer = recorders
    state = keras.ops.convert_to_numpy(trainer.seed_generator.state)
    trainer.train_step(reals, penalized=(False,))
    trainer.g_optimizer, trainer.d_optimizer = kept
    trainer.seed_generator.state.assign(state)
    z = g.sample_prior(len(reals), trainer.seed_generator)
    fakes = g(z, training=True)
    with tf.GradientTape() as tape:
        loss = objective.discriminator(d(reals, training=True), d(fakes, training=True))
    d_expected = tape.gradient(loss, d.trainable_variables)
    with tf.GradientTape() as tape:
        loss = objective.generator(d(g(z, training=True), training=True))
    g_expected = tape.gradient(loss, g.trainable_variables)
    tf.config.experimental.enable_tensor_float_32_execution(tf32)
    pairs = zip(
        recorders[0].gradients + recorders[1].gradients, g_expected + d_expected, strict=True
    )
    return max(
        float(tf.reduce_max(tf.abs(one - two)) / tf.reduce_max(tf.abs(two))) for one, two in pairs
    )
