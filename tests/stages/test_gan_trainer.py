"""cgan_tf.stages.gan_trainer: the training step compared with the textbook."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

from cgan_tf.stages import gan_trainer
from cgan_tf.stages.gan_trainer import GAN
from cgan_tf.training import checkpoint, feed, loop, losses, precision


class Recorder:
    """Replaces an optimizer: records the gradients and updates nothing."""

    def __init__(self, step=0):
        self.iterations = tf.constant(step)
        self.gradients = None

    def apply(self, gradients, variables):
        assert len(gradients) == len(variables)
        self.gradients = [tf.convert_to_tensor(gradient).numpy() for gradient in gradients]


def reals(count=8, seed=0):
    return tf.constant(
        np.random.default_rng(seed).uniform(-1, 1, (count, 32, 32, 3)).astype(np.float32)
    )


def build(cache, policy="float32", **options):
    config = tiny.make_config(cache, **options)
    precision.seed_everything(config)
    trainer = GAN(config, policy)
    for model in (trainer.generator, trainer.discriminator):  # so that the losses matter
        for weight in model.trainable_weights:
            weight.assign(weight.numpy() * 3)
    return trainer


def train_step(trainer, data, step=0):
    """The eager step that follows `step` steps; returns the losses."""
    return trainer.train_step(data, *trainer.variant(step))


def record(trainer, step=0):
    """G's and D's gradients and the losses of the step that follows `step` steps."""
    trainer.g_optimizer, trainer.d_optimizer = Recorder(step), Recorder(step)
    logs = train_step(trainer, reals(), step)
    return trainer.g_optimizer.gradients, trainer.d_optimizer.gradients, logs


def textbook(trainer, label=1.0):
    """G's and D's gradients, each from separate passes."""
    config, g, d = trainer.config, trainer.generator, trainer.discriminator
    objective = losses.OBJECTIVES[config.gan.objective]
    smoothing = () if label == 1 else (label,)
    z = g.sample_prior(config.gan.batch_size, keras.random.SeedGenerator(config.seed))
    with tf.GradientTape() as tape:
        loss = objective.discriminator(
            d(reals(), training=True),
            d(tf.stop_gradient(g(z, training=True)), training=True),
            *smoothing,
        )
    d_gradients = tape.gradient(loss, d.trainable_variables)
    with tf.GradientTape() as tape:
        fakes = d(g(z, training=True), training=True)
        loss = objective.generator(fakes, d(reals(), training=True))
    return tape.gradient(loss, g.trainable_variables), d_gradients


def assert_close(one, two):
    for a, b in zip(one, two, strict=True):
        scale = np.abs(np.asarray(b)).max()
        assert scale > 0
        np.testing.assert_allclose(a, b, atol=1e-5 * scale)


def assert_close_but_unused(one, two):
    """As `assert_close`, but the gradient of D's last bias can be zero."""
    assert_close(one[:-1], two[:-1])
    np.testing.assert_allclose(one[-1], two[-1], atol=1e-5)


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("label", [1.0, 0.9])
def test_the_joint_step_has_the_gradients_of_the_textbook(cache, norm, label):
    trainer = build(cache, gan_d_norm=norm, gan_real_label=label, gan_penalty="none")
    g_expected, d_expected = textbook(trainer, label)
    g_gradients, d_gradients, logs = record(trainer)
    assert_close(g_gradients, g_expected)
    assert_close(d_gradients, d_expected)
    assert set(logs) == {"g_loss", "d_loss", "d_real", "d_fake"}


@pytest.mark.parametrize("objective", losses.OBJECTIVES)
def test_the_joint_step_has_the_gradients_of_the_textbook_for_every_objective(cache, objective):
    trainer = build(cache, gan_objective=objective, gan_penalty_interval=3)
    trainer._update_discriminator = lambda gradients: trainer.d_optimizer.apply(
        gradients, trainer.discriminator.trainable_variables
    )  # without wgan's clipping
    g_expected, d_expected = textbook(trainer)
    g_gradients, d_gradients, logs = record(trainer, step=1)  # not penalized
    assert_close(g_gradients, g_expected)
    assert_close_but_unused(d_gradients, d_expected)
    probabilities = objective in ("minimax", "non_saturating")
    scores = {"d_real", "d_fake"} if probabilities else {"real_logits", "fake_logits"}
    assert set(logs) == {"g_loss", "d_loss", *trainer.penalties} | scores


def test_the_logs_are_the_losses_and_the_discriminator_scores(cache):
    trainer = build(cache, gan_penalty="none", gan_real_label=0.9)
    z = trainer.generator.sample_prior(8, keras.random.SeedGenerator(trainer.config.seed))
    real = trainer.discriminator(reals(), training=True)
    fake = trainer.discriminator(trainer.generator(z, training=True), training=True)
    *_, logs = record(trainer)
    expected = {
        "g_loss": losses.non_saturating_generator_loss(fake),
        "d_loss": losses.non_saturating_discriminator_loss(real, fake, 0.9),
        "d_real": tf.reduce_mean(tf.sigmoid(real)),
        "d_fake": tf.reduce_mean(tf.sigmoid(fake)),
    }
    for name, value in expected.items():
        assert float(logs[name]) == pytest.approx(float(value), rel=1e-5)


def test_lazy_r1_is_weighted_by_the_interval(cache):
    options = {"gan_penalty_interval": 3, "gan_d_norm": "none"}
    _, without, _ = record(build(cache, gan_penalty="none", **options))
    trainer = build(cache, gan_gamma=0.8, **options)
    with tf.GradientTape() as tape:
        penalty = losses.gradient_square_penalty(
            lambda x: trainer.discriminator(x, training=True), reals()
        )
    # It does not depend on the last bias.
    variables = [variable.value for variable in trainer.discriminator.trainable_variables]
    extra = tape.gradient(penalty, variables, unconnected_gradients="zero")
    factor = 0.8 / 2 * 3
    assert max(np.abs(e).max() for e in extra) * factor > 1e-3
    for step in (0, 1, 2, 3):
        _, gradients, logs = record(build(cache, gan_gamma=0.8, **options), step)
        if step % 3:
            assert float(logs["r1"]) == 0
            for one, two in zip(gradients, without, strict=True):
                np.testing.assert_array_equal(one, two)
        else:
            assert float(logs["r1"]) == pytest.approx(3 * float(penalty), rel=1e-5)
            for one, two, more in zip(gradients, without, extra, strict=True):
                np.testing.assert_allclose(one - two, factor * more, rtol=1e-3, atol=1e-6)


def variants(trainer, steps):
    return [trainer.variant(step)[0] for step in range(steps)]


@pytest.mark.parametrize(
    "d_steps, interval, period, expected",
    [
        (1, 1, 1, [(True,)] * 4),
        (1, 3, 3, [(True,), (False,), (False,), (True,)]),
        (2, 3, 3, [(True, False), (False, True), (False, False), (True, False)]),
        (3, 2, 2, [(True, False, True), (False, True, False)] * 2),
        (2, 4, 2, [(True, False), (False, False)] * 2),
    ],
)
def test_the_penalty_interval_counts_the_steps_of_the_discriminator(
    cache, d_steps, interval, period, expected
):
    trainer = build(cache, gan_d_steps=d_steps, gan_penalty_interval=interval)
    assert variants(trainer, 4) == expected
    assert trainer.period == period
    assert variants(trainer, 3 * period) == variants(trainer, period) * 3


def test_without_a_penalty_there_is_one_variant(cache):
    trainer = build(cache, gan_penalty="none")
    assert set(variants(trainer, 40)) == {(False,)} and trainer.period == 1


def test_the_compiled_steps_follow_the_penalty_interval(cache):
    trainer = build(cache, gan_penalty_interval=3)
    train = loop.CompiledSteps(trainer, feed.SameBatch(reals()))
    penalties = [float(train(step)[1]["r1"]) for step in range(5)]
    assert [penalty > 0 for penalty in penalties] == [True, False, False, True, False]
    assert int(trainer.d_optimizer.iterations) == 5


def penalty_alone(trainer, name):
    """The penalty's value and weighted gradients from separate passes, in the first step."""
    seed = keras.random.SeedGenerator(trainer.config.seed)
    z = trainer.generator.sample_prior(8, seed)
    fakes = trainer.generator(z, training=True)
    alpha = keras.random.uniform((8, 1, 1, 1), seed=seed)
    variables = [v.value for v in trainer.discriminator.trainable_variables]

    def d(x):
        return trainer.discriminator(x, training=True)

    with tf.GradientTape() as tape:
        if name == "r1":
            penalty = losses.gradient_square_penalty(d, reals())
            loss = 0.8 / 2 * penalty
        elif name == "r2":
            penalty = losses.gradient_square_penalty(d, tf.stop_gradient(fakes))
            loss = 0.8 / 2 * penalty
        else:
            mixed = losses.interpolate(reals(), tf.stop_gradient(fakes), alpha)
            penalty = losses.gradient_norm_penalty(d, mixed)
            loss = 2.0 * penalty
    return float(penalty), tape.gradient(loss, variables, unconnected_gradients="zero")


@pytest.mark.parametrize("penalty", ["r1", "r2", "r1+r2", "gp"])
def test_each_penalty_has_its_weight(cache, penalty, monkeypatch):
    monkeypatch.setattr(gan_trainer, "GP_WEIGHT", 2.0)
    names = penalty.split("+")
    options = {"gan_penalty": penalty, "gan_penalty_interval": 2, "gan_gamma": 0.8}
    _, without, _ = record(build(cache, **options | {"gan_penalty": "none"}))
    _, gradients, logs = record(build(cache, **options))
    expected = [np.zeros_like(gradient) for gradient in gradients]
    for name in names:
        value, extra = penalty_alone(build(cache, **options), name)
        assert max(np.abs(e).max() for e in extra) > 1e-3
        assert float(logs[name]) == pytest.approx(2 * value, rel=1e-4)
        expected = [w + 2 * np.asarray(e) for w, e in zip(expected, extra, strict=True)]
    for one, two, more in zip(gradients, without, expected, strict=True):
        np.testing.assert_allclose(one - two, more, rtol=2e-3, atol=2e-5 * np.abs(more).max())
    _, skipped, logs = record(build(cache, **options), step=1)
    assert [float(logs[name]) for name in names] == [0.0] * len(names)
    assert tiny.same(skipped, without)


def test_interpolation_points_are_uniform(cache, monkeypatch):
    seen = []
    monkeypatch.setattr(
        losses, "interpolate", lambda reals, fakes, alpha: seen.append(alpha.numpy()) or reals
    )
    trainer = build(cache, gan_objective="wgan_gp", gan_batch_size=240)
    logits = trainer._logits
    monkeypatch.setattr(trainer, "_logits", lambda images: logits(images[:4]))  # saves time
    for _ in range(2):
        trainer._penalty_gradients(reals(240), reals(240, seed=1))
    alpha = np.concatenate(seen).ravel()
    assert len(alpha) == 480 and 0 <= alpha.min() and alpha.max() < 1
    # Kolmogorov-Smirnov statistic: above 0.09 for 0.1 % of uniform samples.
    ranks = (np.arange(480) + 0.5) / 480
    assert np.abs(np.sort(alpha) - ranks).max() < 0.09


def test_several_d_steps_are_those_of_the_algorithm(cache):
    """Two D steps on fresh reals and latents, then a G step on fresh latents with the updated D."""
    options = {"gan_d_steps": 2, "gan_penalty": "none", "gan_d_norm": "none"}
    trainer = build(cache, **options)
    both = tf.concat([reals(seed=1), reals(seed=2)], axis=0)
    train_step(trainer, both)
    by_hand = build(cache, **options)
    latents = keras.random.SeedGenerator(by_hand.config.seed)
    g, d = by_hand.generator, by_hand.discriminator
    for seed in (1, 2):
        fakes = g(g.sample_prior(8, latents), training=True)
        with tf.GradientTape() as tape:
            loss = losses.non_saturating_discriminator_loss(
                d(reals(seed=seed), training=True), d(fakes, training=True)
            )
        by_hand.d_optimizer.apply(tape.gradient(loss, d.trainable_variables), d.trainable_variables)
    z = g.sample_prior(8, latents)
    with tf.GradientTape() as tape:
        loss = losses.non_saturating_generator_loss(d(g(z, training=True), training=True))
    by_hand.g_optimizer.apply(tape.gradient(loss, g.trainable_variables), g.trainable_variables)
    for name in ("generator", "discriminator"):
        ours, expected = (tiny.values(getattr(x, name)) for x in (trainer, by_hand))
        for one, two in zip(ours, expected, strict=True):
            np.testing.assert_allclose(one, two, atol=1e-5)
    assert int(trainer.d_optimizer.iterations) == 2 and int(trainer.g_optimizer.iterations) == 1


def test_wgan_clips_after_the_step(cache, monkeypatch):
    monkeypatch.setattr(gan_trainer, "CLIP_VALUE", 0.02)
    trainer = build(cache, gan_objective="wgan", gan_d_norm="none")
    train_step(trainer, reals())
    sizes = [np.abs(w.numpy()).max() for w in trainer.discriminator.trainable_weights]
    assert max(sizes) == pytest.approx(0.02)
    assert max(np.abs(w.numpy()).max() for w in trainer.generator.trainable_weights) > 0.02


def test_ada_at_probability_0_changes_no_gradient(cache):
    options = {"gan_d_norm": "none", "gan_penalty": "none"}
    g_plain, d_plain, _ = record(build(cache, **options))
    g_ada, d_ada, logs = record(build(cache, gan_augment="ada", **options))
    assert_close(g_ada, g_plain)
    assert_close(d_ada, d_plain)
    assert "augment_p" in logs


def test_diffaugment_augments_reals_and_fakes(cache, monkeypatch):
    half = tf.constant([1.0] * 16 + [0.0] * 16)[None, :, None, None]  # of 32 px, black to gray
    monkeypatch.setattr(gan_trainer.augment, "OPS", {"half": (lambda images, *_: images * half, 1)})
    trainer = build(cache, gan_augment="diffaugment", gan_penalty="r1")
    seen = []
    call = trainer.discriminator.call
    monkeypatch.setattr(
        trainer.discriminator,
        "call",
        lambda x, **options: seen.append(np.asarray(x)) or call(x, **options),
    )
    g_gradients, *_ = record(trainer)
    assert max(np.abs(g).max() for g in g_gradients) > 0
    assert len(seen) == 3  # reals, fakes, and the reals of R1
    for batch in seen:
        assert np.all(batch[:, 16:] == 0) and np.all(batch[:, :16].std(axis=(1, 2, 3)) > 0)


@pytest.mark.parametrize("sign, target, moves", [(1.0, 0.6, 1), (-1.0, 0.6, -1), (0.4, 0.6, -1)])
def test_ada_follows_the_overfitting_of_the_discriminator(cache, monkeypatch, sign, target, moves):
    # A step of 8 images moves p by 8 / (1000 ADA_KIMG).
    monkeypatch.setattr(gan_trainer, "ADA_TARGET", target)
    monkeypatch.setattr(gan_trainer, "ADA_KIMG", 0.4)
    trainer = build(cache, gan_augment="ada")
    trainer.augment_p.assign(0.5)
    trainer.real_sign.assign(sign)
    trainer._update_augment_p(tf.fill((8, 1), 3.0 * sign))
    assert float(trainer.augment_p) == pytest.approx(0.5 + moves * 8 / 400, abs=1e-6)
    decay = 0.5 ** (8 / 256)
    expected = decay * sign + (1 - decay) * np.sign(sign)
    assert float(trainer.real_sign) == pytest.approx(expected, abs=1e-6)
    for _ in range(200):
        trainer.real_sign.assign(sign)
        trainer._update_augment_p(tf.fill((8, 1), 3.0 * sign))
    assert float(trainer.augment_p) == (1.0 if moves > 0 else 0.0)  # the limit


def test_spectral_normalization_limits_the_norm_of_each_layer(cache):
    trainer = build(cache, gan_d_norm="spectral", gan_penalty="none")
    for seed in range(30):
        trainer.discriminator(reals(seed=seed), training=True)
    layers = [x for x in trainer.discriminator.layers if hasattr(x, "normalized_weights")]
    assert len(layers) == 4  # three convolutions at 32 px, and the dense layer
    for layer in layers:
        kernel = layer.layer.kernel.numpy()
        norm = np.linalg.norm(kernel.reshape(-1, kernel.shape[-1]), 2)
        assert norm == pytest.approx(1.0, abs=0.05)


def test_the_average_starts_as_a_copy(cache):
    config = tiny.make_config(cache)
    trainer = GAN(config, "float32")
    assert tiny.same(tiny.values(trainer.average), tiny.values(trainer.generator))
    pairs = zip(trainer.average.weights, trainer.generator.weights, strict=True)
    assert not any(a is b for a, b in pairs)


@pytest.mark.parametrize("steps", [1, 4])
def test_the_half_life_of_the_average(cache, steps, monkeypatch):
    # These steps of 8 images are one half-life: half of the old value is left.
    monkeypatch.setattr(gan_trainer, "EMA_RAMPUP", 1e9)
    trainer = build(cache, gan_ema_kimg=8 * steps / 1000)
    old = [np.random.default_rng(0).normal(size=w.shape) for w in trainer.average.trainable_weights]
    for weight, value in zip(trainer.average.trainable_weights, old, strict=True):
        weight.assign(value)
    trainer.g_optimizer, trainer.d_optimizer = (
        Recorder(step=1),
        Recorder(step=1),
    )  # G does not change
    for _ in range(steps):
        train_step(trainer, reals())
    for mean, value, start in zip(
        trainer.average.trainable_weights, trainer.generator.trainable_weights, old, strict=True
    ):
        np.testing.assert_allclose(mean, 0.5 * start + 0.5 * value.numpy(), atol=1e-5)


def test_the_ramp_up_of_the_half_life(cache, monkeypatch):
    # After n steps of 8 images the half-life is half of them, 0.004 n kimg, up to 0.016 kimg.
    monkeypatch.setattr(gan_trainer, "EMA_RAMPUP", 0.5)
    trainer = build(cache, gan_ema_kimg=0.016)
    weight, value = trainer.average.trainable_weights[0], trainer.generator.trainable_weights[0]
    trainer.g_optimizer, trainer.d_optimizer = Recorder(), Recorder()
    for step in (1, 2, 3, 4, 8):
        trainer.g_optimizer.iterations = tf.constant(step)
        weight.assign(value + 1.0)
        train_step(trainer, reals())
        kept = 0.5 ** (0.008 / min(0.016, 0.004 * step))
        np.testing.assert_allclose(weight.numpy() - value.numpy(), kept, atol=1e-5)


def test_the_average_includes_the_statistics_of_batch_norm(cache, monkeypatch):
    monkeypatch.setattr(gan_trainer, "EMA_RAMPUP", 1e9)
    trainer = build(cache, gan_ema_kimg=0.008)
    before = tiny.values(trainer.average)
    train_step(trainer, reals())
    for mean, start, value in zip(
        trainer.average.weights, before, trainer.generator.weights, strict=True
    ):
        np.testing.assert_allclose(mean, 0.5 * start + 0.5 * value.numpy(), atol=1e-5)
        assert not np.array_equal(value.numpy(), start)


def test_without_averaging_the_average_is_a_copy(cache):
    trainer = build(cache, gan_ema_kimg=0.0)
    train_step(trainer, reals())
    assert tiny.same(tiny.values(trainer.average), tiny.values(trainer.generator))


def test_half_precision_averages_in_float32(cache):
    trainer = build(cache, policy="mixed_bfloat16")
    assert trainer.generator.layers[1].compute_dtype == "bfloat16"
    assert {layer.compute_dtype for layer in trainer.average.layers} == {"float32"}
    logs = train_step(trainer, reals())
    assert all(value.dtype == tf.float32 and np.isfinite(value) for value in logs.values())


def test_a_step_uses_no_other_random_numbers(cache):
    def weights(seed, disturb=False):
        precision.seed_everything(tiny.make_config(cache, seed=1))  # equal initial weights
        trainer = GAN(tiny.make_config(cache, seed=seed), "float32")
        for step in range(2):
            if disturb:
                tf.random.normal((3,))
                np.random.random()
                keras.random.normal((2,))
            train_step(trainer, reals(seed=step))
        return tiny.values(trainer.generator)

    first = weights(seed=1)
    assert tiny.same(first, weights(seed=1, disturb=True))
    assert not tiny.same(first, weights(seed=2))


@pytest.mark.parametrize("arch", ["dcgan", "stylegan", "residual"])
def test_a_step_changes_only_variables_of_the_checkpoint(cache, arch):
    trainer = build(cache, gan_arch=arch, gan_augment="ada")
    parts = checkpoint.named_variables(trainer.checkpoint_parts())
    saved = {id(variable) for variable in parts.values()}
    everything = {id(v): v for v in [*trainer.variables, trainer.seed_generator.state]}
    train_step(trainer, reals())  # before it, stylegan's images do not depend on its weights
    before = {key: variable.numpy() for key, variable in everything.items()}
    train_step(trainer, reals())
    changed = {k for k, v in everything.items() if not np.array_equal(before[k], v.numpy())}
    assert changed <= saved
    assert len(changed) > 2 * len(trainer.generator.trainable_weights)
