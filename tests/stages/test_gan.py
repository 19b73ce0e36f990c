"""cgan_tf.gan: one fused step against the textbook, lazy R1, the average, the stage."""

import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

from cgan_tf.core import artifact
from cgan_tf.core.errors import UserError
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.networks.dcgan import Discriminator, Generator
from cgan_tf.stages import gan
from cgan_tf.training import checkpoint, losses, precision


class Recorder:
    """In the place of an optimizer: keeps the gradients, changes nothing."""

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
    trainer = gan.GAN(config, policy)
    for model in (trainer.generator, trainer.discriminator):  # far enough from their start
        for weight in model.trainable_weights:
            weight.assign(weight.numpy() * 3)
    return trainer


def record(trainer, step=0):
    """One train_step at a step that R1 sees as `step`; returns G's and D's gradients, and logs."""
    trainer.g_optimizer, trainer.d_optimizer = Recorder(step), Recorder(step)
    logs = trainer.train_step(reals())
    return trainer.g_optimizer.gradients, trainer.d_optimizer.gradients, logs


def textbook(trainer, label=1.0):
    """Both gradients of a model with D's update and then G's, each with passes of its own."""
    config, g, d = trainer.config, trainer.generator, trainer.discriminator
    game, smooth = losses.OBJECTIVES[config.gan.objective], () if label == 1 else (label,)
    z = g.sample_prior(config.gan.batch_size, keras.random.SeedGenerator(config.seed))
    with tf.GradientTape() as tape:
        loss = game.discriminator(
            d(reals(), training=True),
            d(tf.stop_gradient(g(z, training=True)), training=True),
            *smooth,
        )
    d_gradients = tape.gradient(loss, d.trainable_variables)
    with tf.GradientTape() as tape:
        fakes = d(g(z, training=True), training=True)
        loss = game.generator(fakes, d(reals(), training=True))
    return tape.gradient(loss, g.trainable_variables), d_gradients


def assert_close(one, two):
    for a, b in zip(one, two, strict=True):
        scale = np.abs(np.asarray(b)).max()
        assert scale > 0
        np.testing.assert_allclose(a, b, atol=1e-5 * scale)


def assert_close_but_unused(one, two):
    """As `assert_close`, but D's last bias may have no part in a game of differences."""
    assert_close(one[:-1], two[:-1])
    np.testing.assert_allclose(one[-1], two[-1], atol=1e-5)


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("label", [1.0, 0.9])
def test_the_fused_step_has_the_textbooks_gradients(cache, norm, label):
    trainer = build(cache, gan_d_norm=norm, gan_real_label=label, gan_penalty="none", gan_minibatch_std=True)
    g_wanted, d_wanted = textbook(trainer, label)
    g_gradients, d_gradients, logs = record(trainer)
    assert_close(g_gradients, g_wanted)
    assert_close(d_gradients, d_wanted)
    assert set(logs) == {"g_loss", "d_loss", "d_real", "d_fake"}


@pytest.mark.parametrize("objective", losses.OBJECTIVES)
def test_the_fused_step_has_the_textbooks_gradients_in_every_game(cache, objective):
    trainer = build(cache, gan_objective=objective, gan_penalty="none")
    trainer._apply_d = lambda gradients: trainer.d_optimizer.apply(
        gradients, trainer.discriminator.trainable_variables
    )  # without wgan's clipping
    g_wanted, d_wanted = textbook(trainer)
    g_gradients, d_gradients, logs = record(trainer)
    assert_close(g_gradients, g_wanted)
    assert_close_but_unused(d_gradients, d_wanted)
    belief = objective in ("minimax", "non_saturating")
    seen = {"d_real", "d_fake"} if belief else {"real_logits", "fake_logits"}
    assert set(logs) == {"g_loss", "d_loss"} | seen


def test_the_logs_are_the_losses_and_ds_opinion(cache):
    trainer = build(cache, gan_penalty="none", gan_real_label=0.9)
    z = trainer.generator.sample_prior(8, keras.random.SeedGenerator(trainer.config.seed))
    real = trainer.discriminator(reals(), training=True)
    fake = trainer.discriminator(trainer.generator(z, training=True), training=True)
    *_, logs = record(trainer)
    wanted = {
        "g_loss": losses.non_saturating_generator_loss(fake),
        "d_loss": losses.non_saturating_discriminator_loss(real, fake, 0.9),
        "d_real": tf.reduce_mean(tf.sigmoid(real)),
        "d_fake": tf.reduce_mean(tf.sigmoid(fake)),
    }
    for name, value in wanted.items():
        assert float(logs[name]) == pytest.approx(float(value), rel=1e-5)


def test_r1_joins_every_interval_th_step_with_the_skipped_ones_weight(cache):
    options = {"gan_penalty_interval": 3, "gan_d_norm": "none"}
    _, without, _ = record(build(cache, gan_penalty="none", **options))
    trainer = build(cache, gan_gamma=0.8, **options)
    with tf.GradientTape() as tape:
        penalty = losses.gradient_square_penalty(
            lambda x: trainer.discriminator(x, training=True), reals()
        )
    # The last bias has no part in it.
    variables = [variable.value for variable in trainer.discriminator.trainable_variables]
    extra = tape.gradient(penalty, variables, unconnected_gradients="zero")
    factor = 0.8 / 2 * 3
    assert max(np.abs(e).max() for e in extra) * factor > 1e-3
    for step in range(7):
        _, gradients, logs = record(build(cache, gan_gamma=0.8, **options), step)
        if step % 3:
            assert float(logs["r1"]) == 0
            for one, two in zip(gradients, without, strict=True):
                np.testing.assert_array_equal(one, two)
        else:
            assert float(logs["r1"]) == pytest.approx(3 * float(penalty), rel=1e-5)
            for one, two, more in zip(gradients, without, extra, strict=True):
                np.testing.assert_allclose(one - two, factor * more, rtol=1e-3, atol=1e-6)


def test_lazy_r1_counts_the_discriminators_steps(cache):
    trainer = build(cache, gan_penalty_interval=3)
    step = tf.function(trainer.train_step, autograph=False)
    penalties = [float(step(reals(seed=seed))["r1"]) for seed in range(8)]
    assert [penalty > 0 for penalty in penalties] == [True, False, False] * 2 + [True, False]


PENALTIES = {"r1": {"gan_gamma": 0.8}, "r2": {"gan_gamma": 0.6}, "gp": {"gp_weight": 2.0}}


def penalty_alone(trainer, name):
    """The penalty's value and weighted gradients by passes of its own, at the first step."""
    draw = keras.random.SeedGenerator(trainer.config.seed)
    z = trainer.generator.sample_prior(8, draw)
    fakes = trainer.generator(z, training=True)
    alpha = keras.random.uniform((8, 1, 1, 1), seed=draw)
    variables = [v.value for v in trainer.discriminator.trainable_variables]

    def d(x):
        return trainer.discriminator(x, training=True)

    with tf.GradientTape() as tape:
        if name == "r1":
            penalty = losses.gradient_square_penalty(d, reals())
            loss = 0.8 / 2 * penalty
        elif name == "r2":
            penalty = losses.gradient_square_penalty(d, tf.stop_gradient(fakes))
            loss = 0.6 / 2 * penalty
        else:
            mixed = losses.interpolate(reals(), tf.stop_gradient(fakes), alpha)
            penalty = losses.gradient_norm_penalty(d, mixed)
            loss = 2.0 * penalty
    return float(penalty), tape.gradient(loss, variables, unconnected_gradients="zero")


@pytest.mark.parametrize("penalty", ["r1", "r2", "r1+r2", "gp"])
def test_each_penalty_joins_with_its_weight(cache, penalty):
    names = penalty.split("+")
    options = {"gan_penalty": penalty, "gan_penalty_interval": 2, "gan_d_norm": "none"}
    for name in names:
        options |= PENALTIES[name]
    _, without, _ = record(build(cache, **options | {"gan_penalty": "none"}))
    _, gradients, logs = record(build(cache, **options))
    wanted = [np.zeros_like(gradient) for gradient in gradients]
    for name in names:
        value, extra = penalty_alone(build(cache, **options), name)
        assert max(np.abs(e).max() for e in extra) > 1e-3
        assert float(logs[name]) == pytest.approx(2 * value, rel=1e-4)
        wanted = [w + 2 * np.asarray(e) for w, e in zip(wanted, extra, strict=True)]
    for one, two, more in zip(gradients, without, wanted, strict=True):
        np.testing.assert_allclose(one - two, more, rtol=2e-3, atol=2e-5 * np.abs(more).max())
    _, skipped, logs = record(build(cache, **options), step=1)
    assert [float(logs[name]) for name in names] == [0.0] * len(names)
    assert tiny.same(skipped, without)


def test_interpolates_are_drawn_uniformly(cache, monkeypatch):
    seen = []
    monkeypatch.setattr(
        losses, "interpolate", lambda reals, fakes, alpha: seen.append(alpha.numpy()) or reals
    )
    trainer = build(cache, gan_objective="wgan_gp", gan_penalty_interval=1, gan_d_norm="none")
    for seed in range(60):
        trainer.train_step(reals(seed=seed))
    alpha = np.concatenate(seen).ravel()
    assert len(alpha) == 480 and 0 <= alpha.min() and alpha.max() < 1
    # Kolmogorov and Smirnov's distance from U(0, 1): 0.1 % of uniform draws are above 0.09.
    ranks = (np.arange(480) + 0.5) / 480
    assert np.abs(np.sort(alpha) - ranks).max() < 0.09


def test_several_d_steps_are_those_of_the_algorithm(cache):
    """Two D steps on fresh reals and noise, then G's on fresh noise, through the updated D."""
    options = {"gan_d_steps": 2, "gan_penalty": "none", "gan_d_norm": "none"}
    trainer = build(cache, **options)
    both = tf.concat([reals(seed=1), reals(seed=2)], axis=0)
    trainer.train_step(both)
    by_hand = build(cache, **options)
    draw = keras.random.SeedGenerator(by_hand.config.seed)
    g, d = by_hand.generator, by_hand.discriminator
    for seed in (1, 2):
        fakes = g(g.sample_prior(8, draw), training=True)
        with tf.GradientTape() as tape:
            loss = losses.non_saturating_discriminator_loss(
                d(reals(seed=seed), training=True), d(fakes, training=True)
            )
        by_hand.d_optimizer.apply(tape.gradient(loss, d.trainable_variables), d.trainable_variables)
    z = g.sample_prior(8, draw)
    with tf.GradientTape() as tape:
        loss = losses.non_saturating_generator_loss(d(g(z, training=True), training=True))
    by_hand.g_optimizer.apply(tape.gradient(loss, g.trainable_variables), g.trainable_variables)
    for name in ("generator", "discriminator"):
        ours, wanted = (tiny.values(getattr(x, name)) for x in (trainer, by_hand))
        for one, two in zip(ours, wanted, strict=True):
            np.testing.assert_allclose(one, two, atol=1e-5)
    assert int(trainer.d_optimizer.iterations) == 2 and int(trainer.g_optimizer.iterations) == 1


def test_wgan_clips_after_the_step(cache):
    trainer = build(cache, gan_objective="wgan", clip_value=0.02, gan_d_norm="none")
    trainer.train_step(reals())
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


def test_diffaugment_is_between_both_sides_and_d(cache, monkeypatch):
    trainer = build(cache, gan_augment="diffaugment", gan_augment_ops=("cutout",), gan_penalty="r1")
    seen = []
    call = trainer.discriminator.call
    monkeypatch.setattr(
        trainer.discriminator, "call",
        lambda x, **options: seen.append(np.asarray(x)) or call(x, **options),
    )  # fmt: skip
    g_gradients, *_ = record(trainer)
    assert max(np.abs(g).max() for g in g_gradients) > 0
    assert len(seen) == 3  # reals, fakes, and the reals of R1
    for batch in seen:
        assert all((image == 0).mean() > 0.05 for image in batch)


@pytest.mark.parametrize("sign, target, moves", [(1.0, 0.6, 1), (-1.0, 0.6, -1), (0.4, 0.6, -1)])
def test_ada_moves_against_ds_sureness(cache, sign, target, moves):
    # 8 of 1,000 images: a step moves p by 8 / (1,000 ada_kimg).
    trainer = build(cache, gan_augment="ada", ada_target=target, ada_kimg=0.4)
    trainer.augment_p.assign(0.5)
    trainer.real_sign.assign(sign)
    trainer._steer(tf.fill((8, 1), 3.0 * sign))
    assert float(trainer.augment_p) == pytest.approx(0.5 + moves * 8 / 400, abs=1e-6)
    memory = 0.5 ** (8 / 256)
    wanted = memory * sign + (1 - memory) * np.sign(sign)
    assert float(trainer.real_sign) == pytest.approx(wanted, abs=1e-6)
    for _ in range(200):
        trainer.real_sign.assign(sign)
        trainer._steer(tf.fill((8, 1), 3.0 * sign))
    assert float(trainer.augment_p) == (1.0 if moves > 0 else 0.0)  # and no further


def test_samples_that_are_all_alike_stop_the_stage(chain, tmp_path, monkeypatch):
    monkeypatch.setattr(gan, "COLLAPSE_KIMG", 0.03)
    monkeypatch.setattr(gan, "mean_distance", lambda images: 1.0 if np.std(images) > 0.3 else 0.01)
    folder = RunFolder(tmp_path / "run")
    tiny.save_config(folder, chain.config, chain.faces)
    with pytest.raises(UserError) as error:
        gan.run(chain.config, folder, chain.faces)
    assert str(error.value) == (
        "gan: collapsed (64 samples differ by 0.01 on average, less than --collapse_ratio=0.1 of "
        "what photos do) at 0.03 kimg; there is no checkpoint yet; lower --gan_g_lr and --gan_d_lr, or "
        "raise the penalty's weight (--gan_gamma), with --restart"
    )
    assert not folder.stage("gan").finished()


def test_the_mean_distance_of_images():
    images = np.zeros((3, 2, 2, 3), np.float32)
    images[1], images[2] = 1.0, -1.0  # distances 1, 1 and 2
    assert gan.mean_distance(images) == pytest.approx(4 / 3)
    assert gan.mean_distance(np.ones((5, 2, 2, 3))) == 0.0


def test_spectral_normalization_holds_each_layers_norm(cache):
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
    trainer = gan.GAN(config, "float32")
    assert tiny.same(tiny.values(trainer.average), tiny.values(trainer.generator))
    pairs = zip(trainer.average.weights, trainer.generator.weights, strict=True)
    assert not any(a is b for a, b in pairs)


@pytest.mark.parametrize("steps", [1, 4])
def test_the_averages_half_life(cache, steps):
    # So many steps of 8 images are one half-life: half of the old value is left.
    trainer = build(cache, gan_ema_kimg=8 * steps / 1000, ema_rampup=0.0)
    old = [np.random.default_rng(0).normal(size=w.shape) for w in trainer.average.trainable_weights]
    for weight, value in zip(trainer.average.trainable_weights, old, strict=True):
        weight.assign(value)
    trainer.g_optimizer, trainer.d_optimizer = Recorder(), Recorder()  # G stays where it is
    for _ in range(steps):
        trainer.train_step(reals())
    for mean, value, start in zip(
        trainer.average.trainable_weights, trainer.generator.trainable_weights, old, strict=True
    ):
        np.testing.assert_allclose(mean, 0.5 * start + 0.5 * value.numpy(), atol=1e-5)


def test_the_averages_half_life_grows_to_its_own(cache):
    # After n steps of 8 images the half-life is a half of them, 0.004 n kimg, until it is 0.016.
    trainer = build(cache, gan_ema_kimg=0.016, ema_rampup=0.5)
    weight, value = trainer.average.trainable_weights[0], trainer.generator.trainable_weights[0]
    trainer.g_optimizer, trainer.d_optimizer = Recorder(), Recorder()
    for step in (1, 2, 3, 4, 8):
        trainer.g_optimizer.iterations = tf.constant(step)
        weight.assign(value + 1.0)
        trainer.train_step(reals())
        kept = 0.5 ** (0.008 / min(0.016, 0.004 * step))
        np.testing.assert_allclose(weight.numpy() - value.numpy(), kept, atol=1e-5)


def test_the_average_takes_batch_norms_statistics_too(cache):
    trainer = build(cache, gan_ema_kimg=0.008, ema_rampup=0.0)
    before = tiny.values(trainer.average)
    trainer.train_step(reals())
    for mean, start, value in zip(
        trainer.average.weights, before, trainer.generator.weights, strict=True
    ):
        np.testing.assert_allclose(mean, 0.5 * start + 0.5 * value.numpy(), atol=1e-5)
        assert not np.array_equal(value.numpy(), start)


def test_no_averaging_is_a_copy(cache):
    trainer = build(cache, gan_ema_kimg=0.0)
    trainer.train_step(reals())
    assert tiny.same(tiny.values(trainer.average), tiny.values(trainer.generator))


def test_half_precision_computes_in_it_and_averages_in_float32(cache):
    trainer = build(cache, policy="mixed_bfloat16")
    assert trainer.generator.layers[1].compute_dtype == "bfloat16"
    assert {layer.compute_dtype for layer in trainer.average.layers} == {"float32"}
    logs = trainer.train_step(reals())
    assert all(value.dtype == tf.float32 and np.isfinite(value) for value in logs.values())


def test_the_seed_generator_is_its_own(cache):
    def weights(seed, disturb=False):
        precision.seed_everything(tiny.make_config(cache, seed=1))  # equal initial weights
        trainer = gan.GAN(tiny.make_config(cache, seed=seed), "float32")
        for step in range(2):
            if disturb:
                tf.random.normal((3,))
                np.random.random()
                keras.random.normal((2,))
            trainer.train_step(reals(seed=step))
        return tiny.values(trainer.generator)

    first = weights(seed=1)
    assert tiny.same(first, weights(seed=1, disturb=True))
    assert not tiny.same(first, weights(seed=2))


def test_a_step_changes_nothing_that_the_checkpoint_leaves_out(cache):
    trainer = build(cache)
    parts = checkpoint._variables(trainer.checkpoint_parts())
    held = {id(variable) for variable in parts.values()}
    everything = {id(v): v for v in [*trainer.variables, trainer.seed_generator.state]}
    before = {key: variable.numpy() for key, variable in everything.items()}
    trainer.train_step(reals())
    changed = {k for k, v in everything.items() if not np.array_equal(before[k], v.numpy())}
    assert changed <= held
    assert len(changed) > 2 * len(trainer.generator.weights)


# The stage.


def test_the_stage_leaves_these_files(chain):
    stage = chain.folder.stage("gan")
    assert tiny.listing(stage.path) == [
        "checkpoints/step-000000008.npz",
        "discriminator/config.json",
        "discriminator/weights.h5",
        "fakes000000.png",
        "metadata.json",
        "model/config.json",
        "model/weights.h5",
        "reals.png",
        "stats.jsonl",
    ]
    lines = stage.read_stats()
    # A tick holds whole R1 periods of 3 steps, so that each has a penalty.
    assert [line["kimg"] for line in lines] == [0.024, 0.048, 0.064]
    assert {"g_loss", "d_loss", "d_real", "d_fake", "r1"} < set(lines[0])
    assert all(line["r1"] > 0 for line in lines)
    assert stage.read_metadata()["kimg"] == chain.config.gan.kimg


def test_the_models_are_the_average_and_the_discriminator(chain):
    stage = chain.folder.stage("gan")
    state = tiny.final_state(stage)

    def part(name):
        return [state[key] for key in sorted(state) if key.startswith(f"{name}/")]

    average = artifact.load_model(Generator, stage.model)
    assert tiny.same([v.numpy() for v in average.variables], part("average"))
    assert not tiny.same([v.numpy() for v in average.variables], part("generator"))
    discriminator = artifact.load_model(Discriminator, stage.path / "discriminator")
    assert tiny.same([v.numpy() for v in discriminator.variables], part("discriminator"))
    assert average.prior == chain.config.gan.prior and average.z_dim == chain.config.gan.z_dim


def copy_without(chain, path, *stages):
    """The chain's folder as it was before these stages."""
    shutil.copytree(chain.folder.path, path)
    for name in stages:
        shutil.rmtree(path / name)
    return RunFolder(path)


def test_killed_and_resumed_it_ends_with_the_same_weights(chain, tmp_path, monkeypatch, capsys):
    folder = copy_without(chain, tmp_path / "run", *tiny.STAGES)
    often = tiny.make_config(chain.config.cache_dir, checkpoint_minutes=1e-9)
    with monkeypatch.context() as patch, pytest.raises(tiny.Killed):
        tiny.interrupt(patch, checkpoint=3, kill=5)
        gan.run(often, folder, chain.faces)
    stage = folder.stage("gan")
    assert not stage.finished() and not stage.model.exists()
    np.random.random(7)  # what the new process would have drawn by now
    gan.run(chain.config, folder, chain.faces)
    whole = chain.folder.stage("gan")
    tiny.assert_equal_state(tiny.final_state(stage), tiny.final_state(whole))
    assert stage.artifact_hash() == whole.artifact_hash()
    for name in ("discriminator/weights.h5", "reals.png", "fakes000000.png"):
        assert (stage.path / name).read_bytes() == (whole.path / name).read_bytes()
    assert "gan: going on at 0.0 of 0.064 kimg" in capsys.readouterr().out
    assert len(stage.read_metadata()["resumed"]) == 1


def test_killed_between_the_training_and_the_artifact(chain, tmp_path, monkeypatch):
    folder = copy_without(chain, tmp_path / "run", *tiny.STAGES)
    whole = chain.folder.stage("gan")
    with monkeypatch.context() as patch, pytest.raises(tiny.Killed):
        patch.setattr(
            artifact, "save_model", lambda model, path: (_ for _ in ()).throw(tiny.Killed)
        )
        gan.run(chain.config, folder, chain.faces)
    stage = folder.stage("gan")
    assert not stage.finished()
    gan.run(chain.config, folder, chain.faces)
    assert stage.finished() and stage.artifact_hash() == whole.artifact_hash()
    assert len(stage.read_stats()) == 3


def test_another_seed_gives_other_weights(chain, tmp_path):
    folder = RunFolder(tmp_path / "run")
    config = tiny.make_config(chain.config.cache_dir, seed=4)
    tiny.save_config(folder, config, chain.faces)
    gan.run(config, folder, chain.faces)
    assert folder.stage("gan").artifact_hash() != chain.folder.stage("gan").artifact_hash()
