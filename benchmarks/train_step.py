"""The project's own GAN step against the textbook's, in TensorFlow and in PyTorch.

    pip install -r benchmarks/requirements.txt
    python -m benchmarks.train_step --widths=32,64 --output=train_step.json

One network (the default one: 64 px, batch norm in G, minibatch standard deviation in D), one batch
of random numbers in memory, one optimizer. The textbook's step is D on reals and on fakes, then G
through D on fresh latents: two passes of G, three of D, and no gradient that is not used. Each
subject is a process of its own that waits while another is timed; they run in turn, and a ratio is
the median over the rounds of the rates of one round. PyTorch's best is the best median among its
bfloat16 variants and its float32.

FLOPs are two a multiply-add, of the convolutions and dense layers only: forward, the gradient of
each kernel, the gradient of each input that is needed. The machine's rate is a 4096-wide bfloat16
matrix product, timed in the same rounds, in TensorFlow and in PyTorch; the faster counts.

Beside it stands a proof that the own step, whose pass of G and of D on the fakes serves both
players, has the textbook's gradients: the same latents and weights, float32, the largest difference
of one kernel's gradient relative to its largest value.
"""

import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from absl import flags

from cgan_tf.core import cli, quiet
from cgan_tf.core import config as config_module
from cgan_tf.core.config import Config
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_json

RESOLUTION, BATCH = 64, 64
PRODUCT = 4096  # rows and columns of the matrix product
PRODUCTS = ("tf_product", "pytorch_product")
# name: (maker, its options); makers are below. Without a suffix it is bfloat16, and PyTorch's are
# channels_last then; own_r1 has the default lazy penalty, the others none.
SUBJECTS = {
    "own": ("own", {"policy": "mixed_bfloat16"}),
    "own_r1": ("own", {"policy": "mixed_bfloat16", "gan_penalty": "r1"}),
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
flags.DEFINE_list("widths", ["32", "64"], "Channels next to the image.")
flags.DEFINE_integer("rounds", 7, "Turns of each subject.", lower_bound=1)
flags.DEFINE_float("seconds", 1.5, "Length of a turn, about.", lower_bound=0.01)
flags.DEFINE_float("compile_seconds", 240.0, "Patience with a subject's first step.")
flags.DEFINE_list("subjects", list(SUBJECTS), "Which of them to run.")
flags.DEFINE_string("output", "runs/train_step.json", "JSON file of the figures.")


def make_config(width: int, penalty: str) -> Config:
    """The default options at the benchmark's size."""
    return config_module.replace(Config(), 
        seed=1, resolution=RESOLUTION, gan_batch_size=BATCH, gan_width=width, gan_penalty=penalty
    )  # fmt: skip


def flops(width: int, own: bool) -> float:
    """Multiply-adds of one image's share of a step, times two."""
    config = make_config(width, "none")
    widths = [width * 2**level for level in reversed(range(4))]
    taps = 16  # of a 4 px kernel
    dense = config.gan.z_dim * 16 * widths[0]
    coarse = zip(widths, [*widths[1:], 3], (4, 8, 16, 32), strict=True)
    # A convolution multiplies each place of its smaller map with all taps.
    convolutions = [one * two * taps * side * side for one, two, side in coarse]
    g, d = dense + sum(convolutions), sum(convolutions) + 16 * (widths[0] + 1)
    first = convolutions[-1]  # D's first layer needs no gradient of its input to train D
    passes = (1, 2) if own else (2, 3)
    forward = passes[0] * g + passes[1] * d
    d_backward = 2 * (2 * d - first)  # on reals and on fakes
    g_backward = d + 2 * g - dense
    return 2.0 * (forward + d_backward + g_backward)


# ---- subjects: each makes (a step, facts) inside its own process ---------------------------------


def own(width: int, policy: str, penalty: str = "none") -> tuple[Callable, dict]:
    """`GAN.train_step` as `training.train` runs it, with every loss read after each step."""
    trainer, reals = _trainer(width, policy, penalty)
    import tensorflow as tf

    train_step = tf.function(trainer.train_step, autograph=False)

    def step() -> list[float]:
        return [float(value) for value in train_step(reals).values()]

    facts = {"weights": _weights(trainer)}
    if policy == "float32":
        facts["gradient_difference"] = gradient_difference(trainer, reals)
    return step, facts


def textbook(width: int, policy: str) -> tuple[Callable, dict]:
    """The textbook's step in TensorFlow, with the layers and optimizers of the project."""
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


def _trainer(width: int, policy: str, penalty: str) -> tuple:
    quiet.import_tensorflow()
    import numpy as np
    import tensorflow as tf

    from cgan_tf.stages import gan
    from cgan_tf.training import precision

    config = make_config(width, penalty)
    precision.seed_everything(config)
    shape = (BATCH, RESOLUTION, RESOLUTION, 3)
    reals = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    return gan.GAN(config, policy), tf.constant(reals)


def _weights(trainer) -> list[int]:
    import numpy as np

    models = trainer.generator, trainer.discriminator
    return [sum(int(np.prod(v.shape)) for v in m.trainable_variables) for m in models]


class _Recorder:
    """In an optimizer's place: keeps the gradients, changes nothing."""

    def __init__(self, optimizer) -> None:
        self.iterations = optimizer.iterations

    def apply(self, gradients: list, variables: list) -> None:
        self.gradients = gradients


def gradient_difference(trainer, reals) -> float:
    """Largest relative difference of the own step's gradients from the textbook's.

    D's gradient and G's at the same latents, both at D's weights before its update. G and D are
    left as they were, but for G's statistics and the random state.
    """
    import keras
    import tensorflow as tf

    g, d, game = trainer.generator, trainer.discriminator, trainer.objective
    kept = trainer.g_optimizer, trainer.d_optimizer
    recorders = [_Recorder(optimizer) for optimizer in kept]
    trainer.g_optimizer, trainer.d_optimizer = recorders
    state = keras.ops.convert_to_numpy(trainer.seed_generator.state)
    trainer.train_step(reals)
    trainer.g_optimizer, trainer.d_optimizer = kept
    trainer.seed_generator.state.assign(state)
    z = g.sample_prior(BATCH, trainer.seed_generator)
    fakes = g(z, training=True)
    with tf.GradientTape() as tape:
        loss = game.discriminator(d(reals, training=True), d(fakes, training=True))
    d_wanted = tape.gradient(loss, d.trainable_variables)
    with tf.GradientTape() as tape:
        loss = game.generator(d(g(z, training=True), training=True))
    g_wanted = tape.gradient(loss, g.trainable_variables)
    pairs = zip(recorders[0].gradients + recorders[1].gradients, g_wanted + d_wanted, strict=True)
    return max(
        float(tf.reduce_max(tf.abs(one - two)) / tf.reduce_max(tf.abs(two))) for one, two in pairs
    )


def pytorch(width: int, best: bool, compiled: bool = False) -> tuple[Callable, dict]:
    """The textbook's step in PyTorch."""
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


# ---- timing --------------------------------------------------------------------------------------


def serve(pipe, maker: str, width: int, options: dict) -> None:
    """A subject's process: sends its facts after two steps, then times as many as it is asked."""
    try:
        step, facts = globals()[maker](width, **options)
        step(), step()
    except Exception as error:  # a compiler that is not there, a build without bfloat16
        pipe.send(f"{type(error).__name__}: {str(error).strip().splitlines()[0][:120]}")
        return
    pipe.send(facts)
    while count := pipe.recv():
        start = time.perf_counter()
        for _ in range(count):
            step()
        pipe.send((time.perf_counter() - start) / count)


class Subject:
    """The process of one subject."""

    def __init__(self, name: str, width: int) -> None:
        maker, options = SUBJECTS[name]
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(
            target=serve, args=(other, maker, width, options), daemon=True
        )
        self._process.start()
        self.facts, self.failure = {}, None
        if not self._pipe.poll(FLAGS.compile_seconds):
            self.failure = f"no step in {FLAGS.compile_seconds:g} s"
            self.close()
            return
        answer = self._pipe.recv()
        if isinstance(answer, str):
            self.failure = answer
            return
        self.facts = answer
        self._count = 1
        self._count = max(1, round(FLAGS.seconds / self.seconds()))

    def seconds(self) -> float:
        """Of one step, the mean of one turn."""
        self._pipe.send(self._count)
        return self._pipe.recv()

    def close(self) -> None:
        self._process.kill()
        self._process.join()


def measure(width: int) -> dict:
    """Rates by subject and round, and what follows from them."""
    subjects = {}
    try:
        for name in FLAGS.subjects:
            subjects[name] = Subject(name, width)
        timed = {name: s for name, s in subjects.items() if not s.failure}
        rounds = []
        for number in range(FLAGS.rounds):
            names = list(timed) if number % 2 == 0 else list(reversed(timed))
            rounds.append({name: timed[name].seconds() for name in names})
    finally:
        for subject in subjects.values():
            subject.close()
    weights = {tuple(s.facts["weights"]) for s in timed.values() if "weights" in s.facts}
    if len(weights) > 1:
        raise UserError(f"the networks differ: {sorted(weights)} weights of G and D")
    return {
        "weights": next(iter(weights), None),
        "flops_own": flops(width, own=True),
        "flops_textbook": flops(width, own=False),
        "seconds": {name: [turn[name] for turn in rounds] for name in timed},
        "failures": {name: s.failure for name, s in subjects.items() if s.failure},
        "gradient_difference": next(
            (d for s in timed.values() if (d := s.facts.get("gradient_difference")) is not None),
            None,
        ),
    }


def table(width: int, result: dict) -> list[str]:
    """The lines of one width; adds the medians and ratios to `result`."""
    seconds = result["seconds"]
    rates = {n: statistics.median(BATCH / s for s in v) for n, v in seconds.items()
             if n not in PRODUCTS}  # fmt: skip
    torch_rates = {name: rate for name, rate in rates.items() if name.startswith("pytorch")}
    products = {n: min(seconds[n]) for n in PRODUCTS if n in seconds}
    product = 2 * PRODUCT**3 / min(products.values()) if products else None
    best = max(torch_rates, key=torch_rates.get) if torch_rates else None
    result |= {"images_per_second": rates, "product_flops": product, "best": best, "ratios": {}}
    lines = [f"{f'width {width}':20}{'images/s':>10}{'/ PyTorch best':>16}{'GFLOP/s':>10}"
             f"{'of product':>12}"]  # fmt: skip
    for name in FLAGS.subjects:
        if name in result["failures"]:
            lines.append(f"{name:20}{result['failures'][name]}")
        if name not in rates:
            continue
        used = rates[name] * result["flops_own" if name.startswith("own") else "flops_textbook"]
        line = f"{name:20}{rates[name]:10.1f}"
        if best:
            turns = zip(seconds[name], seconds[best], strict=True)
            result["ratios"][name] = statistics.median(theirs / mine for mine, theirs in turns)
            line += f"{result['ratios'][name]:16.3f}"
        lines.append(line.ljust(46) + f"{used / 1e9:10.0f}")
        if product:
            lines[-1] += f"{used / product:12.3f}"
    if product:
        lines.append(f"{PRODUCT}-wide bfloat16 product: {product / 1e9:.0f} GFLOP/s")
    if best:
        lines.append(f"PyTorch's best: {best}")
    if result["gradient_difference"] is not None:
        lines.append(f"own gradients / textbook's: {result['gradient_difference']:.1e} apart")
    return lines


def main() -> None:
    unknown = [name for name in FLAGS.subjects if name not in SUBJECTS]
    if unknown:
        raise UserError(f"--subjects={unknown[0]}: one of {', '.join(SUBJECTS)}")
    widths = [int(width) for width in FLAGS.widths]
    results = {}
    for width in widths:
        results[width] = measure(width)
        print("\n".join(table(width, results[width])), flush=True)
    write_json(Path(FLAGS.output), {"batch": BATCH, "resolution": RESOLUTION, "widths": results})
    print(f"written: {FLAGS.output}")
    for width, result in results.items():
        difference = result["gradient_difference"]
        if difference is not None and not difference <= 1e-4:
            print(f"width {width}: the own step's gradients are not the textbook's")
            sys.exit(1)


if __name__ == "__main__":
    cli.run(main)
