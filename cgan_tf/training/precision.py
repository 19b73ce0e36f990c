"""Precision and determinism of a training process."""

from pathlib import Path

import keras
import tensorflow as tf

from cgan_tf.core.config import Config


def compute_policy(config: Config) -> str:
    """The Keras dtype policy of the training: config.precision, with `auto` resolved.

    `auto` is mixed_bfloat16 where the processor has bfloat16 arithmetic (AVX512-BF16 or AMX on a
    CPU, compute capability 8.0 on a GPU), else float32.
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
    """Seeds Keras's initializers, and makes kernels and graphs deterministic if requested."""
    keras.utils.set_random_seed(config.seed)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
        # To save memory, Grappler sums three or more gradients in the order of their arrival, which
        # op determinism does not cover. Its other rewrites bring no measurable gain here.
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
