"""The project's GAN step compared with the textbook step, in TensorFlow and in PyTorch.

    pip install -e ".[benchmarks]"
    python -m benchmarks.train_step --widths=32,64 --output=train_step.json

One network (the default one: 64 px, batch norm in G, minibatch standard deviation in D), one batch
of random numbers in memory, one optimizer. The textbook step updates D on reals and on fakes, then
G through D on new latents: two passes of G, three of D, and no gradient that is not used. Each
subject is a process of its own that waits while another is timed. They take turns, and a ratio is
the median over the rounds of the ratio in one round. PyTorch's best is the best median among its
bfloat16 variants and its float32.

FLOPs are two per multiply-add, of the convolutions and dense layers only: forward, the gradient of
each kernel, the gradient of each input that is needed. The machine's rate is that of a 4096-wide
bfloat16 matrix product, timed in the same rounds in TensorFlow and in PyTorch; the faster counts.

One pass of G and one of D on the fakes serve both players in the project's step. The benchmark also
checks that its gradients are those of the textbook step: same latents and weights, float32, the
largest difference of one kernel's gradient relative to its largest value. Exit code 1 if it is more
than 1e-4.
"""

import itertools
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from benchmarks import subprocesses
from cgan_tf.core import cli, options, quiet
from cgan_tf.core.config import Config
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_json

if TYPE_CHECKING:  # at run time they would import TensorFlow, whose threads disturb PyTorch's
    import tensorflow as tf

    from cgan_tf.stages.gan_trainer import GAN

RESOLUTION, BATCH = 64, 64
PRODUCT = 4096  # rows and columns of the matrix product
PRODUCTS = ("tf_product", "pytorch_product")
MAX_DIFFERENCE = 1e-4  # of the gradients, relative
# name: (maker, its options); the makers are below. Without a suffix a subject computes in bfloat16,
# PyTorch in channels_last too. own_r1 has the default lazy penalty, the others have none.
SUBJECTS: dict[str, tuple[str, dict[str, Any]]] = {
    "own": ("own", {"policy": "mixed_bfloat16"}),
    "own_r1": ("own", {"policy": "mixed_bfloat16", "penalty": "r1"}),
    "own_float32": ("own", {"policy": "float32"}),
    "textbook": ("textbook", {"policy": "mixed_bfloat16"}),
    "textbook_float32": ("textbook", {"policy": "float32"}),
    "pytorch_float32": ("pytorch", {"best": False}),
    "pytorch": ("pytorch", {"best": True}),
    "pytorch_compiled": ("pytorch", {"best": True, "compiled": True}),
    PRODUCTS[0]: ("tf_product", {}),
    PRODUCTS[1]: ("pytorch_product", {}),
}

FLAGS = flags.FLAGS
flags.DEFINE_list("widths", ["32", "64"], "Channels at the finest level.")
flags.DEFINE_integer("rounds", 7, "Number of turns of each subject.", lower_bound=1)
flags.DEFINE_float("seconds", 1.5, "Approximate length of a turn [s].", lower_bound=0.01)
flags.DEFINE_float("compile_seconds", 240.0, "Time limit for a subject's first steps [s].")
flags.DEFINE_list("subjects", list(SUBJECTS), "Subjects to time.")
flags.DEFINE_string("output", "runs/train_step.json", "JSON file of the results.")


def make_config(width: int, penalty: str) -> Config:
    """The resolved default options at the benchmark's size."""
    values = {
        "seed": 1,
        "resolution": RESOLUTION,
        "gan_batch_size": BATCH,
        "gan_width": width,
        "gan_penalty": penalty,
    }
    return options.resolve(options.make(None, values))


def flops(width: int, own: bool) -> float:
    """FLOPs of one step per image of the batch."""
    config = make_config(width, "none")
    widths = [width * 2**level for level in reversed(range(4))]
    taps = 16  # of a 4 px kernel
    dense = config.gan.z_dim * 16 * widths[0]
    coarse = zip(widths, [*widths[1:], 3], (4, 8, 16, 32), strict=True)
    # A convolution multiplies each position of its smaller map with all taps.
    convolutions = [one * two * taps * side * side for one, two, side in coarse]
    g, d = dense + sum(convolutions), sum(convolutions) + 16 * (widths[0] + 1)
    first = convolutions[-1]  # D's first layer needs no gradient of its input to train D
    passes = (1, 2) if own else (2, 3)
    forward = passes[0] * g + passes[1] * d
    d_backward = 2 * (2 * d - first)  # on reals and on fakes
    g_backward = d + 2 * g - dense
    return 2.0 * (forward + d_backward + g_backward)


# ---- subjects: each maker runs in its own process and returns a step and facts -------------------


def make(maker: str, width: int, keywords: dict[str, Any]) -> tuple[Callable, dict[str, Any]]:
    """A subject's step, warmed up, and its facts."""
    step, facts = globals()[maker](width, **keywords)
    step(), step()
    return step, facts


def own(width: int, policy: str, penalty: str = "none") -> tuple[Callable, dict]:
    """`GAN.train_step` as `loop.train` runs it: every loss is read after each step."""
    trainer, reals = _trainer(width, policy, penalty)
    from cgan_tf.training import feed, loop

    train_step, numbers = loop.CompiledSteps(trainer, feed.SameBatch(reals)), itertools.count()

    def step() -> list[float]:
        return [float(value) for value in train_step(next(numbers))[1].values()]

    facts = {"weights": _weights(trainer)}
    if policy == "float32":
        facts["gradient_difference"] = gradient_difference(trainer, reals)
    return step, facts


def textbook(width: int, policy: str) -> tuple[Callable, dict]:
    """The textbook step in TensorFlow, with the project's layers and optimizers."""
    trainer, reals = _trainer(width, policy, "none")
    import tensorflow as tf

    g, d = trainer.generator, trainer.discriminator

    def update() -> tuple:
        fakes = g(g.sample_prior(BATCH, trainer.seed_generator), training=True)
        with tf.GradientTape() as tape:
            real_logits, fake_logits = d(reals, training=True), d(fakes, training=True)
            d_loss = trainer.objective.discriminator(real_logits, fake_logits)
        gradients = tape.gradient(d_loss, d.trainable_variables)
        trainer.d_optimizer.apply(gradients, d.trainable_variables)
        z = g.sample_prior(BATCH, trainer.seed_generator)
        with tf.control_dependencies(gradients), tf.GradientTape() as tape:
            g_loss = trainer.objective.generator(d(g(z, training=True), training=True))
        gradients = tape.gradient(g_loss, g.trainable_variables)
        trainer.g_optimizer.apply(gradients, g.trainable_variables)
        return d_loss, g_loss

    train_step = tf.function(update, autograph=False)
    return lambda: [float(value) for value in train_step()], {"weights": _weights(trainer)}


def _trainer(width: int, policy: str, penalty: str) -> "tuple[GAN, tf.Tensor]":
    """A new GAN and a batch of reals."""
    quiet.import_tensorflow()
    import numpy as np
    import tensorflow as tf

    from cgan_tf.stages.gan_trainer import GAN
    from cgan_tf.training import precision

    config = make_config(width, penalty)
    precision.seed_everything(config)
    shape = (BATCH, RESOLUTION, RESOLUTION, 3)
    reals = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    return GAN(config, policy), tf.constant(reals)


def _weights(trainer: "GAN") -> list[int]:
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
    statistics and the random state change.
    """
    import keras
    import tensorflow as tf

    g, d, objective = trainer.generator, trainer.discriminator, trainer.objective
    kept = trainer.g_optimizer, trainer.d_optimizer
    recorders = [_Recorder(optimizer) for optimizer in kept]
    trainer.g_optimizer, trainer.d_optimizer = recorders
    state = keras.ops.convert_to_numpy(trainer.seed_generator.state)
    trainer.train_step(reals, penalized=(False,))
    trainer.g_optimizer, trainer.d_optimizer = kept
    trainer.seed_generator.state.assign(state)
    z = g.sample_prior(BATCH, trainer.seed_generator)
    fakes = g(z, training=True)
    with tf.GradientTape() as tape:
        loss = objective.discriminator(d(reals, training=True), d(fakes, training=True))
    d_expected = tape.gradient(loss, d.trainable_variables)
    with tf.GradientTape() as tape:
        loss = objective.generator(d(g(z, training=True), training=True))
    g_expected = tape.gradient(loss, g.trainable_variables)
    pairs = zip(
        recorders[0].gradients + recorders[1].gradients, g_expected + d_expected, strict=True
    )
    return max(
        float(tf.reduce_max(tf.abs(one - two)) / tf.reduce_max(tf.abs(two))) for one, two in pairs
    )


def pytorch(width: int, best: bool, compiled: bool = False) -> tuple[Callable, dict]:
    """The textbook step in PyTorch."""
    from benchmarks import torch_step

    config = make_config(width, "none")
    widths = [width * 2**level for level in reversed(range(4))]
    rates = (config.gan.g_lr, config.gan.d_lr, config.gan.betas[0], config.gan.betas[1])
    step, weights = torch_step.textbook_step(
        RESOLUTION, config.gan.z_dim, widths, BATCH, rates, best, compiled
    )
    return step, {"weights": list(weights)}


def tf_product(width: int) -> tuple[Callable, dict]:
    """One bfloat16 matrix product in TensorFlow."""
    quiet.import_tensorflow()
    import tensorflow as tf

    matrix = tf.cast(tf.random.stateless_normal((PRODUCT, PRODUCT), (0, 0)), tf.bfloat16)
    product = tf.function(lambda: tf.matmul(matrix, matrix)[0, 0], autograph=False)
    return lambda: float(product()), {}


def pytorch_product(width: int) -> tuple[Callable, dict]:
    """One bfloat16 matrix product in PyTorch."""
    import torch

    matrix = torch.randn(PRODUCT, PRODUCT).bfloat16()
    return lambda: (matrix @ matrix)[0, 0].item(), {}


# ---- timing and report ---------------------------------------------------------------------------


def measure(width: int) -> dict[str, Any]:
    """Seconds per step by subject and round, FLOPs, failures and the gradients' difference."""
    subjects: dict[str, subprocesses.Subject] = {}
    try:
        for name in FLAGS.subjects:
            maker, keywords = SUBJECTS[name]
            subjects[name] = subprocesses.Subject(
                make, (maker, width, keywords), FLAGS.seconds, timeout=FLAGS.compile_seconds
            )
        timed = {name: subject for name, subject in subjects.items() if not subject.failure}
        turns = subprocesses.take_turns(timed, FLAGS.rounds)
    finally:
        for subject in subjects.values():
            subject.close()
    facts = [subject.facts for subject in timed.values()]
    weights = {tuple(fact["weights"]) for fact in facts if "weights" in fact}
    if len(weights) > 1:
        raise UserError(f"the networks differ: {sorted(weights)} weights of G and D")
    differences = [d for fact in facts if (d := fact.get("gradient_difference")) is not None]
    return {
        "weights": next(iter(weights), None),
        "flops_own": flops(width, own=True),
        "flops_textbook": flops(width, own=False),
        "seconds": {name: [statistics.mean(turn) for turn in turns[name]] for name in timed},
        "failures": {name: s.failure for name, s in subjects.items() if s.failure},
        "gradient_difference": next(iter(differences), None),
    }


def summarize(result: dict[str, Any]) -> dict[str, Any]:
    """Median images per second, the product's FLOP/s, PyTorch's best, and the ratios to it."""
    seconds = result["seconds"]
    rates = {
        name: statistics.median(BATCH / second for second in turns)
        for name, turns in seconds.items()
        if name not in PRODUCTS
    }
    products = [min(seconds[name]) for name in PRODUCTS if name in seconds]
    torch_rates = {name: rate for name, rate in rates.items() if name.startswith("pytorch")}
    best = max(torch_rates, key=torch_rates.__getitem__) if torch_rates else None
    ratios = {}
    if best:
        for name in rates:
            pairs = zip(seconds[name], seconds[best], strict=True)
            ratios[name] = statistics.median(theirs / mine for mine, theirs in pairs)
    return {
        "images_per_second": rates,
        "product_flops": 2 * PRODUCT**3 / min(products) if products else None,
        "best": best,
        "ratios": ratios,
    }


def table(width: int, result: dict[str, Any]) -> list[str]:
    """The lines of one width; `result` is that of `measure` with that of `summarize`."""
    product = result["product_flops"]
    lines = [
        f"{f'width {width}':20}{'images/s':>10}{'/ PyTorch best':>16}{'GFLOP/s':>10}"
        f"{'of product':>12}"
    ]
    for name in FLAGS.subjects:
        if name in result["failures"]:
            lines.append(f"{name:20}{result['failures'][name]}")
        if name not in result["images_per_second"]:
            continue
        rate = result["images_per_second"][name]
        used = rate * result["flops_own" if name.startswith("own") else "flops_textbook"]
        ratio = f"{result['ratios'][name]:.3f}" if name in result["ratios"] else ""
        share = f"{used / product:12.3f}" if product else ""
        lines.append(f"{name:20}{rate:10.1f}{ratio:>16}{used / 1e9:10.0f}{share}")
    if product:
        lines.append(f"{PRODUCT}-wide bfloat16 product: {product / 1e9:.0f} GFLOP/s")
    if result["best"]:
        lines.append(f"PyTorch's best: {result['best']}")
    if result["gradient_difference"] is not None:
        lines.append(
            f"largest difference of own and textbook gradients: {result['gradient_difference']:.1e}"
        )
    return lines


def main() -> int:
    """Runs the benchmark; returns the exit code."""
    unknown = [name for name in FLAGS.subjects if name not in SUBJECTS]
    if unknown:
        raise UserError(f"--subjects={unknown[0]}: one of {', '.join(SUBJECTS)}")
    results = {}
    for width in map(int, FLAGS.widths):
        result = measure(width)
        results[width] = result | summarize(result)
        print("\n".join(table(width, results[width])), flush=True)
    write_json(Path(FLAGS.output), {"batch": BATCH, "resolution": RESOLUTION, "widths": results})
    print(f"written: {FLAGS.output}")
    differences = {width: result["gradient_difference"] for width, result in results.items()}
    wrong = [w for w, value in differences.items() if value is not None and value > MAX_DIFFERENCE]
    for width in wrong:
        print(f"width {width}: the own step's gradients differ from the textbook's")
    return 1 if wrong else 0


if __name__ == "__main__":
    cli.run(main)
