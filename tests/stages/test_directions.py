"""cgan_tf.directions: the loss on a toy, what is frozen, calibration, the choice, the stage."""

import dataclasses
import json
import shutil
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny
from PIL import Image

from cgan_tf.core import config as config_module
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import file_hash
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.data import face_crop, images
from cgan_tf.editing import detail
from cgan_tf.stages import calibration, directions
from cgan_tf.training import checkpoint

NAMES = ("A", "B", "C")
SLOPES = np.array([[2.0, 0.5, -1.0], [0.3, -1.5, 0.7]], np.float32)  # [z, attributes]


def softplus(x):
    return np.logaddexp(0.0, x)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class ToyRegressor:
    """Logits are linear in the "image"; its only feature map is the image itself."""

    trainable = True
    attribute_names = NAMES

    def __init__(self, names=NAMES):
        self.attribute_names = names

    def features_and_logits(self, x):
        return [x], x[:, 0, 0, :] @ SLOPES[:, : len(self.attribute_names)]

    def __call__(self, x, training):
        assert training is False
        return tf.sigmoid(self.features_and_logits(x)[1])


class ToyPerceptual:
    """The squared distance of the images."""

    backbone = None

    def __init__(self, names=NAMES):
        self.regressor = ToyRegressor(names)

    def normalize(self, maps):
        return maps

    def between(self, x, y):
        return tf.reduce_sum(tf.square(x[0] - y[0]), axis=(1, 2, 3))


class ToyGenerator:
    """A latent is a 1 px image of two channels."""

    trainable = True
    latent_shape = (2,)

    def __call__(self, latent, training):
        assert training is False
        return latent[:, None, None, :]


class ToyEncoder:
    """The reverse, a little beside it, so that there is something to reconstruct."""

    trainable = True

    def __call__(self, image, training):
        assert training is False
        return image[:, 0, 0, :] + 0.1


class ToyDiscriminator:
    trainable = True

    def __call__(self, image, training):
        assert training is False
        return 3.0 * image[:, 0, 0, :1] - 1.0


def toy(names=NAMES, **options):
    config = tiny.make_config("cache", directions_batch_size=64, **options)
    networks = ToyEncoder(), ToyGenerator(), ToyDiscriminator(), ToyPerceptual(names)
    trainer = directions.DirectionsTrainer(names[:2], *networks, config)
    trainer.directions.assign(np.random.default_rng(5).normal(0, 0.1, (2, 2)))
    return trainer


def photos(count=64, spread=1.0, seed=0):
    draw = np.random.default_rng(seed)
    return draw.normal(0, spread, (count, 1, 1, 2)).astype(np.float32)


def draws(trainer, count=64):
    """The attribute and the strength of each photo in the trainer's first step."""
    seed = keras.random.SeedGenerator(trainer.config.seed)
    chosen = keras.random.randint((count,), 0, 2, seed=seed).numpy()
    return chosen, keras.random.uniform((count, 1), -1.0, 1.0, seed=seed).numpy()


@pytest.mark.parametrize("spread", [0.3, 3.0])
def test_the_loss_closed_form(spread):
    weights = {"content": 0.3, "adversarial": 0.7, "attribute": 5.0, "hold": 2.0}
    trainer = toy(**{f"{name}_weight": value for name, value in weights.items()})
    x = photos(spread=spread)
    chosen, eps = draws(trainer)
    assert set(chosen) == {0, 1} and eps.min() < -0.9 and eps.max() > 0.9
    latent = x[:, 0, 0, :] + 0.1
    edited = latent + eps * trainer.directions.numpy()[chosen]
    alpha, after = sigmoid(latent @ SLOPES), sigmoid(edited @ SLOPES)  # of the reconstruction
    target = np.eye(3)[chosen]
    wished = alpha + eps * target
    clipped = np.clip(wished, 0, 1)
    assert (wished != clipped).any()  # the clipping has work to do
    error = np.abs(clipped - after)
    wanted = {
        "content": np.mean(np.sum((x[:, 0, 0, :] - edited) ** 2, axis=1)),
        "adversarial": np.mean(softplus(-(3 * edited[:, 0] - 1))),
        "attribute": np.mean(error[np.arange(64), chosen]),
        "hold": np.mean(np.sum(error * (1 - target), axis=1) / 2),
    }
    logs = trainer.train_step(tf.constant(x))
    assert set(logs) == {*weights, "loss"}
    for name, value in wanted.items():
        assert float(logs[name]) == pytest.approx(weights[name] * value, rel=1e-5), name
    assert float(logs["loss"]) == pytest.approx(
        sum(weights[name] * value for name, value in wanted.items()), rel=1e-5
    )


def test_the_cosines_between_directions_by_hand():
    # Cosines 0.6, 0 and -0.8, whatever the lengths.
    trainer = toy(directions_cosine_weight=2.5)
    rows = np.array([[5.0, 0.0], [0.6, 0.8], [0.0, -3.0]], np.float32)
    assert float(directions.squared_cosines(tf.constant(rows))) == pytest.approx(1.0, rel=1e-6)
    layers = tf.reshape(tf.constant(rows), (3, 2, 1))
    assert float(directions.squared_cosines(layers)) == pytest.approx(1.0, rel=1e-6)
    trainer.directions.assign(rows[:2])
    logs = trainer.train_step(tf.constant(photos()))
    assert float(logs["cosine"]) == pytest.approx(2.5 * 0.36, rel=1e-5)
    parts = ("content", "adversarial", "attribute", "hold", "cosine")
    assert float(logs["loss"]) == pytest.approx(sum(float(logs[part]) for part in parts), rel=1e-5)


def test_the_cosine_penalty_turns_directions_apart():
    trainer = toy(
        content_weight=0.0, adversarial_weight=0.0, attribute_weight=0.0, directions_preservation_weight=0.0,
        directions_cosine_weight=1.0, directions_lr=0.05, directions_kimg=64 * 0.1,
    )  # fmt: skip
    trainer.directions.assign([[1.0, 0.0], [1.6, 1.2]])
    step = tf.function(trainer.train_step, autograph=False)
    x = tf.constant(photos())
    for _ in range(100):
        step(x)
    assert float(directions.squared_cosines(trainer.directions)) < 1e-3
    np.testing.assert_allclose(
        np.linalg.norm(trainer.directions.numpy(), axis=1), [1, 2], rtol=1e-4
    )


def test_a_target_beyond_1_asks_for_1():
    trainer = toy(attribute_weight=1.0)
    x = np.full((64, 1, 1, 2), 9.0, np.float32)  # R is sure of A, and of B's absence
    chosen, eps = draws(trainer)
    trainer.directions.assign(tf.zeros((2, 2)))
    # Nothing is asked of A upwards nor of B downwards: |eps| of the others is the loss.
    wanted = np.mean(np.where(chosen == 0, np.maximum(-eps[:, 0], 0), np.maximum(eps[:, 0], 0)))
    logs = trainer.train_step(tf.constant(x))
    assert float(logs["attribute"]) == pytest.approx(wanted, rel=1e-3)


def test_one_attribute_in_the_data_has_no_others_to_hold():
    config = tiny.make_config("cache", directions_batch_size=64)
    networks = ToyEncoder(), ToyGenerator(), ToyDiscriminator(), ToyPerceptual(("A",))
    trainer = directions.DirectionsTrainer(("A",), *networks, config)
    logs = trainer.train_step(tf.constant(photos()))
    assert float(logs["hold"]) == 0.0 and np.isfinite(float(logs["loss"]))


def test_a_direction_turns_to_its_attribute_and_keeps_its_length():
    trainer = toy(
        content_weight=0.0, adversarial_weight=0.0, directions_preservation_weight=0.0, directions_lr=0.05,
        directions_kimg=64 * 0.1,
    )  # fmt: skip
    wished = (SLOPES[:, :2] / np.linalg.norm(SLOPES[:, :2], axis=0)).T  # what moves A, and B
    sideways = wished[:, ::-1] * [1, -1]
    trainer.directions.assign([[0.8], [1.5]] * (0.2 * wished + sideways))
    lengths = np.linalg.norm(trainer.directions.numpy(), axis=1)
    step = tf.function(trainer.train_step, autograph=False)
    x = photos(spread=0.3)
    first = float(step(tf.constant(x))["attribute"])
    for _ in range(99):
        last = float(step(tf.constant(x))["attribute"])
    assert last < 0.8 * first
    directions_ = trainer.directions.numpy()
    np.testing.assert_allclose(np.linalg.norm(directions_, axis=1), lengths, rtol=1e-4)
    assert np.all(np.sum(directions_ * wished, axis=1) / lengths > 0.97)  # cosines


def test_only_the_directions_learn(chain, slim_vgg):
    trainer = directions.DirectionsTrainer(
        chain.config.attributes, **directions.load_networks(chain.folder, chain.config),
        config=chain.config,
    )  # fmt: skip
    frozen = {
        "encoder": trainer.encoder,
        "generator": trainer.generator,
        "discriminator": trainer.discriminator,
        "regressor": trainer.perceptual.regressor,
        "features": trainer.perceptual.network,
    }
    assert not any(frozen[name].trainable_variables for name in list(frozen)[:4])
    before = {name: tiny.values(network) for name, network in frozen.items()}
    columns = trainer.columns.numpy()
    start = directions.class_differences(trainer.encoder, chain.faces, columns)
    trainer.directions.assign(start)
    step = tf.function(trainer.train_step, autograph=False)
    draw = np.random.default_rng(0)
    for _ in range(3):
        step(tf.constant(draw.uniform(-1, 1, (4, 32, 32, 3)).astype(np.float32)))
    for name, network in frozen.items():
        assert tiny.same(before[name], tiny.values(network)), name
    assert (trainer.directions.numpy() != start).all()
    held = {id(v) for v in checkpoint._variables(trainer.checkpoint_parts()).values()}
    assert {id(trainer.directions), id(trainer.seed_generator.state)} <= held


def test_the_frozen_networks_compute_in_the_trainings_precision(chain, slim_vgg):
    config = dataclasses.replace(chain.config, precision="mixed_bfloat16")
    networks = directions.load_networks(chain.folder, config)
    for name in ("encoder", "generator", "discriminator"):
        kinds = {layer.compute_dtype for layer in networks[name].layers}
        assert "bfloat16" in kinds, name
    regressor = networks["perceptual"].regressor
    assert regressor.backbone.layers[1].compute_dtype == "bfloat16"
    assert {weight.dtype for weight in regressor.weights} == {"float32"}


def test_the_regressors_maps_serve_as_its_perceptual_features(chain, slim_vgg):
    networks = directions.load_networks(chain.folder, chain.config)
    trainer = directions.DirectionsTrainer(("Smiling",), **networks, config=chain.config)
    draw = np.random.default_rng(0)
    x, y = (draw.uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32) for _ in range(2))
    maps = [networks["perceptual"].regressor.features_and_logits(image)[0] for image in (x, y)]
    shared = trainer._perceptual(x, maps[0], y, maps[1])
    np.testing.assert_allclose(shared, networks["perceptual"](x, y), rtol=1e-5)


def test_they_start_at_the_class_differences(faces):
    # The encoder's answer to a photo is its index and its number of channels.
    def encoder(batch, training):
        rows = [by_pixels[photo.tobytes()] for photo in np.asarray(batch)]
        return tf.constant([[row, 3.0] for row in rows], tf.float32)

    train = faces.splits["train"]
    photos = images.to_float(faces.read(train))
    by_pixels = {photo.tobytes(): float(row) for photo, row in zip(photos, train, strict=True)}
    start = directions.class_differences(encoder, faces, [2, 0])
    assert start.shape == (2, 2) and start.dtype == np.float32
    for row, column in zip(start, (2, 0), strict=True):
        has = faces.labels[train, column] == 1
        wanted = train[has].mean() - train[~has].mean()
        np.testing.assert_allclose(row, [wanted, 0.0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_an_attribute_that_all_photos_have_or_none_cannot_be_learned(faces, value):
    labels = faces.labels.copy()
    labels[:, 1] = value
    name = faces.attribute_names[1]
    with pytest.raises(UserError) as caught:
        directions.class_differences(
            lambda batch, training: tf.zeros((len(batch), 2)),
            dataclasses.replace(faces, labels=labels),
            [1],
        )
    assert str(caught.value) == (
        f"--attributes={name}: the first 80 training photos all have it, or none does; it cannot "
        "be learned"
    )


# Calibration.


class Toys(types.SimpleNamespace):
    """A trainer and a data set for `Calibration`: 30 photos, every third has the attribute.

    A latent is (what the photo is, how far it was moved); a photo's label shows in its brightness.
    """

    def __init__(self, score, vector=(0.0, 1.0)):
        def generator(latent, training):
            return latent

        def regressor(latent, training):
            latent = tf.convert_to_tensor(latent)
            return tf.stack(
                [tf.zeros_like(latent[:, 0]), score(latent[:, 0], latent[:, 1])], axis=1
            )

        def encoder(batch, training):
            has = tf.cast(tf.reduce_mean(batch, axis=(1, 2, 3)) > 0, tf.float32)
            return tf.stack([has, tf.zeros_like(has)], axis=1)

        labels = np.zeros((30, 2), np.float32)
        labels[::3, 1] = 1
        trainer = types.SimpleNamespace(
            generator=generator,
            encoder=encoder,
            perceptual=types.SimpleNamespace(regressor=regressor),
            columns=tf.constant([1]),
            directions=tf.Variable([vector]),
        )

        def read(rows):
            return np.broadcast_to(
                np.where(labels[rows, 1], 255, 0).astype(np.uint8)[:, None, None, None],
                (len(rows), 2, 2, 3),
            )

        dataset = types.SimpleNamespace(
            splits={"train": np.arange(30), "validation": np.arange(30)},
            labels=labels,
            attribute_names=("Other", "Smiling"),
            read=read,
        )
        super().__init__(trainer=trainer, dataset=dataset)

    def calibrate(self, asked, count=200):
        measured = calibration.Calibration(self.trainer, self.dataset, "validation", count)
        vector = measured.scale(0, asked)
        return vector, measured.table(0, vector)


@pytest.mark.parametrize("slope, asked", [(0.1, 0.35), (0.1, 0.4499), (0.3, 0.5), (0.8, 0.2)])
def test_calibration_of_a_linear_regressor_is_exact(slope, asked):
    # Photos without the attribute start at 0.1, those with it at 0.9.
    vector, table = Toys(lambda has, z: 0.1 + 0.8 * has + slope * z, (0.0, 2.0)).calibrate(asked)
    # Strength +1 changes the score by slope * 2 * unit.
    np.testing.assert_allclose(vector, [0.0, asked / slope], rtol=1e-5)
    assert vector.dtype == np.float32
    assert [line["strength"] for line in table] == [-1.5, -1.0, -0.5, 0.5, 1.0, 1.5]
    for line in table:
        assert line["change"] == pytest.approx(asked * line["strength"], rel=1e-4)
        assert line["n"] == (20 if line["strength"] > 0 else 10)


def test_calibration_of_a_curved_regressor_halves_its_way_to_the_unit():
    # 0.1 + 0.2 z^2 rises by 0.5 at z = 1.5811, between the steps 1.5 and 2 of the search: the
    # straight line over the last bracket, 1/32 wide, is off by less than a thousandth.
    vector, _ = Toys(lambda has, z: 0.1 + 0.2 * z * z).calibrate(0.5)
    np.testing.assert_allclose(vector[1], 2.5**0.5, atol=1e-3)


def test_steps_up_are_measured_on_photos_without_and_down_on_photos_with():
    # Only photos without it move up, only those with it move down.
    def score(has, z):
        return tf.where(has > 0, 0.8 + 0.3 * tf.minimum(z, 0.0), 0.2 + 0.6 * tf.maximum(z, 0.0))

    vector, table = Toys(score).calibrate(0.3)
    np.testing.assert_allclose(vector, [0.0, 0.5], rtol=1e-5)
    np.testing.assert_allclose(
        [line["change"] for line in table],
        [0.15 * s if s < 0 else 0.3 * s for s in (-1.5, -1.0, -0.5, 0.5, 1.0, 1.5)],
        rtol=1e-4,
    )


def test_a_change_out_of_reach_takes_the_first_step_that_gets_near():
    # It saturates at 0.5: +0.3 from 3 steps on, which 2 do not reach by 95 %.
    vector, table = Toys(lambda has, z: tf.minimum(0.2 + 0.1 * z, 0.5)).calibrate(0.8)
    np.testing.assert_array_equal(vector, [0.0, 3.0])
    assert table[4]["change"] == pytest.approx(0.3, rel=1e-5)


def test_a_change_that_turns_back_is_taken_at_its_peak():
    # +0.15 after 1 step, +0.1875 after 1.5, +0.2 after 2, then down again.
    vector, table = Toys(lambda has, z: 0.2 + 0.2 * z - 0.05 * z * z).calibrate(0.8)
    np.testing.assert_array_equal(vector, [0.0, 2.0])
    assert table[4]["change"] == pytest.approx(0.2, rel=1e-5)


def test_a_direction_that_never_raises_the_score_stays_as_it_was():
    vector, table = Toys(lambda has, z: 0.5 - 0.1 * z, (0.0, 0.7)).calibrate(0.5)
    np.testing.assert_array_equal(vector, np.array([0.0, 0.7], np.float32))
    assert table[4]["change"] == pytest.approx(-0.07, abs=1e-6)


def test_no_more_photos_are_asked_than_said():
    _, table = Toys(lambda has, z: 0.1 * z).calibrate(0.2, count=12)
    assert [line["n"] for line in table] == [10, 10, 10, 12, 12, 12]


@pytest.mark.parametrize("band", [False, True])
@pytest.mark.parametrize("asked", [0.1, 0.23, 5.0])
def test_how_much_further_an_edit_goes_that_keeps_the_detail(asked, band, monkeypatch):
    # G paints all pixels, or four columns of them, with the latent's second number, R's score rises
    # with their mean. The photo's own brightness is R's business alone.
    monkeypatch.setattr(detail, "BLUR", 1e-3)
    painted = np.ones((8, 8), np.float32)
    if band:
        painted[:, :4] = 0
    toys = Toys(lambda has, z: z, (0.0, 0.5))

    def generator(latent, training):
        return latent[:, 1, None, None, None] * np.tile(painted[..., None], (1, 1, 3))

    def regressor(images, training):
        level = tf.reduce_mean(images, axis=(1, 2, 3))
        return tf.stack([tf.zeros_like(level), 0.7 * level], axis=1)

    toys.trainer.generator = generator
    toys.trainer.perceptual = types.SimpleNamespace(regressor=regressor)
    toys.dataset.read = lambda rows: np.full((len(rows), 8, 8, 3), 120, np.uint8)
    measured = calibration.Calibration(toys.trainer, toys.dataset, "validation", 200)
    found = measured.keep_detail(0, np.float32([0.0, 0.5]), asked)
    mask = face_crop.soft_mask(8, face_crop.SOLID_DIFFERENCE)
    slope = 0.7 * 0.5 * (mask * painted).mean()  # per strength
    np.testing.assert_array_equal(detail.decode(found["footprint"], 8), painted)
    assert found["n"] == 20  # those without the attribute
    longest = 2.0 if band else 1.25
    if asked / slope > longest:
        assert found["factor"] == longest
    else:
        assert 0 <= found["factor"] - asked / slope <= longest / 2**6
    assert found["change"] == pytest.approx(slope * found["factor"], rel=1e-4)


def test_directions_start_at_class_differences_of_the_length_that_r_sees(monkeypatch):
    # Latents differ by (1, 0), R's score by 0.1 per unit of the first: a change of 0.25 takes 2.5.
    toys = Toys(lambda has, z: 0.2 + 0.1 * has)
    monkeypatch.setattr(directions, "STARTING_CHANGE", 0.25)
    directions.start_directions(toys.trainer, toys.dataset)
    np.testing.assert_allclose(toys.trainer.directions.numpy(), [[2.5, 0.0]], rtol=1e-5)


def test_an_attribute_that_no_validation_photo_has_or_lacks():
    toys = Toys(lambda has, z: 0.1 * z)
    for value, missing in ((0.0, 1), (1.0, 0)):
        toys.dataset.labels[:, 1] = value
        with pytest.raises(UserError) as caught:
            toys.calibrate(0.5)
        assert str(caught.value) == (
            f"--attributes=Smiling: no validation photo has it at {missing}; "
            "nothing to calibrate on"
        )


# The choice of attributes.


def refusal(faces, *attributes, **changes):
    with pytest.raises(UserError) as caught:
        config = tiny.make_config("cache", attributes=attributes)
        directions.choose_attributes(config, dataclasses.replace(faces, **changes))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_choice_is_the_flags_or_the_data_sets(faces):
    config = tiny.make_config("cache", attributes=("Pale_Skin", "Smiling"))
    assert directions.choose_attributes(config, faces) == ("Pale_Skin", "Smiling")
    config = tiny.make_config("cache", attributes=())
    chosen = directions.choose_attributes(config, faces)
    assert chosen == directions.DEFAULTS["synthetic"] and len(chosen) == 5
    for name in ("celeba", "celeba_dir"):
        assert directions.DEFAULTS[name] == (
            "Smiling", "Blond_Hair", "Black_Hair", "Eyeglasses", "Male",
        )  # fmt: skip


def test_an_unknown_attribute_is_named_with_the_nearest(faces):
    known = ", ".join(faces.attribute_names)
    assert refusal(faces, "Smiling", "Eyeglases") == (
        "--attributes=Eyeglases: the data has no such attribute (did you mean Eyeglasses?); it has "
        f"{known}"
    )
    assert (
        refusal(faces, "Qqq") == f"--attributes=Qqq: the data has no such attribute; it has {known}"
    )


def test_an_attribute_named_twice(faces):
    assert refusal(faces, "Smiling", "Smiling") == (
        "--attributes=Smiling,Smiling: an attribute is named twice"
    )


def test_data_without_a_default(faces):
    assert refusal(faces, name="folder") == (
        "--attributes: name the attributes to edit; the data has "
        f"{', '.join(faces.attribute_names)}"
    )
    assert refusal(faces, name="folder", attribute_names=()) == (
        "--attributes: name the attributes to edit; the data has none: add its CSV"
    )


def test_what_is_to_be_held():
    config = tiny.make_config("cache", directions_condition=("Smiling:Male+Pale_Skin", "Eyeglasses:Smiling"))
    directions.check_hold(config, ("Smiling", "Eyeglasses"), HOLDABLE)
    assert config_module.held(config) == {
        "Smiling": ("Male", "Pale_Skin"),
        "Eyeglasses": ("Smiling",),
    }


HOLDABLE = types.SimpleNamespace(attribute_names=("Smiling", "Male", "Pale_Skin", "Eyeglasses"))


@pytest.mark.parametrize(
    "hold, wanted",
    [
        ("Male:Smiling", "Male is not edited; --attributes has Smiling, Eyeglasses"),
        (
            "Smilin:Male",
            "Smilin is not edited (did you mean Smiling?); --attributes has Smiling, Eyeglasses",
        ),
        (
            "Smiling:Male+Paleskin",
            "the data has no attribute Paleskin (did you mean Pale_Skin?); it has Smiling, Male, "
            "Pale_Skin, Eyeglasses",
        ),
    ],
)
def test_a_hold_that_does_not_fit_is_one_line(hold, wanted):
    config = tiny.make_config("cache", directions_condition=(hold,))
    with pytest.raises(UserError) as caught:
        directions.check_hold(config, ("Smiling", "Eyeglasses"), HOLDABLE)
    assert str(caught.value) == f"--directions_condition={hold}: {wanted}"


# The stage.


def test_the_stage_leaves_these_files(chain):
    stage = chain.folder.stage("directions")
    assert tiny.listing(stage.path) == [
        "checkpoints/step-000000008.npz",
        "edits.png",
        "metadata.json",
        "model/Eyeglasses.json",
        "model/Smiling.json",
        "stats.jsonl",
    ]
    terms = {"content", "adversarial", "attribute", "hold", "loss"}
    assert terms < set(stage.read_stats()[0])
    # Two attributes, six photos each; a photo and five strengths in a row.
    with Image.open(stage.path / "edits.png") as picture:
        assert picture.size == (6 * 32, 2 * 6 * 32)


def test_a_direction_file_says_what_it_is_and_whose(chain):
    generator = file_hash(chain.folder.stage("gan").model / "weights.h5")
    trained = tiny.final_state(chain.folder.stage("directions"))["directions/0000"]
    for name, row in zip(chain.config.attributes, trained, strict=True):
        path = chain.folder.stage("directions").model / f"{name}.json"
        entry = json.loads(path.read_text())
        assert list(entry) == [
            "attribute", "space", "vector", "generator", "calibration", "keep_detail", "seed",
            "family", "hold", "found",
        ]  # fmt: skip
        assert (entry["family"], entry["hold"], entry["found"]) == ("learned", [], {})
        assert (entry["attribute"], entry["space"], entry["seed"]) == (name, "z", 3)
        assert entry["generator"] == generator
        vector = np.array(entry["vector"])
        cosine = vector @ row / np.linalg.norm(vector) / np.linalg.norm(row)
        assert cosine == pytest.approx(1, abs=1e-5)
        assert [line["strength"] for line in entry["calibration"]] == list(calibration.TABLE)
        assert all(line["n"] >= 1 for line in entry["calibration"])
        assert 0 <= entry["keep_detail"]["factor"] <= calibration.KEEP_DETAIL_LONGEST
        acts = detail.decode(entry["keep_detail"]["footprint"], 32)
        assert acts.max() == 1


def test_strengths_out_of_reach_are_recorded(chain):
    # An untrained regressor's scores hardly move.
    notes = chain.folder.read()["substitutions"]
    for name in chain.config.attributes:
        assert f"{name} +1 stands for " in notes[f"calibration of {name}"]
        assert "not --directions_calibrated_change=" in notes[f"calibration of {name}"]
        entry = json.loads((chain.folder.stage("directions").model / f"{name}.json").read_text())
        reached = next(at["change"] for at in entry["calibration"] if at["strength"] == 1.0)
        change = entry["keep_detail"]["change"]
        note = notes.get(f"calibration of {name} with --keep_detail", "")
        assert (f"{name} +1 with --keep_detail stands for {change:+.2f}" in note) == (
            change < 0.9 * reached
        )


def test_killed_and_resumed_it_ends_with_the_same_directions(
    chain, slim_vgg, tmp_path, monkeypatch
):
    shutil.copytree(chain.folder.path, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    shutil.rmtree(folder.stage("directions").path)
    earlier = ("gan", "regressor", "inversion")
    others = {name: tiny.snapshot(folder.stage(name).path) for name in earlier}
    often = tiny.make_config(chain.config.cache_dir, checkpoint_minutes=1e-9)
    with monkeypatch.context() as patch, pytest.raises(tiny.Killed):
        tiny.interrupt(patch, checkpoint=3, kill=6)
        directions.run(often, folder, chain.faces)
    # A note from an attempt before this one must not outlive it.
    folder.substitute("calibration of Male", "half")
    directions.run(chain.config, folder, chain.faces)
    whole, stage = chain.folder.stage("directions"), folder.stage("directions")
    tiny.assert_equal_state(tiny.final_state(stage), tiny.final_state(whole))
    assert stage.artifact_hash() == whole.artifact_hash()
    assert (stage.path / "edits.png").read_bytes() == (whole.path / "edits.png").read_bytes()
    assert folder.read()["substitutions"] == chain.folder.read()["substitutions"]
    assert others == {name: tiny.snapshot(folder.stage(name).path) for name in earlier}


def test_directions_are_saved_all_or_none(tmp_path, monkeypatch):
    folder = tmp_path / "model"
    directions.save_directions(folder, {"A": {"vector": [1.0]}, "B": {"vector": [2.0]}})
    before = tiny.snapshot(tmp_path)
    with pytest.raises(ValueError, match="JSON compliant"):
        directions.save_directions(folder, {"A": {"vector": [3.0]}, "C": {"vector": [np.nan]}})
    assert {k: v for k, v in tiny.snapshot(tmp_path).items() if not k.startswith(".")} == before
    directions.save_directions(folder, {"C": {"vector": [4.0]}})
    assert tiny.listing(tmp_path) == ["model/C.json"]
