"""Precision and determinism of a training process."""

from pathlib import Path

import keras
import tensorflow as tf

from cgan_tf.core.config import Config


def compute_policy(config: Config) -> str:
    """The Keras dtype policy of training: config.precision, with `auto` resolved.

    bfloat16 is taken where the processor multiplies it natively (AVX512-BF16 or AMX on a CPU,
    compute capability 8.0 on a GPU).
    """
    if config.precision != "auto":
        return config.precision
    gpus = tf.config.get_visible_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get(
            "compute_capability", (0,)
        )
        return "mixed_bfloat16" if capability[0] >= 8 else "float32"
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        flags = ""
    return "mixed_bfloat16" if "avx512_bf16" in flags or "amx_bf16" in flags else "float32"


def seed_everything(config: Config) -> None:
    """Seeds Keras's initializers and, if asked, makes the kernels and the graphs deterministic."""
    keras.utils.set_random_seed(config.seed)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
        # To save memory, Grappler adds up three and more gradients in the order of their arrival,
        # which op determinism does not know of. Its other rewrites gain nothing measurable here.
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
