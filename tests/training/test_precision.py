"""cgan_tf.training.precision: compute types, seeds and deterministic graphs."""

import dataclasses
import types
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from toy_training import config

from cgan_tf.core import replicas
from cgan_tf.training import precision

# Precision and seeds.


@pytest.mark.parametrize(
    "flags, policy",
    [
        ("flags: fma avx512f avx512_bf16", "mixed_bfloat16"),
        ("flags: amx_bf16", "mixed_bfloat16"),
        ("flags: fma avx2 avx512f", "float32"),
        (None, "float32"),
    ],
)
def test_the_compute_type_depends_on_the_processor(monkeypatch, flags, policy):
    def read_text(path):
        assert path == Path("/proc/cpuinfo")
        if flags is None:
            raise FileNotFoundError
        return flags

    monkeypatch.setattr(Path, "read_text", read_text)
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: [])
    assert precision.compute_policy(config(precision="auto")) == policy


@pytest.mark.parametrize(
    "capability, side, policy",
    [
        ((8, 0), 128, "mixed_bfloat16"),
        ((9, 0), 256, "mixed_bfloat16"),
        ((9, 0), 64, "float32"),
        ((7, 5), 128, "float32"),
    ],
)
def test_the_compute_type_depends_on_the_gpu_and_the_resolution(
    monkeypatch, capability, side, policy
):
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: ["GPU:0"])
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details", lambda gpu: {"compute_capability": capability}
    )
    assert precision.compute_policy(config(precision="auto", resolution=side)) == policy


def test_the_compute_type_can_be_forced(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda path: "avx512_bf16")
    assert precision.compute_policy(config(precision="float32")) == "float32"
    assert precision.compute_policy(config(precision="mixed_bfloat16")) == "mixed_bfloat16"


@pytest.mark.parametrize(
    "gpus, replicas_in_sync, jit",
    [([], 1, "false"), (["GPU:0"], 1, "true"), (["GPU:0"], 2, "false")],
)
def test_xla_is_used_on_a_single_gpu_and_recorded(monkeypatch, gpus, replicas_in_sync, jit):
    strategy = types.SimpleNamespace(num_replicas_in_sync=replicas_in_sync)
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: gpus)
    monkeypatch.setattr(replicas, "strategy", lambda: strategy)
    options = config(precision="float32", jit="auto")
    assert precision.resolve(options) == dataclasses.replace(options, jit=jit)
    for chosen in ("true", "false"):
        options = config(precision="float32", jit=chosen)
        assert precision.resolve(options) == options


def test_equal_seeds_give_equal_initial_weights():
    def initialize(seed):
        precision.seed_everything(dataclasses.replace(config(), seed=seed))
        return keras.layers.Dense(4), np.random.random()

    weights = []
    for seed in (1, 1, 2):
        layer, number = initialize(seed)
        layer.build((None, 3))
        weights.append((layer.kernel.numpy(), number))
    assert np.array_equal(weights[0][0], weights[1][0]) and weights[0][1] == weights[1][1]
    assert not np.array_equal(weights[0][0], weights[2][0]) and weights[0][1] != weights[2][1]


@pytest.mark.parametrize("deterministic", [True, False])
def test_graphs_are_deterministic_if_requested(monkeypatch, deterministic):
    calls = []
    monkeypatch.setattr(
        tf.config.experimental, "enable_op_determinism", lambda: calls.append("kernels")
    )
    monkeypatch.setattr(tf.config.optimizer, "set_experimental_options", calls.append)
    precision.seed_everything(config(deterministic=deterministic))
    expected = ["kernels", {"disable_meta_optimizer": True}] if deterministic else []
    assert calls == expected
