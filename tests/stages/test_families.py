"""cgan_tf.families: each family against a known answer, naming, projection, and the stage."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tiny

from cgan_tf.core import artifact
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_json
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.editing import network
from cgan_tf.evaluation import hyperplane
from cgan_tf.networks.dcgan import Generator
from cgan_tf.networks.stylegan import StyleGenerator
from cgan_tf.networks.vgg import Regressor
from cgan_tf.stages import calibration, directions, families

SLOPES = np.zeros((8, 3), np.float32)  # [latent, attributes]
SLOPES[:, 0] = [3.0, 0.0, -2.0, 0.0, 1.0, 0.0, 0.0, 0.5]
SLOPES[:, 1] = [1.0, 2.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0]
SLOPES[:, 2] = [0.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0]


class ToyGenerator:
    """The image is the latent, whose coordinates have standard deviations of their own."""

    def __init__(self, shape=(8,), spread=1.0):
        self.latent_shape = shape
        self.spread = np.float32(spread)

    def sample_latent(self, count, seed):
        draw = np.random.default_rng(seed)
        latents = draw.standard_normal((count, *self.latent_shape)).astype(np.float32)
        return tf.constant(latents * self.spread)

    def __call__(self, latent, training):
        assert training is False
        return latent


class ToyRegressor:
    """Attributes are linear in the latent."""

    def __init__(self, slopes=SLOPES, offset=0.0):
        self.slopes = tf.constant(slopes)
        self.offset = offset

    def __call__(self, images, training):
        assert training is False
        flat = tf.reshape(images, (-1, self.slopes.shape[0]))
        return tf.sigmoid(tf.cast(flat, tf.float32) @ self.slopes + self.offset)


def cosine(one, two):
    one, two = np.ravel(one).astype(np.float64), np.ravel(two).astype(np.float64)
    return one @ two / np.linalg.norm(one) / np.linalg.norm(two)


# Hyperplanes.


def test_samples_are_labelled_by_r_and_by_their_seed():
    samples = families.label(ToyGenerator(), ToyRegressor(), 230, seed=4)  # a part of a batch too
    assert samples.latents.shape == (230, 8) and samples.scores.shape == (230, 3)
    wanted = 1 / (1 + np.exp(-samples.latents @ SLOPES))
    np.testing.assert_allclose(samples.scores, wanted, atol=1e-6)
    again = families.label(ToyGenerator(), ToyRegressor(), 230, seed=4)
    np.testing.assert_array_equal(samples.latents, again.latents)
    other = families.label(ToyGenerator(), ToyRegressor(), 230, seed=5)
    assert not np.allclose(samples.latents, other.latents)


# Where the coordinates' spreads differ, a normal of standardized coordinates would be another.
@pytest.mark.parametrize("spread", [1.0, np.geomspace(0.3, 3.0, 8)])
@pytest.mark.parametrize("column", [0, 1, 2])
def test_the_hyperplane_of_a_linear_attribute_has_its_normal(spread, column):
    samples = families.label(ToyGenerator(spread=spread), ToyRegressor(), 5000, seed=1)
    normal, counts = hyperplane.hyperplane(samples, column, "A")
    assert normal.shape == (8,) and normal.dtype == np.float32
    assert np.linalg.norm(normal) == pytest.approx(1.0, abs=1e-6)
    assert cosine(normal, SLOPES[:, column]) > 0.98
    assert counts == {"positive": 500, "negative": 500}


def test_the_hyperplane_of_latents_with_layers_keeps_their_shape():
    generator, slopes = ToyGenerator((2, 4)), SLOPES[:, :1]
    samples = families.label(generator, ToyRegressor(slopes), 3000, seed=1)
    normal, _ = hyperplane.hyperplane(samples, 0, "A")
    assert normal.shape == (2, 4)
    assert cosine(normal, slopes) > 0.98


def test_only_the_confident_samples_of_either_class_count():
    latents = np.linspace(-1, 1, 1000, dtype=np.float32)[:, None]
    latents = np.concatenate([latents, np.zeros_like(latents)], axis=1)
    # What is not among the surest tenth at either end would turn the plane.
    latents[100:900, 1] = 50 * np.sign(latents[100:900, 0])
    scores = np.linspace(0, 1, 1000, dtype=np.float32)[:, None]
    normal, _ = hyperplane.hyperplane(hyperplane.Samples(latents, scores), 0, "A")
    np.testing.assert_allclose(normal, [1.0, 0.0], atol=1e-6)


def test_a_rare_attribute_keeps_what_there_is_of_it():
    latents = np.random.default_rng(0).standard_normal((1000, 3)).astype(np.float32)
    scores = np.full((1000, 1), 0.2, np.float32)
    scores[300:360] = 0.7
    _, counts = hyperplane.hyperplane(hyperplane.Samples(latents, scores), 0, "A")
    assert counts == {"positive": 60, "negative": 100}


@pytest.mark.parametrize("sure, few, other", [(0.9, "without", 0.4), (0.2, "with", 0.8)])
def test_too_few_samples_of_one_class_is_one_line(sure, few, other):
    scores = np.full((1000, 1), sure, np.float32)
    scores[:49] = other
    samples = hyperplane.Samples(np.ones((1000, 3), np.float32), scores)
    with pytest.raises(UserError) as caught:
        hyperplane.hyperplane(samples, 0, "Bald")
    assert str(caught.value) == (
        f"--directions_samples=1000: only 49 are {few} Bald by the regressor, its hyperplane "
        "needs 50; raise the number, or leave Bald out"
    )


def test_directions_leave_at_three_standard_deviations():
    latents = ToyGenerator(spread=np.arange(1.0, 9.0)).sample_latent(20000, seed=0).numpy()
    steps = families.at_step(np.eye(8, dtype=np.float32)[[1, 6]] * 5, latents)
    wanted = np.zeros((2, 8))
    wanted[0, 1], wanted[1, 6] = 6.0, 21.0
    np.testing.assert_allclose(steps, wanted, rtol=0.02)
    assert steps.dtype == np.float32


# Conditional projection.


@pytest.mark.parametrize("shape", [(8,), (2, 4)])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_projected_direction_crosses_no_held_plane_and_keeps_its_length(shape, count):
    draw = np.random.default_rng(count)
    vector = draw.standard_normal(shape)
    vector *= 2.5 / np.linalg.norm(vector)
    held = {f"B{k}": draw.standard_normal(shape) for k in range(count)}
    projected = hyperplane.project_out("A", vector, held)
    assert projected.shape == shape and projected.dtype == np.float32
    assert np.linalg.norm(projected) == pytest.approx(2.5, rel=1e-6)
    for normal in held.values():
        assert cosine(projected, normal) == pytest.approx(0.0, abs=1e-6)


def test_projection_by_hand():
    # Of (3, 4, 12) the plane of the first and the second axis is held, by skew normals of it.
    held = {"B": np.array([1.0, 0.0, 0.0]), "C": np.array([5.0, 2.0, 0.0])}
    np.testing.assert_allclose(
        hyperplane.project_out("A", np.array([3.0, 4.0, 12.0]), held), [0, 0, 13], atol=1e-5
    )
    held = {"B": np.array([0.0, 2.0, 0.0])}
    unit = hyperplane.project_out("A", np.array([0.6, 0.8, 0.0]), held)
    np.testing.assert_allclose(unit, [1, 0, 0], atol=1e-6)


def test_held_attributes_that_say_the_same_are_one():
    held = {"B": np.array([1.0, 0.0, 0.0]), "C": np.array([-2.0, 0.0, 0.0])}
    projected = hyperplane.project_out("A", np.array([1.0, 1.0, 0.0]), held)
    np.testing.assert_allclose(projected, [0, 2**0.5, 0], atol=1e-6)


def test_a_direction_in_the_span_of_the_held_is_refused():
    held = {"B": np.array([1.0, 0.0, 0.0]), "C": np.array([0.0, 1.0, 0.0])}
    with pytest.raises(UserError) as caught:
        hyperplane.project_out("A", np.array([2.0, -3.0, 0.0]), held)
    assert str(caught.value) == (
        "--directions_condition=A:B+C: nothing of the direction is left when they are held; hold fewer"
    )


def test_cosines_by_hand():
    vectors = np.array([[3.0, 0.0], [1.0, 1.0], [0.0, -2.0]])
    half = 2**-0.5
    np.testing.assert_allclose(
        hyperplane.cosines(vectors), [[1, half, 0], [half, 1, -half], [0, -half, 1]], atol=1e-12
    )


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
    assert np.all(vectors[np.arange(6), largest] > 0)  # no sign of chance


@pytest.mark.parametrize("style", ["modulated", "adain"])
def test_sefa_of_a_stylegan_stacks_all_its_styles(style):
    generator = StyleGenerator(16, 6, 4, style)
    # What a change of w changes of all styles: the affine layers themselves tell.
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


def test_pca_of_a_dcgan_goes_back_to_z():
    # The first layer sees three directions of z, with factors 5, 3 and 1, and nothing else.
    generator = Generator(16, 6, 4, norm="pixel")
    dense = generator.layers[1]
    axes = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))[0]
    kernel = np.zeros((6, 128))
    kernel[:, :3] = axes[:, :3] * [5.0, 3.0, 1.0]
    dense.kernel.assign(kernel)
    maps, places = {}, (4, 4, 8)
    maps[4] = tf.keras.layers.Reshape(places)(dense(generator.input))  # without rectifier
    generator.maps = maps
    found = families.pca(generator, generator.sample_latent(3000, seed=2).numpy(), 3)
    assert found.shape == (3, 6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(np.abs(np.sum(found * axes.T[:3], axis=1)), 1.0, atol=2e-2)


def test_pca_of_a_dcgan_reads_its_first_map():
    generator = Generator(16, 6, 4)
    latents = generator.sample_latent(150, seed=2).numpy()
    z, maps = latents - latents.mean(axis=0), tf.keras.Model(
        generator.input, generator.maps[4]
    )(latents, training=False).numpy().reshape(150, -1)  # fmt: skip
    centered = maps - maps.mean(axis=0)
    _, _, right = np.linalg.svd(centered, full_matrices=False)
    coordinates = centered @ right[:4].T
    wanted = (coordinates.T @ z) / np.sum(coordinates**2, axis=0)[:, None]  # they are orthogonal
    found = families.pca(generator, latents, 4)
    for one, two in zip(found, wanted, strict=True):
        assert abs(cosine(one, two)) > 0.999


# Naming.


def test_the_changes_of_components_are_rs():
    steps = np.eye(8, dtype=np.float32)[:3] * [[1.0], [2.0], [0.5]]
    latents = ToyGenerator().sample_latent(150, seed=0).numpy()
    changes = families.component_changes(ToyGenerator(), ToyRegressor(), steps, latents)

    def scores(moved):
        return 1 / (1 + np.exp(-moved @ SLOPES))

    wanted = [np.mean(scores(latents + s) - scores(latents - s), axis=0) / 2 for s in steps]
    np.testing.assert_allclose(changes, wanted, atol=1e-6)


def test_the_best_component_moves_its_attribute_and_little_else():
    changes = np.array(
        [
            [0.50, 0.40, 0.10],  # moves the first most, and the second with it
            [-0.40, 0.02, -0.02],  # the first alone, the other way
            [0.001, 0.0, 0.0],  # the first alone, but hardly
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
    # R reads the image; here it knows the latent by its image.
    latents = generator.sample_latent(300, seed=1).numpy()

    class Regressor:
        def __call__(self, latent, training):
            toward = np.stack([-components[2], components[4]], axis=1)
            return tf.sigmoid(latent @ tf.constant(toward))

    class Transparent:
        """The generator's weights, but its images are its latents."""

        def __call__(self, latent, training):
            return latent

    samples = hyperplane.Samples(latents, np.zeros((300, 2), np.float32))
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


def test_hyperplanes_come_in_the_order_asked_for():
    samples = families.label(ToyGenerator(), ToyRegressor(), 3000, seed=1)
    columns = {"C": 2, "A": 0}
    vectors, found = families.find("hyperplane", ToyGenerator(), ToyRegressor(), columns, samples)
    for vector, column in zip(vectors, (2, 0), strict=True):
        assert cosine(vector, SLOPES[:, column]) > 0.98
        assert np.linalg.norm(vector) == pytest.approx(3.0, rel=0.05)
    assert found == [{"positive": 300, "negative": 300}] * 2


# The stage.


@pytest.fixture(scope="module")
def ready(chain, tmp_path_factory):
    """A run that only lacks its directions, and whose regressor is of two minds on samples."""
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
    # So that the inversion stage is still that of this regressor.
    stage = folder.stage("inversion")
    metadata = stage.read_metadata()
    metadata["parents"]["regressor"] = folder.stage("regressor").artifact_hash()
    write_json(stage.path / "metadata.json", metadata)
    return folder


def make(ready, chain, path, **options):
    """The directions stage of a copy; (its folder, its direction files by attribute)."""
    shutil.copytree(ready.path, path)
    folder = RunFolder(path)
    config = tiny.make_config(chain.config.cache_dir, directions_samples=500, **options)
    directions.run(config, folder, chain.faces)
    entries = {
        path.stem: json.loads(path.read_text())
        for path in folder.stage("directions").model.glob("*.json")
    }
    return folder, entries


@pytest.mark.parametrize("family", ["hyperplane", "sefa", "pca"])
def test_a_run_of_each_family_is_calibrated_and_loads(
    family, ready, chain, slim_vgg, tmp_path, capsys
):
    folder, entries = make(ready, chain, tmp_path / "run", directions_family=family)
    said = capsys.readouterr().out
    assert folder.stage("directions").finished()
    editor = network.EditingNetwork.from_run(folder.path)
    assert editor.attributes == chain.config.attributes
    generator = editor.generator
    for name, vector in zip(editor.attributes, editor.directions.numpy(), strict=True):
        entry = entries[name]
        assert (entry["attribute"], entry["space"], entry["family"]) == (name, "z", family)
        assert [line["strength"] for line in entry["calibration"]] == list(calibration.TABLE)
        np.testing.assert_array_equal(vector, np.float32(entry["vector"]))
        assert f"directions: {name} by {family}: " in said
        if family == "hyperplane":
            assert entry["found"] == {"positive": 50, "negative": 50}
            continue
        components = (
            families.sefa(generator)
            if family == "sefa"
            else families.pca(generator, generator.sample_latent(500, seed=3).numpy())
        )
        found = entry["found"]
        wanted = found["sign"] * components[found["component"]]
        assert cosine(vector, wanted) == pytest.approx(1, abs=1e-4)
    _, again = make(ready, chain, tmp_path / "again", directions_family=family)
    assert again == entries  # the same seed


def test_held_attributes_are_projected_out_of_any_family(ready, chain, slim_vgg, tmp_path):
    held = ("Smiling:Eyeglasses+Pale_Skin",)
    _, plain = make(ready, chain, tmp_path / "plain")
    folder, entries = make(ready, chain, tmp_path / "held", directions_condition=held)
    assert entries["Smiling"]["hold"] == ["Eyeglasses", "Pale_Skin"]
    assert entries["Eyeglasses"] == plain["Eyeglasses"]  # which holds nothing
    generator = artifact.load_model(Generator, folder.stage("gan").model)
    regressor = artifact.load_model(Regressor, folder.stage("regressor").model)
    samples = families.label(generator, regressor, 500, seed=3)
    for name in ("Eyeglasses", "Pale_Skin"):
        column = regressor.attribute_names.index(name)
        normal, _ = hyperplane.hyperplane(samples, column, name)
        assert abs(cosine(plain["Smiling"]["vector"], normal)) > 1e-3
        assert cosine(entries["Smiling"]["vector"], normal) == pytest.approx(0, abs=1e-5)
