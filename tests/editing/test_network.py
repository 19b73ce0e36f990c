"""The editing network: the formula, and its assembly from a run folder."""

import json
import shutil

import fake_run
import keras
import numpy as np
import pytest

from cgan_tf.core import artifact, run_folder
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_json
from cgan_tf.editing.models import read_directions
from cgan_tf.editing.network import EditingNetwork
from cgan_tf.networks.codec import Codec
from cgan_tf.networks.dcgan import Generator
from cgan_tf.networks.detail_features import DetailFeatures
from cgan_tf.networks.encoder import Encoder


@pytest.fixture(scope="module")
def models():
    keras.utils.set_random_seed(3)
    generator, encoder = Generator(16, 6, 8), Encoder(16, (6,), 8)
    fake_run.shake(generator, 8.0)
    fake_run.shake(encoder, 1.2)
    return generator, encoder


pytestmark = pytest.mark.usefixtures("slim")


DIRECTIONS = {"B": np.arange(6.0), "A": np.ones(6)}


@pytest.fixture
def copied_run(tmp_path):
    """A copy of the shared run that a test may change."""
    shutil.copytree(fake_run.slim_run().path, tmp_path / "run")
    return run_folder.RunFolder(tmp_path / "run")


def photos(count, side):
    return np.random.default_rng(0).uniform(-1, 1, (count, side, side, 3)).astype(np.float32)


def test_translate_is_the_formula(models):
    generator, encoder = models
    network = EditingNetwork(Codec(encoder, generator), DIRECTIONS)
    image, strengths = photos(3, 16), np.float32([[1, 0], [0, -0.5], [0.25, 2]])
    latent = encoder(image, training=False).numpy()
    moved = latent + strengths[:, :1] * np.arange(6.0) + strengths[:, 1:] * np.ones(6)
    expected = generator(moved, training=False).numpy()
    assert expected.std() > 0.1, "a constant image would show nothing"
    np.testing.assert_allclose(network.translate(image, strengths), expected, atol=1e-5)
    code = network.encode(image)
    np.testing.assert_allclose(code.latent, latent, atol=1e-6)
    assert code.features.shape == (3, 0), "there are none"
    np.testing.assert_allclose(network.generate(code, strengths), expected, atol=1e-5)
    assert list(network.signatures["encode"](image)) == ["latent"]
    generated = network.signatures["generate"](latent=latent, strengths=strengths)["image"]
    np.testing.assert_allclose(generated, expected, atol=1e-5)


def test_zero_strengths_reconstruct_and_strengths_matter(models):
    generator, encoder = models
    network = EditingNetwork(Codec(encoder, generator), DIRECTIONS)
    image = photos(2, 16)
    reconstruction = generator(encoder(image, training=False), training=False).numpy()
    zero = np.zeros((2, 2), np.float32)
    np.testing.assert_allclose(network.translate(image, zero), reconstruction, atol=1e-6)
    edited = network.translate(image, zero + np.float32([1, 0])).numpy()
    assert np.abs(edited - reconstruction).mean() > 0.01


def test_attributes_keep_their_order_and_no_weight_is_counted_twice(models):
    generator, encoder = models
    network = EditingNetwork(Codec(encoder, generator), DIRECTIONS)
    assert network.attributes == ("B", "A")
    assert network.resolution == 16
    assert len(network.weights) == len(generator.weights) + len(encoder.weights) + 1
    assert not network.directions.trainable


def test_from_run_assembles_the_saved_models():
    folder = fake_run.slim_run()
    network = EditingNetwork.from_run(folder.path, scores=True)
    assert network.attributes == ("Smiling", "Blond_Hair", "Eyeglasses")
    generator = artifact.load_model(Generator, folder.stage("gan").model)
    encoder = artifact.load_model(Encoder, folder.stage("inversion").model)
    features = artifact.load_model(DetailFeatures, folder.stage("features").model)
    image = photos(2, 32)
    entry = json.loads((folder.stage("directions").model / "Blond_Hair.json").read_text())
    offset = 0.5 * np.float32(entry["vector"])[None]
    codec = Codec(encoder, generator, features)
    code = codec.encode(image)
    expected = codec.generate(code, offset)
    strengths = np.float32([[0, 0.5, 0]] * 2)
    np.testing.assert_allclose(network.translate(image, strengths), expected, atol=1e-5)
    found = network.signatures["encode"](image)
    np.testing.assert_allclose(found["features"], code.features, atol=1e-5)
    assert network.codec.features_shape == (8, 8, 32)
    bare = Codec(encoder, generator).generate(code, offset).numpy()
    assert np.abs(bare - expected).mean() > 0.01, "the features matter"
    scores = network.score(image).numpy()
    assert scores.shape == (2, len(network.regressor.attribute_names))
    assert 0 < scores.min() and scores.max() < 1
    assert EditingNetwork.from_run(folder.path).regressor is None


def test_directions_without_a_given_order_are_sorted(copied_run):
    content = copied_run.read()
    content["options"]["attributes"] = []
    write_json(copied_run.path / "config.json", content)
    assert list(read_directions(copied_run, (24,))) == ["Blond_Hair", "Eyeglasses", "Smiling"]


def test_no_run_folder(tmp_path):
    with pytest.raises(UserError, match="no run folder"):
        EditingNetwork.from_run(tmp_path)


@pytest.mark.parametrize("stage", ["gan", "inversion", "features", "directions"])
def test_an_unfinished_stage_is_named_with_its_command(copied_run, stage):
    shutil.rmtree(copied_run.stage(stage).path)
    command = f"the {stage} stage has not finished; run python train_main.py --stage={stage} "
    with pytest.raises(UserError, match=command):
        EditingNetwork.from_run(copied_run.path)


def test_the_regressor_is_only_needed_for_scores(copied_run):
    shutil.rmtree(copied_run.stage("regressor").path)
    EditingNetwork.from_run(copied_run.path)
    with pytest.raises(UserError, match="the regressor stage has not finished"):
        EditingNetwork.from_run(copied_run.path, scores=True)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"generator": "0" * 64}, "Smiling.json belongs to another generator"),
        ({"vector": [1.0] * 23}, r"Smiling.json is damaged \(not 24 finite numbers\)"),
        ({"vector": [1e999] + [1.0] * 23}, "Smiling.json is damaged"),
        ({"vector": "many"}, "Smiling.json is damaged"),
        ({"vector": [10**400] + [1.0] * 23}, "Smiling.json is damaged"),
        ({"vector": [1e300] + [1.0] * 23}, "Smiling.json is damaged"),
    ],
)
def test_directions_that_do_not_fit_are_refused(copied_run, changes, message):
    path = copied_run.stage("directions").model / "Smiling.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(UserError, match=message):
        EditingNetwork.from_run(copied_run.path)


def test_a_missing_or_damaged_direction_is_named(copied_run):
    path = copied_run.stage("directions").model / "Blond_Hair.json"
    path.write_text("{")
    with pytest.raises(UserError, match="Blond_Hair.json is damaged"):
        EditingNetwork.from_run(copied_run.path)
    path.unlink()
    with pytest.raises(UserError, match="Blond_Hair.json is missing; run python train_main.py"):
        EditingNetwork.from_run(copied_run.path)


def test_an_encoder_of_another_generator_is_refused(copied_run):
    stage = copied_run.stage("inversion")
    notes = stage.read_metadata()
    notes["parents"]["gan"] = "0" * 64
    write_json(stage.path / "metadata.json", notes)
    with pytest.raises(UserError, match="the inversion stage belongs to another generator"):
        EditingNetwork.from_run(copied_run.path)
