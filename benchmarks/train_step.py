"""The project's GAN step compared with the textbook step, in TensorFlow and in PyTorch.

    pip install -e ".[benchmarks]"
    python -m benchmarks.train_step --widths=32,64 --output=train_step.json
    python -m benchmarks.train_step --widths=48 --batch_size=256 --subjects=own_r1_16_jit,pytorch

One network (the default one: batch norm in G, minibatch standard deviation in D), one batch of
random numbers in memory, one optimizer, on the GPU if there is one, else on the CPU. The textbook
step updates D on reals and on fakes, then G through D on new latents: two passes of G, three of D,
and no gradient that is not used. Each subject is a process of its own that waits while another is
timed, and it is timed only after its first steps, which compile. They take turns, and a ratio is
the median over the rounds of the ratio in one round. PyTorch's best is the best median of its eager
subjects, or of its compiled ones.

A subject's name is what it runs, then words (`WORDS`), e.g. own_r1_float32_16_jit. Without words it
computes in bfloat16 and has no penalty, the own step is deterministic with one step per call, and
PyTorch uses channels_last, Adam's fused kernel and cuDNN's search for algorithms. In float32, GPUs
use TF32 on both sides.

On a CPU the losses are read after each step. On a GPU they are read once per turn, at its end,
which waits for the device: reading them after each step would idle it. That is so for all subjects.

FLOPs are two per multiply-add, of the convolutions and dense layers only: forward, the gradient of
each kernel, the gradient of each input that is needed. The machine's rate is that of a 4096-wide
bfloat16 matrix product, timed in the same rounds in TensorFlow and in PyTorch; the faster counts.

One pass of G and one of D on the fakes serve both players in the project's step. own_float32 also
checks that its gradients are those of the textbook step: same latents and weights, float32, the
largest difference of one kernel's gradient relative to its largest value. Exit code 1 if it is more
than 1e-4.
"""

import statistics
import time
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks import own_step, subprocesses
from benchmarks.own_step import Size
from cgan_tf.core import cli
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_json

LOWEST, MOST_CHANNELS = 4, 512  # of cgan_tf.networks.dcgan, which would import TensorFlow
PRODUCT = 4096  # rows and columns of the matrix product
PRODUCTS = ("tf_product", "pytorch_product")
MAX_DIFFERENCE = 1e-4  # of the gradients, relative
# For each kind of subject, what its words mean; a number is that of the steps in one call.
WORDS: dict[str, dict[str, dict[str, Any]]] = {
    "own": {
        "float32": {"policy": "float32"},
        "r1": {"penalty": "r1"},  # the default lazy penalty
        "unrolled": {"unrolled": True},
        "jit": {"jit": True},
        "nondeterministic": {"deterministic": False},
    },
    "textbook": {"float32": {"policy": "float32"}},
    "pytorch": {
        "float32": {"bfloat16": False},
        "plain": {"plain": True},  # neither channels_last nor fused kernels
        "compiled": {"mode": "default"},
        "graphs": {"mode": "reduce-overhead"},  # compiled, and replayed as CUDA graphs
    },
    PRODUCTS[0]: {},
    PRODUCTS[1]: {},
}
SUBJECTS = (
    "own",
    "own_r1",
    "own_float32",
    "own_r1_16",
    "own_r1_16_jit",
    "textbook",
    "textbook_float32",
    "pytorch_float32_plain",
    "pytorch_float32",
    "pytorch",
    "pytorch_compiled",
    "pytorch_graphs",
    *PRODUCTS,
)

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Defines the command's flags."""
    flags.DEFINE_list("widths", ["32", "64"], "Channels at the finest level.")
    flags.DEFINE_integer("batch_size", 64, "Images in one batch.", lower_bound=4)
    flags.DEFINE_enum("resolution", "64", ["32", "64", "128", "256", "512"], "Image size [px].")
    flags.DEFINE_integer("rounds", 7, "Number of turns of each subject.", lower_bound=1)
    flags.DEFINE_float("seconds", 1.5, "Approximate length of a turn [s].", lower_bound=0.01)
    flags.DEFINE_float("compile_seconds", 240.0, "Time limit for a subject's first steps [s].")
    flags.DEFINE_list("subjects", list(SUBJECTS), "Subjects to time, see above.")
    flags.DEFINE_string("output", "runs/train_step.json", "JSON file of the results.")


def parse(name: str) -> tuple[str, dict[str, Any]]:
    """The kind of a subject and its options.

    Raises:
        UserError: an unknown name.
    """
    if name in PRODUCTS:
        return name, {}
    kind, *words = name.split("_")
    found: dict[str, Any] = {}
    for word in words:
        if kind == "own" and word.isdigit() and int(word):
            found["steps"] = int(word)
        elif word in WORDS.get(kind, {}):
            found |= WORDS[kind][word]
        else:
            known = ", ".join([*WORDS.get(kind, {}), *(["a number"] if kind == "own" else [])])
            raise UserError(f"--subjects={name}: {word} is not a word of it; one of {known}")
    if kind not in WORDS:
        raise UserError(f"--subjects={name}: one of {', '.join(WORDS)}, with words, see --help")
    return kind, found


def level_widths(size: Size) -> list[int]:
    """Channels of the feature maps, coarsest first, as `cgan_tf.networks.dcgan` has them."""
    levels = (size.resolution // LOWEST).bit_length() - 1
    most = max(size.width, MOST_CHANNELS)
    return [min(size.width * 2**level, most) for level in reversed(range(levels))]


def flops(size: Size, own: bool) -> float:
    """FLOPs of one step per image of the batch."""
    z_dim = own_step.make_config(size).gan.z_dim
    widths = level_widths(size)
    sides = [LOWEST * 2**level for level in range(len(widths))]
    taps = 16  # of a 4 px kernel
    dense = z_dim * LOWEST**2 * widths[0]
    coarse = zip(widths, [*widths[1:], 3], sides, strict=True)
    # A convolution multiplies each position of its smaller map with all taps.
    convolutions = [one * two * taps * side * side for one, two, side in coarse]
    g, d = dense + sum(convolutions), sum(convolutions) + LOWEST**2 * (widths[0] + 1)
    first = convolutions[-1]  # D's first layer needs no gradient of its input to train D
    passes = (1, 2) if own else (2, 3)
    forward = passes[0] * g + passes[1] * d
    d_backward = 2 * (2 * d - first)  # on reals and on fakes
    g_backward = d + 2 * g - dense
    return 2.0 * (forward + d_backward + g_backward)


# ---- subjects: each runs in its own process ------------------------------------------------------


def make(name: str, size: Size) -> subprocesses.Timed:
    """A subject."""
    kind, keywords = parse(name)
    if kind == PRODUCTS[0]:
        return own_step.product(PRODUCT)
    if kind == "own":
        return own_step.own(size, **keywords)
    if kind == "textbook":
        return own_step.textbook(size, **keywords)
    return pytorch_product() if kind == PRODUCTS[1] else pytorch(size, **keywords)


def pytorch(size: Size, **keywords: Any) -> subprocesses.Timed:
    """The textbook step in PyTorch."""
    from benchmarks import torch_step

    device = {"cuda": "GPU", "cpu": "CPU"}[torch_step.device()]
    if device == "CPU" and keywords.get("mode") == "reduce-overhead":
        raise UserError("CUDA graphs need a GPU")
    gan = own_step.make_config(size).gan
    rates = (gan.g_lr, gan.d_lr, gan.betas[0], gan.betas[1])
    step = torch_step.TextbookStep(
        size.resolution, gan.z_dim, level_widths(size), size.batch, rates, **keywords
    )
    for _ in range(own_step.WARM_UP):
        step()
    step.finish()
    facts = {"weights": step.weights, "steps": 1, "device": device}
    return subprocesses.Timed(step, facts, step.finish)


def pytorch_product() -> subprocesses.Timed:
    """One bfloat16 matrix product in PyTorch."""
    from benchmarks import torch_step

    multiply, finish = torch_step.product(PRODUCT)
    multiply(), multiply(), finish()
    device = {"cuda": "GPU", "cpu": "CPU"}[torch_step.device()]
    return subprocesses.Timed(multiply, {"steps": 1, "device": device}, finish)


# ---- timing and report ---------------------------------------------------------------------------


def measure(size: Size) -> dict[str, Any]:
    """Seconds per step by subject and round, FLOPs, failures and the gradients' difference."""
    subjects: dict[str, subprocesses.Subject] = {}
    try:
        for name in FLAGS.subjects:
            start = time.perf_counter()
            subject = subjects[name] = subprocesses.Subject(
                make, (name, size), FLAGS.seconds, timeout=FLAGS.compile_seconds
            )
            ready = time.perf_counter() - start
            first = subject.failure or first_rate(subject, size.batch)
            print(f"{name}: started in {ready:.0f} s; {first}", flush=True)
        timed = {name: subject for name, subject in subjects.items() if not subject.failure}
        facts = {name: subject.facts for name, subject in timed.items()}
        check_alike(facts)
        turns = subprocesses.take_turns(timed, FLAGS.rounds)
    finally:
        for subject in subjects.values():
            subject.close()
    differences = [d for f in facts.values() if (d := f.get("gradient_difference")) is not None]
    return {
        "device": next((fact["device"] for fact in facts.values()), None),
        "weights": next((fact["weights"] for fact in facts.values() if "weights" in fact), None),
        "flops_own": flops(size, own=True),
        "flops_textbook": flops(size, own=False),
        "seconds": {
            name: [statistics.mean(turn) / facts[name]["steps"] for turn in turns[name]]
            for name in timed
        },
        "failures": {name: s.failure for name, s in subjects.items() if s.failure},
        "gradient_difference": next(iter(differences), None),
    }


def first_rate(subject: subprocesses.Subject, batch: int) -> str:
    """The rate in one turn, to be shown at once; it does not count."""
    seconds = statistics.mean(subject.turn()) / subject.facts["steps"]
    unit = "images" if "weights" in subject.facts else "products"
    return f"{(batch if unit == 'images' else 1) / seconds:,.0f} {unit}/s at first"


def check_alike(facts: dict[str, dict[str, Any]]) -> None:
    """Refuses to compare different networks or devices.

    Args:
        facts: of each subject.

    Raises:
        UserError: they differ.
    """
    weights = {tuple(fact["weights"]) for fact in facts.values() if "weights" in fact}
    if len(weights) > 1:
        raise UserError(f"the networks differ: {sorted(weights)} weights of G and D")
    for name, fact in facts.items():
        other, reference = next(iter(facts.items()))
        if fact["device"] != reference["device"]:
            raise UserError(
                f"{other} runs on the {reference['device']}, {name} on the {fact['device']}; "
                "cgan check tells why TensorFlow does not use a GPU, and CUDA_VISIBLE_DEVICES=-1 "
                "hides it from both"
            )


def summarize(result: dict[str, Any], batch: int) -> dict[str, Any]:
    """Median images per second, the product's FLOP/s, PyTorch's best, and the ratios to them.

    Args:
        result: that of `measure`.
        batch: images in one batch.
    """
    seconds = result["seconds"]
    rates = {
        name: statistics.median(batch / second for second in turns)
        for name, turns in seconds.items()
        if name not in PRODUCTS
    }
    products = [min(seconds[name]) for name in PRODUCTS if name in seconds]
    groups: dict[str, list[str]] = {"eager": [], "compiled": []}
    for name in rates:
        kind, keywords = parse(name)
        if kind == "pytorch":
            groups["compiled" if "mode" in keywords else "eager"].append(name)
    best = {group: max(names, key=rates.__getitem__) for group, names in groups.items() if names}
    ratios = {
        group: {
            name: statistics.median(
                theirs / mine for mine, theirs in zip(seconds[name], seconds[other], strict=True)
            )
            for name in rates
        }
        for group, other in best.items()
    }
    return {
        "images_per_second": rates,
        "product_flops": 2 * PRODUCT**3 / min(products) if products else None,
        "best": best,
        "ratios": ratios,
    }


def table(size: Size, result: dict[str, Any]) -> list[str]:
    """The lines of one width; `result` is that of `measure` with that of `summarize`."""
    product = result["product_flops"]
    lines = [
        f"{size.resolution} px, width {size.width}, batch {size.batch}, {result['device']}; "
        "ratios to PyTorch's best",
        f"{'':30}{'images/s':>10}{'/ eager':>10}{'/ compiled':>12}{'GFLOP/s':>10}"
        f"{'of product':>12}",
    ]
    for name in FLAGS.subjects:
        if name in result["failures"]:
            lines.append(f"{name:30}{result['failures'][name]}")
        if name not in result["images_per_second"]:
            continue
        rate = result["images_per_second"][name]
        used = rate * result["flops_own" if name.startswith("own") else "flops_textbook"]
        eager, compiled = (
            f"{result['ratios'][group][name]:.3f}" if group in result["ratios"] else ""
            for group in ("eager", "compiled")
        )
        share = f"{used / product:12.3f}" if product else ""
        lines.append(f"{name:30}{rate:10.1f}{eager:>10}{compiled:>12}{used / 1e9:10.0f}{share}")
    if product:
        lines.append(f"{PRODUCT}-wide bfloat16 product: {product / 1e9:.0f} GFLOP/s")
    for group, name in result["best"].items():
        lines.append(f"PyTorch's best, {group}: {name}")
    if result["gradient_difference"] is not None:
        lines.append(
            f"largest difference of own and textbook gradients: {result['gradient_difference']:.1e}"
        )
    return lines


def main() -> int:
    """Runs the benchmark; returns the exit code."""
    for name in FLAGS.subjects:
        parse(name)
    results = {}
    for width in map(int, FLAGS.widths):
        size = Size(int(FLAGS.resolution), width, FLAGS.batch_size)
        result = measure(size)
        results[width] = result | summarize(result, size.batch)
        print("\n".join(table(size, results[width])), flush=True)
    facts = {"batch": FLAGS.batch_size, "resolution": int(FLAGS.resolution), "widths": results}
    write_json(Path(FLAGS.output), facts)
    print(f"written: {FLAGS.output}")
    differences = {width: result["gradient_difference"] for width, result in results.items()}
    wrong = [w for w, value in differences.items() if value is not None and value > MAX_DIFFERENCE]
    for width in wrong:
        print(f"width {width}: the own step's gradients differ from the textbook's")
    return 1 if wrong else 0


if __name__ == "__main__":
    cli.run(main, define_flags)
