"""cgan_tf.training.optimizers: the fused updates against Keras's."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cgan_tf.training import optimizers

OPTIONS = {"AdamW": {"weight_decay": 0.1, "global_clipnorm": 1.0}, "Adam": {"beta_1": 0.0}}


def train(module, name: str, steps: int, graph: bool) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Weights and optimizer variables after some steps with seeded gradients."""
    generator = np.random.default_rng(0)
    shapes = [(3, 5), (7,)]
    variables = [
        keras.Variable(generator.standard_normal(shape).astype(np.float32)) for shape in shapes
    ]
    schedule = keras.optimizers.schedules.CosineDecay(0.0, 20, warmup_target=0.1, warmup_steps=3)
    optimizer = getattr(module, name)(schedule, **OPTIONS[name])
    optimizer.build(variables)

    def step(*gradients: tf.Tensor) -> None:
        optimizer.apply(list(gradients), variables)

    update = tf.function(step, autograph=False) if graph else step
    for _ in range(steps):
        update(*(tf.constant(generator.standard_normal(s), tf.float32) for s in shapes))
    return [v.numpy() for v in variables], [v.numpy() for v in optimizer.variables]


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("graph", [False, True])
def test_the_fused_update_equals_that_of_keras(graph: bool, name: str) -> None:
    ours, states = train(optimizers, name, 12, graph)
    keras_, keras_states = train(keras.optimizers, name, 12, graph)
    start, _ = train(keras.optimizers, name, 0, graph)
    for value, expected, first in zip(ours, keras_, start, strict=True):
        assert np.abs(expected - first).max() > 0.1  # the weights have changed
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)
    assert len(states) == len(keras_states)
    for value, expected in zip(states, keras_states, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)
