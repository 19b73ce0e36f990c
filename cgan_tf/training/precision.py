"""Precision and determinism of a training process."""

import dataclasses
from pathlib import Path

import keras
import tensorflow as tf

from cgan_tf.core import replicas
from cgan_tf.core.config import Config

BFLOAT16_SIDE = 128  # px from which a GPU trains faster in bfloat16


def resolve(config: Config) -> Config:
    """The options with the precision and the compiler of the training, if they are `auto`.

    They are recorded, so that a run resumes with the same ones on another machine.
    """
    return dataclasses.replace(config, precision=compute_policy(config), jit=jit(config))


def jit(config: Config) -> str:
    """Whether XLA compiles training steps, "true" or "false": config.jit, with `auto` resolved.

    `auto` compiles on a single GPU, where a small step is bound by the launches of its kernels.
    XLA cannot communicate between replicas, and on a CPU its steps are slower.
    """
    if config.jit != "auto":
        return config.jit
    alone = replicas.strategy().num_replicas_in_sync == 1
    return "true" if replicas.on_gpu() and alone else "false"


def compute_policy(config: Config) -> str:
    """The Keras dtype policy of the training: config.precision, with `auto` resolved.

    `auto` is mixed_bfloat16 where it was measured to be the faster one: on a CPU with bfloat16
    arithmetic (AVX512-BF16 or AMX), and from 128 px on a GPU of compute capability 8.0. On smaller
    images a GPU waits for launches, and float32 (TF32) has fewer kernels: no casts.
    """
    if config.precision != "auto":
        return config.precision
    gpus = tf.config.get_visible_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get(
            "compute_capability", (0,)
        )
        pays = capability[0] >= 8 and config.resolution >= BFLOAT16_SIDE
        return "mixed_bfloat16" if pays else "float32"
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
