"""SeFa and PCA against known answers, the naming of components, and the stage with each family."""

import contextlib
import functools
import io
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tiny
from linear_models import SLOPES, LinearRegressor, TransparentGenerator, cosine

from cgan_tf.core import artifact
from cgan_tf.core.files import write_json
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.editing import network
from cgan_tf.evaluation.hyperplane import find_hyperplane
from cgan_tf.evaluation.scores import LabelledSamples, label_samples
from cgan_tf.networks.dcgan import Generator
from cgan_tf.networks.stylegan import StyleGenerator
from cgan_tf.networks.vgg import Regressor
from cgan_tf.stages import calibration, directions, families


def test_directions_are_three_standard_deviations_long():
    latents = TransparentGenerator(spread=np.arange(1.0, 9.0)).sample_latent(20000, seed=0).numpy()
    steps = families.at_step(np.eye(8, dtype=np.float32)[[1, 6]] * 5, latents)
    expected = np.zeros((2, 8))
    expected[0, 1], expected[1, 6] = 6.0, 21.0
    np.testing.assert_allclose(steps, expected, rtol=0.02)
    assert steps.dtype == np.float32


# SeFa and PCA.


@pytest.mark.parametrize("equalized_lr", [False, True])
def test_sefa_of_a_dcgan_is_its_first_layers_svd(equalized_lr):
    generator = Generator(16, 6, 4, equalized_lr=equalized_lr)
    kernel = generator.layers[1].kernel.numpy()
    assert kernel.shape == (6, 4 * 4 * 8)
    vectors = families.sefa(generator)
    left, values, _ = np.linalg.svd(kernel.astype(np.float64))
    assert np.all(np.diff(values) < 0)
    assert vectors.shape == (6, 6) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.abs(np.sum(vectors * left.T, axis=1)), 1.0, atol=1e-5)
    largest = np.abs(vectors).argmax(axis=1)
    assert np.all(vectors[np.arange(6), largest] > 0)  # a defined sign


@pytest.mark.parametrize("style", ["modulated", "adain"])
def test_sefa_of_a_stylegan_stacks_all_its_styles(style):
    generator = StyleGenerator(16, 6, 4, style)
    # The affine layers are linear in w.
    responses = [
        layer.affine(np.eye(6, dtype=np.float32)).numpy() - layer.affine.bias.numpy()
        for layer in generator.convolutions
    ]
    assert len(responses) == 3
    left, values, _ = np.linalg.svd(np.concatenate(responses, axis=1).astype(np.float64))
    generator.space = "w"
    vectors = families.sefa(generator)
    np.testing.assert_allclose(np.abs(np.sum(vectors * left.T, axis=1)), 1.0, atol=1e-4)
    generator.space = "ws"
    per_layer = families.sefa(generator)
    assert per_layer.shape == (6, 3, 6)
    np.testing.assert_allclose(per_layer * 3**0.5, np.stack([vectors] * 3, axis=1), atol=1e-6)


def test_principal_components_of_known_data():
    draw = np.random.default_rng(0)
    axes = np.linalg.qr(draw.standard_normal((5, 5)))[0]
    rows = (draw.standard_normal((4000, 5)) * [5.0, 3.0, 1.0, 0.5, 0.2]) @ axes.T + 7.0
    found = families.principal_components(rows, 3)
    _, _, right = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    assert found.shape == (3, 5)
    np.testing.assert_allclose(np.abs(np.sum(found * right[:3], axis=1)), 1.0, atol=1e-6)
    np.testing.assert_allclose(np.abs(np.sum(found * axes.T[:3], axis=1)), 1.0, atol=1e-2)


@pytest.mark.parametrize("space", ["w", "ws"])
def test_pca_of_a_stylegan_is_that_of_its_w(space):
    generator = StyleGenerator(16, 6, 4)
    generator.space = space
    latents = generator.sample_latent(500, seed=1).numpy()
    found = families.pca(generator, latents, 4)
    assert found.shape == (4, *generator.latent_shape)
    flat = latents.reshape(500, -1)
    _, _, right = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)
    products = np.sum(found.reshape(4, -1) * right[:4], axis=1)
    np.testing.assert_allclose(np.abs(products), 1.0, atol=1e-4)


def test_pca_of_a_dcgan_is_transferred_to_z():
    # The first layer amplifies three directions of z by 5, 3 and 1, and ignores the others.
    generator = Generator(16, 6, 4, norm="pixel")
    dense = generator.layers[1]
    axes = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))[0]
    kernel = np.zeros((6, 128))
    kernel[:, :3] = axes[:, :3] * [5.0, 3.0, 1.0]
    dense.kernel.assign(kernel)
    maps, places = {}, (4, 4, 8)
    maps[4] = tf.keras.layers.Reshape(places)(dense(generator.input))  # without activation
    generator.maps = maps
    found = families.pca(generator, generator.sample_latent(3000, seed=2).numpy(), 3)
    assert found.shape == (3, 6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(np.abs(np.sum(found * axes.T[:3], axis=1)), 1.0, atol=2e-2)


def test_pca_of_a_dcgan_is_that_of_its_first_feature_map():
    generator = Generator(16, 6, 4)
    latents = generator.sample_latent(150, seed=2).numpy()
    z, maps = (
        latents - latents.mean(axis=0),
        tf.keras.Model(generator.input, generator.maps[4])(latents, training=False)
        .numpy()
        .reshape(150, -1),
    )
    centered = maps - maps.mean(axis=0)
    _, _, right = np.linalg.svd(centered, full_matrices=False)
    coordinates = centered @ right[:4].T
    expected = (coordinates.T @ z) / np.sum(coordinates**2, axis=0)[
        :, None
    ]  # the coordinates are orthogonal
    found = families.pca(generator, latents, 4)
    for one, two in zip(found, expected, strict=True):
        assert abs(cosine(one, two)) > 0.999


# Naming.


def test_component_changes_are_those_of_the_regressor():
    steps = np.eye(8, dtype=np.float32)[:3] * [[1.0], [2.0], [0.5]]
    latents = TransparentGenerator().sample_latent(150, seed=0).numpy()
    changes = families.component_changes(TransparentGenerator(), LinearRegressor(), steps, latents)

    def scores(moved):
        return 1 / (1 + np.exp(-moved @ SLOPES))

    expected = [np.mean(scores(latents + s) - scores(latents - s), axis=0) / 2 for s in steps]
    np.testing.assert_allclose(changes, expected, atol=1e-6)


def test_the_best_component_changes_its_attribute_and_little_else():
    changes = np.array(
        [
            [0.50, 0.40, 0.10],  # changes the first most, and also the second
            [-0.40, 0.02, -0.02],  # changes the first alone, with the opposite sign
            [0.001, 0.0, 0.0],  # changes the first alone, but hardly
            [0.10, 0.02, 0.30],
        ]
    )
    assert families.name_components(changes, [0, 2, 1]) == [(1, -1), (3, 1), (0, 1)]


def test_one_attribute_has_no_others_to_compare_with():
    assert families.name_components(np.array([[0.1], [-0.3]]), [0]) == [(1, -1)]


@pytest.mark.parametrize("family", ["sefa", "pca"])
def test_an_unsupervised_family_finds_the_component_behind_an_attribute(family):
    generator = Generator(16, 6, 4)
    components = (
        families.sefa(generator)
        if family == "sefa"
        else families.pca(generator, generator.sample_latent(300, seed=1).numpy())
    )
    # The image is the latent here, so that the regressor can be a function of the latent.
    latents = generator.sample_latent(300, seed=1).numpy()

    class Regressor:
        def __call__(self, latent, training):
            toward = np.stack([-components[2], components[4]], axis=1)
            return tf.sigmoid(latent @ tf.constant(toward))

    class Transparent:
        """The generator's weights, but its images are its latents."""

        def __call__(self, latent, training):
            return latent

    samples = LabelledSamples(latents, np.zeros((300, 2), np.float32))
    with pytest.MonkeyPatch.context() as patch:
        changes = families.component_changes
        patch.setattr(
            families,
            "component_changes",
            lambda generator, *rest: changes(Transparent(), *rest),
        )
        vectors, found = families.find(family, generator, Regressor(), {"B": 1, "A": 0}, samples)
    assert found == [{"component": 4, "sign": 1}, {"component": 2, "sign": -1}]
    assert cosine(vectors[0], components[4]) == pytest.approx(1, abs=1e-5)
    assert cosine(vectors[1], -components[2]) == pytest.approx(1, abs=1e-5)


def test_hyperplanes_are_in_the_order_of_the_columns():
    samples = label_samples(TransparentGenerator(), LinearRegressor(), 3000, seed=1)
    columns = {"C": 2, "A": 0}
    vectors, found = families.find(
        "hyperplane", TransparentGenerator(), LinearRegressor(), columns, samples
    )
    for vector, column in zip(vectors, (2, 0), strict=True):
        assert cosine(vector, SLOPES[:, column]) > 0.98
        assert np.linalg.norm(vector) == pytest.approx(3.0, rel=0.05)
    assert found == [{"positive": 300, "negative": 300}] * 2


# The stage.


@pytest.fixture(scope="module")
def ready(chain, tmp_path_factory):
    """A run without directions, whose regressor predicts each attribute for half of the samples."""
    path = tmp_path_factory.mktemp("families") / "run"
    shutil.copytree(chain.folder.path, path)
    folder = RunFolder(path)
    shutil.rmtree(folder.stage("directions").path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny.keras.applications, "VGG16", tiny.slim_vgg16)
        generator = artifact.load_model(Generator, folder.stage("gan").model)
        regressor = artifact.load_model(Regressor, folder.stage("regressor").model)
        images = generator(generator.sample_latent(500, seed=9), training=False)
        middle = np.median(regressor.logits(images), axis=0)
        regressor.offsets = [float(o + m) for o, m in zip(regressor.offsets, middle, strict=True)]
        artifact.save_model(regressor, folder.stage("regressor").model)
    # The inversion stage accepts the changed regressor.
    stage = folder.stage("inversion")
    metadata = stage.read_metadata()
    metadata["parents"]["regressor"] = folder.stage("regressor").artifact_hash()
    write_json(stage.path / "metadata.json", metadata)
    return folder


def make(ready, chain, path, **options):
    """Runs the directions stage on a copy; returns its folder, and direction files by attribute."""
    shutil.copytree(ready.path, path)
    folder = RunFolder(path)
    config = tiny.make_config(chain.config.cache_dir, directions_samples=500, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny.keras.applications, "VGG16", tiny.slim_vgg16)
        directions.run(config, folder, chain.faces)
    entries = {
        path.stem: json.loads(path.read_text())
        for path in folder.stage("directions").model.glob("*.json")
    }
    return folder, entries


@pytest.fixture(scope="module")
def family_run(ready, chain, tmp_path_factory):
    """`make` with a family and no condition, once for each family; with what it printed."""

    @functools.cache
    def run(family):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            path = tmp_path_factory.mktemp(family) / "run"
            return *make(ready, chain, path, directions_family=family), printed

    return run


@pytest.mark.parametrize("family", ["hyperplane", "sefa", "pca"])
def test_directions_of_each_family_are_calibrated_and_load(family, family_run, chain):
    folder, entries, printed = family_run(family)
    assert folder.stage("directions").finished()
    editor = network.EditingNetwork.from_run(folder.path)
    assert editor.attributes == chain.config.attributes
    generator = editor.generator
    for name, vector in zip(editor.attributes, editor.directions.numpy(), strict=True):
        entry = entries[name]
        assert (entry["attribute"], entry["space"], entry["family"]) == (name, "z", family)
        assert [line["strength"] for line in entry["calibration"]] == list(calibration.TABLE)
        np.testing.assert_array_equal(vector, np.float32(entry["vector"]))
        assert f"directions: {name} from family {family}: " in printed.getvalue()
        if family == "hyperplane":
            assert entry["found"] == {"positive": 50, "negative": 50}
            continue
        components = (
            families.sefa(generator)
            if family == "sefa"
            else families.pca(generator, generator.sample_latent(500, seed=3).numpy())
        )
        found = entry["found"]
        expected = found["sign"] * components[found["component"]]
        assert cosine(vector, expected) == pytest.approx(1, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["hyperplane", "sefa", "pca"])
def test_equal_seeds_give_equal_directions(family, family_run, ready, chain, tmp_path):
    again = make(ready, chain, tmp_path / "again", directions_family=family)[1]
    assert again == family_run(family)[1]


@pytest.mark.parametrize("family", ["sefa", pytest.param("learned", marks=pytest.mark.slow)])
def test_conditions_are_projected_out_of_the_directions(
    family, family_run, ready, chain, slim_vgg, tmp_path
):
    plain = family_run(family)[1]
    options = {"directions_family": family}
    options["directions_condition"] = ("Smiling:Eyeglasses+Pale_Skin",)
    folder, entries = make(ready, chain, tmp_path / "condition", **options)
    assert entries["Smiling"]["condition"] == ["Eyeglasses", "Pale_Skin"]
    assert entries["Eyeglasses"] == plain["Eyeglasses"]  # without a condition
    generator = artifact.load_model(Generator, folder.stage("gan").model)
    regressor = artifact.load_model(Regressor, folder.stage("regressor").model)
    samples = label_samples(generator, regressor, 500, seed=3)
    for name in ("Eyeglasses", "Pale_Skin"):
        column = regressor.attribute_names.index(name)
        normal, _ = find_hyperplane(samples, column, name)
        assert abs(cosine(plain["Smiling"]["vector"], normal)) > 1e-3
        assert cosine(entries["Smiling"]["vector"], normal) == pytest.approx(0, abs=1e-5)
