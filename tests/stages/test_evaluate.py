"""cgan_tf.measure, cgan_tf.evaluate and cgan_tf.figures on an untrained run of 32 px."""

import copy
import functools
import json

import fake_run
import numpy as np
import pytest
import tensorflow as tf

from cgan_tf import data
from cgan_tf.commands import evaluate as evaluate_command
from cgan_tf.commands import figures
from cgan_tf.core import artifact
from cgan_tf.core import config as config_module
from cgan_tf.core.errors import UserError
from cgan_tf.data import synthetic
from cgan_tf.data.images import decode_file, to_float
from cgan_tf.editing import models, network, projection
from cgan_tf.editing.detail import KeepDetail
from cgan_tf.evaluation import counterfactual, edits, generation, inversion, subject
from cgan_tf.networks.dcgan import Generator
from cgan_tf.networks.judge import Judge
from cgan_tf.stages import evaluate, judge

OPTIONS = {"evaluate_judge_kimg": 0.256, "evaluate_samples": 120, "evaluate_photos": 10, "evaluate_projections": 3,
           "evaluate_optimize_steps": 3, "evaluate_hybrid_steps": 2, "precision": "float32"}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def few_samples():
    """VGG16 sees each random sample: a thousand of them would take most of the tests' time."""
    with pytest.MonkeyPatch.context() as patch:
        few = functools.partial(inversion.measure_inversion, samples=50)
        patch.setattr(inversion, "measure_inversion", few)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that the stage has evaluated: (config, run folder, data set, report)."""
    place = tmp_path_factory.mktemp("evaluate")
    config = fake_run.make_config(place / "cache", **OPTIONS)
    folder = fake_run.make_run(place / "run", config)
    dataset = data.open_data(config, say=lambda line: None)
    evaluate.run(config, folder, dataset)
    report = json.loads((folder.path / "evaluate" / "report.json").read_text())
    return config, folder, dataset, report


@pytest.fixture(scope="module")
def chain(finished):
    config, folder, _, _ = finished
    editor = network.EditingNetwork.from_run(folder.path, scores=True)
    model = artifact.load_model(Judge, folder.path / "evaluate" / judge.FOLDER)
    count = len(fake_run.ATTRIBUTES)
    whole = KeepDetail(np.ones(count, np.float32), np.ones((count, 32, 32), np.float32))
    return subject.Chain(editor, model, dict.fromkeys(fake_run.ATTRIBUTES, 0.5), whole)


@pytest.fixture(scope="module")
def photos(finished, chain):
    config, _, dataset, _ = finished
    return subject.Photos(chain, dataset, 10, config.seed)


# ---- the stage ---------------------------------------------------------------------------------

EDIT = {"strength", "target_change", "target_change_from_photo", "success", "n_success", "leakage",
        "ratio", "identity", "identity_from_photo", "interval", "n", "draws",
        "seed"}  # fmt: skip
LEARNED = EDIT | {"ratio_over_random", "calibrated_change", "achieved_change", "calibration_error",
                  "achieved_change_judge", "calibration_error_judge", "n_calibration"}  # fmt: skip


def test_report_has_exactly_the_documented_layout(finished):
    config, _, dataset, report = finished
    assert set(report) == {
        "version", "seed", "seconds", "data", "judge", "generation", "regressor", "inversion",
        "edits", "edits_mean", "keep_detail", "set", "strengths", "preservation", "comparison",
        "rescoring", "cosines", "consistency", "counterfactual", "pictures",
    }  # fmt: skip
    assert report["seed"] == 7
    assert report["data"] == {"name": "synthetic", "resolution": 32, "digest": dataset.digest,
                              "n_train": 80, "n_validation": 10, "n_test": 10}  # fmt: skip
    assert set(report["judge"]) == {"features", "parameters", "kimg"}
    assert report["judge"]["features"] == 192
    assert set(report["generation"]) == {
        "features", "resolution", "fd", "fd_floor", "fd_over_floor", "fd_at_32", "fd_floor_at_32",
        "kid", "kid_std", "kid_floor", "precision", "recall", "n_real", "n_fake", "n_floor", "seed",
    }  # fmt: skip
    assert set(report["regressor"]) == {"n", "seed", "regressor", "judge", "majority", "attributes"}
    assert tuple(report["regressor"]["attributes"]) == synthetic.ATTRIBUTES
    assert set(report["inversion"]) == {"encoder", "hybrid", "optimize"}
    projected = {"psnr", "ssim", "perceptual", "perceptual_encoder", "identity",
                 "seconds_per_image", "n", "seed"}  # fmt: skip
    assert set(report["inversion"]["hybrid"]) == projected | {"seconds_to_optimize"}
    assert set(report["inversion"]["optimize"]) == projected
    assert set(report["inversion"]["encoder"]) == {
        "psnr", "ssim", "perceptual", "identity", "seconds_per_image", "nearer_than_random",
        "perceptual_random_best", "n", "n_random", "seed",
    }  # fmt: skip
    assert {method: tuple(block) for method, block in report["edits"].items()} == {
        "learned": fake_run.ATTRIBUTES, "random": fake_run.ATTRIBUTES}  # fmt: skip
    for name in fake_run.ATTRIBUTES:
        assert set(report["edits"]["learned"][name]) == LEARNED
        assert set(report["edits"]["random"][name]) == EDIT
        assert set(report["counterfactual"][name]) == {
            "psnr", "psnr_unedited", "psnr_ceiling", "judge_agreement", "judge_agreement_target",
            "true_change", "true_leakage", "n_nearer", "n", "seed",
            *(f"{key}{by}" for by in ("", "_judge", "_psnr")
              for key in ("nearer", "beats_photo", "beats_reconstruction", "detail_beats_photo")),
        }  # fmt: skip
    assert set(report["edits_mean"]) == {"learned", "random"}
    figures_of_set = {"error", "error_judge", "strength", "met", "n", "seed"}
    assert set(report["set"]) == figures_of_set | {"attributes"}
    assert tuple(report["set"]["attributes"]) == fake_run.ATTRIBUTES
    for found in report["set"]["attributes"].values():
        assert [entry["asked"] for entry in found] == [0.2, 0.4, 0.6, 0.8]
        for entry in found:
            assert set(entry) == figures_of_set | {"asked", "reached", "reached_judge"}


def test_report_tells_more_of_edits_than_one_strength(finished):
    report = finished[3]
    names = fake_run.ATTRIBUTES
    blocks = (report["strengths"]["attributes"], report["comparison"]["attributes"],
              report["rescoring"]["matrix"], report["cosines"], report["consistency"],
              report["preservation"]["learned"]["attributes"],
              report["preservation"]["random"]["attributes"])  # fmt: skip
    assert all(tuple(block) == names for block in blocks)
    strengths = [point["strength"] for point in report["strengths"]["attributes"]["Smiling"]]
    assert strengths == [-2, -1.5, -1, -0.75, -0.5, -0.25, 0.25, 0.5, 0.75, 1, 1.5, 2]
    # The same edits as in `edits`, of which there are no more photos here.
    at_one = report["strengths"]["attributes"]["Smiling"][9]
    for key in ("target_change", "success", "leakage", "identity"):
        wanted = report["edits"]["learned"]["Smiling"][key]
        assert at_one[key] == pytest.approx(wanted, rel=1e-5, abs=1e-7)
    row = report["rescoring"]["matrix"]["Smiling"]
    assert tuple(row) == synthetic.ATTRIBUTES
    assert row["Smiling"] == pytest.approx(at_one["target_change"], rel=1e-4, abs=1e-7)
    assert all(len(report["preservation"][way]["all"]) == 3 for way in ("learned", "random"))
    for name in names:
        assert report["cosines"][name][name] == pytest.approx(1.0)
        assert set(report["comparison"]["attributes"][name]) == {"learned", "random"}
        assert set(report["consistency"][name]) == {
            "latent", "step", "psnr", "identity", "perceptual", "unedited", "interval", "n",
            "n_perceptual", "seed",
        }  # fmt: skip
    assert report["comparison"]["asked"] == 0.4


def test_every_figure_carries_its_n_and_seed(finished):
    _, _, dataset, report = finished
    generation = report["generation"]
    counts = {key: generation[key] for key in ("n_real", "n_fake", "n_floor", "seed")}
    assert counts == {"n_real": 20, "n_fake": 120, "n_floor": 20, "seed": 7}
    blocks = [
        report["regressor"],
        report["inversion"]["encoder"],
        *report["edits"]["learned"].values(),
        *report["edits"]["random"].values(),
        *report["counterfactual"].values(),
        report["set"],
        *(entry for found in report["set"]["attributes"].values() for entry in found),
    ]
    assert all(block["seed"] == 7 for block in blocks)
    labels = dataset.labels[dataset.splits["test"]]
    for name in fake_run.ATTRIBUTES:
        without = int(np.sum(labels[:, dataset.attribute_names.index(name)] == 0))
        assert report["edits"]["learned"][name]["n"] == without
        assert report["edits"]["random"][name]["draws"] == edits.RANDOM_DRAWS
        assert report["counterfactual"][name]["n"] == without


def test_pictures_are_there_and_of_the_stated_size(finished):
    _, folder, _, report = finished
    names = ["samples.png", "reconstructions.png", *(f"edits_{a}.png" for a in fake_run.ATTRIBUTES)]
    assert list(report["pictures"]) == names
    evaluated = folder.path / "evaluate"
    assert sorted(path.name for path in evaluated.glob("*.png")) == sorted(names)
    assert decode_file(evaluated / "samples.png").shape == (8 * 32, 8 * 32, 3)
    assert decode_file(evaluated / "reconstructions.png").shape == (4 * 32, 8 * 32, 3)
    rows = min(evaluate.EDITED, report["edits"]["learned"]["Smiling"]["n"])
    assert decode_file(evaluated / "edits_Smiling.png").shape == (rows * 32, 6 * 32, 3)


def test_a_finished_stage_does_nothing(finished, capsys):
    config, folder, dataset, _ = finished
    written = (folder.path / "evaluate" / "report.json").stat().st_mtime_ns
    evaluate.run(config, folder, dataset)
    assert "nothing to do" in capsys.readouterr().out
    assert (folder.path / "evaluate" / "report.json").stat().st_mtime_ns == written


def test_measuring_again_gives_the_same_figures(finished, tmp_path):
    config, folder, dataset, report = finished
    editor = network.EditingNetwork.from_run(folder.path, scores=True)
    model = artifact.load_model(Judge, folder.path / "evaluate" / judge.FOLDER)
    entries = models.read_directions(folder, editor.generator.latent_shape)
    again = json.loads(json.dumps(
        evaluate.measure_all(config, dataset, tmp_path, model, editor, entries)))  # fmt: skip
    for key in set(report) - {"seconds", "inversion"}:
        assert again[key] == report[key]
    timed = {"seconds_per_image", "seconds_to_optimize"}
    for mode, block in report["inversion"].items():
        for key in set(block) - timed:
            assert again["inversion"][mode][key] == block[key]


def test_a_missing_stage_is_named(tmp_path, finished):
    config, _, dataset, _ = finished
    empty = fake_run.run.RunFolder(tmp_path / "empty")
    with pytest.raises(UserError, match="--stage=gan"):
        evaluate.run(config, empty, dataset)


def test_a_table_without_strength_one_is_refused():
    entry = {"attribute": "Smiling", "calibration": [{"strength": 0.5, "change": 0.2, "n": 3}]}
    with pytest.raises(UserError, match="Smiling"):
        evaluate.promised(entry)


# ---- generation --------------------------------------------------------------------------------


class Replay:
    """A generator whose samples are given photos: latent i asks for photo i."""

    z_dim = 1

    def __init__(self, photos, resolution):
        self.photos = tf.constant(photos)
        self.resolution = resolution

    def sample_prior(self, count, seed):
        return tf.reshape(tf.range(count, dtype=tf.float32) % len(self.photos), (-1, 1))

    def from_prior(self, z):
        return tf.gather(self.photos, tf.cast(z[:, 0], tf.int32))


def test_photos_as_fakes_are_at_distance_zero(finished, chain):
    _, _, dataset, _ = finished
    held_out = np.concatenate([dataset.splits["validation"], dataset.splits["test"]])
    replay = Replay(to_float(dataset.read(held_out)), 32)
    block = generation.measure_generator(replay, chain.judge_model, dataset, 20, seed=1)
    assert block["fd"] == pytest.approx(0.0, abs=1e-6)
    assert block["fd_at_32"] == pytest.approx(0.0, abs=1e-6)
    assert block["fd_floor"] > 100 * block["fd"]
    assert (block["precision"], block["recall"]) == (1.0, 1.0)


def test_a_generator_of_another_resolution_is_judged_without_its_blur(tmp_path):
    """At 64 px: photos averaged down to 32 px are off in fd, and at 0 in fd_at_32."""
    config = fake_run.make_config(tmp_path, resolution=64)
    dataset = data.open_data(config, say=lambda line: None)
    held_out = np.concatenate([dataset.splits["validation"], dataset.splits["test"]])
    small = subject.resize(tf.constant(to_float(dataset.read(held_out))), 32)
    model = Judge(dataset.attribute_names, 64)
    block = generation.measure_generator(Replay(small, 32), model, dataset, 20, seed=1)
    assert block["resolution"] == 32
    assert block["fd_at_32"] == pytest.approx(0.0, abs=1e-5)
    assert block["fd"] > 0.001
    assert block["fd_floor"] > 10 * block["fd_at_32"]


def test_resize():
    image = tf.reshape(tf.range(16, dtype=tf.float32), (1, 4, 4, 1))
    np.testing.assert_allclose(subject.resize(image, 2)[0, ..., 0], [[2.5, 4.5], [10.5, 12.5]])
    assert subject.resize(image, 4) is image
    larger = subject.resize(image, 8)
    assert larger.shape == (1, 8, 8, 1)
    assert float(larger[0, 0, 0, 0]) == 0.0 and float(larger[0, 7, 7, 0]) == 15.0
    assert float(larger[0, 0, 1, 0]) == pytest.approx(0.25)


def test_choose_is_seeded_and_within():
    indices = np.arange(100, 200)
    assert np.array_equal(subject.choose(indices[::-1], 100, 0), indices)
    chosen = subject.choose(indices, 10, 1)
    assert len(set(chosen)) == 10 and set(chosen) <= set(indices)
    assert np.array_equal(chosen, np.sort(chosen))
    assert np.array_equal(chosen, subject.choose(indices, 10, 1))
    assert not np.array_equal(chosen, subject.choose(indices, 10, 2))


# ---- inversion ---------------------------------------------------------------------------------


def test_descent_is_measured_on_the_encoders_own_photos(finished, chain, photos):
    config, _, _, report = finished
    hybrid, optimize = (report["inversion"][mode] for mode in ("hybrid", "optimize"))
    rows = subject.choose(np.arange(10), 3, config.seed)
    own = chain.distance(photos.images[rows], photos.reconstructions[rows]).mean()
    for block in (hybrid, optimize):
        assert block["n"] == 3 and block["seed"] == config.seed
        assert block["perceptual_encoder"] == pytest.approx(own, rel=1e-5)
        assert block["seconds_per_image"] > 0
    # It starts there, and three steps of the descent find something nearer.
    assert 0.5 * own < hybrid["perceptual"] < own


def test_the_mean_curve_holds_a_batch_that_stopped_at_its_last_point(chain, photos):
    latents = photos.latents[:3]
    other = np.roll(latents, 1, axis=0)

    def part(rows, path, seconds):
        count = np.arange(len(path))
        return projection.Projection(
            path[-1], np.zeros(rows), count, np.asarray(seconds), np.zeros(len(path)), path
        )

    parts = [part(2, np.stack([other[:2], latents[:2]]), [1.0, 2.0]),
             part(1, np.stack([other[2:]]), [4.0])]  # fmt: skip
    steps, seconds, curve = inversion.mean_curve(
        chain.generate, chain.distance, photos.images[:3], parts
    )
    assert steps.tolist() == [0, 1]
    far = chain.distance(photos.images[:3], chain.generate(other))
    near = chain.distance(photos.images[:3], photos.reconstructions[:3])
    np.testing.assert_allclose(seconds, [5.0, 6.0])
    wanted = [far.mean(), (near[0] + near[1] + far[2]) / 3]
    np.testing.assert_allclose(curve, wanted, rtol=1e-4)


def test_flat_features_have_the_perceptual_distance(chain, photos):
    flat = chain.flat_features(photos.images[:4]), chain.flat_features(photos.reconstructions[:4])
    expected = chain.distance(photos.images[:4], photos.reconstructions[:4])
    np.testing.assert_allclose(np.sum((flat[0] - flat[1]) ** 2, axis=1), expected, rtol=1e-4)
    assert np.all(expected > 0)


def test_nearest_sample_is_the_minimum_over_all_pairs(chain, photos, monkeypatch):
    best = inversion.nearest_sample(chain, photos, 30)
    samples = chain.generate(chain.generator.sample_prior(30, seed=photos.seed).numpy())
    for row in range(3):
        photo = np.repeat(photos.images[row : row + 1], 30, axis=0)
        assert best[row] == pytest.approx(chain.distance(photo, samples).min(), rel=1e-3)
    # In blocks, as where the features of all samples do not fit.
    monkeypatch.setattr(subject, "BATCH", 7)
    monkeypatch.setattr(inversion, "FEATURE_BYTES", 1)
    np.testing.assert_allclose(inversion.nearest_sample(chain, photos, 30), best, rtol=1e-4)


def test_a_perfect_inversion_is_told(chain, photos):
    perfect = subject.Photos.__new__(subject.Photos)
    perfect.__dict__ |= photos.__dict__
    perfect.reconstructions, perfect.reconstructed_features = photos.images, photos.features
    block = inversion.measure_inversion(chain, perfect, samples=20)["encoder"]
    assert block["nearer_than_random"] == 1.0
    assert block["identity"] == pytest.approx(1.0)
    assert block["ssim"] == pytest.approx(1.0)
    assert block["perceptual"] == pytest.approx(0.0, abs=1e-6)
    assert block["psnr"] is None  # infinite


def test_some_of_the_photos_are_a_seeded_choice(photos):
    some = photos.some(4)
    rows = subject.choose(np.arange(10), 4, photos.seed)
    assert len(rows) == 4 and len(photos.labels) == 10
    for name, value in vars(photos).items():
        kept = value if name in ("seed", "base_rates") else value[rows]
        np.testing.assert_array_equal(getattr(some, name), kept)


def test_photos_come_from_the_split_that_is_named(finished, chain, photos):
    config, _, dataset, _ = finished
    others = subject.Photos(chain, dataset, 10, config.seed, "validation")
    np.testing.assert_array_equal(others.indices, np.sort(dataset.splits["validation"]))
    np.testing.assert_array_equal(photos.indices, np.sort(dataset.splits["test"]))


# ---- the true edit -----------------------------------------------------------------------------


def test_counterfactual_knows_a_true_edit_from_none(finished, chain, photos, monkeypatch):
    name = "Eyeglasses"
    rows = edits.rows_without(chain, photos, name)
    faces = [synthetic.dataset_face(photos.indices[row]) for row in rows]
    changed = [synthetic.counterfactual(face, name, True) for face in faces]
    truth = to_float(np.stack([synthetic.render(face, 32) for face in changed]))
    unedited = to_float(np.stack([synthetic.render(face, 32) for face in faces]))
    np.testing.assert_array_equal(unedited, photos.images[rows])
    monkeypatch.setattr(chain, "attributes", (name,))
    rest, moved = chain.generate, photos.latents[rows] + chain.directions[name]

    def draw(pictures):  # of the edited latents these, and of others what the generator draws
        return lambda z: pictures if np.array_equal(z, moved) else rest(z)

    for pictures, share in ((truth, 1.0), (unedited, 0.0)):
        monkeypatch.setattr(chain, "generate", draw(pictures))
        block = counterfactual.measure_counterfactual(chain, photos)[name]
        for key in ("nearer", "beats_photo"):
            assert [block[key + by] for by in ("", "_judge", "_psnr")] == [share] * 3
        assert block["n"] == block["n_nearer"] == len(rows)
    assert block["true_leakage"] >= 0
    # Two questions: less than half of the way is nearer to the photo than to the true edit, and
    # nearer to it than the photo; the reconstruction is no nearer than itself.
    part = np.float32(0.6) * unedited + np.float32(0.4) * truth
    for pictures, answers in (
        (part, {"nearer_psnr": 0.0, "beats_photo_psnr": 1.0}),
        (
            photos.reconstructions[rows],
            {"beats_reconstruction": 0.0, "beats_reconstruction_psnr": 0.0,
             "detail_beats_photo": 0.0, "detail_beats_photo_psnr": 0.0},
        ),
        (
            photos.reconstructions[rows] + np.float32(0.5) * (truth - unedited),
            {"detail_beats_photo_psnr": 1.0},
        ),
        (truth, {"beats_reconstruction": 1.0, "beats_reconstruction_psnr": 1.0}),
    ):  # fmt: skip
        monkeypatch.setattr(chain, "generate", draw(pictures))
        block = counterfactual.measure_counterfactual(chain, photos)[name]
        assert {key: block[key] for key in answers} == answers


# ---- regressor ---------------------------------------------------------------------------------


def test_regressor_block_by_hand(finished, chain, photos):
    _, _, dataset, _ = finished
    block = inversion.measure_regressor(chain, photos)
    labels = dataset.labels[dataset.splits["test"]]
    scores = chain.score(photos.images)
    assert block["n"] == 10
    assert block["regressor"]["accuracy"] == pytest.approx(np.mean((scores > 0.5) == labels))
    majority = dataset.labels[dataset.splits["train"]].mean(axis=0) > 0.5
    assert block["majority"]["accuracy"] == pytest.approx(np.mean(majority == labels))
    smiling = block["attributes"]["Smiling"]
    assert smiling["positive"] == pytest.approx(labels[:, 0].mean())
    assert smiling["judge_accuracy"] == pytest.approx(
        np.mean((photos.probabilities[:, 0] > 0.5) == labels[:, 0])
    )


# ---- the two commands --------------------------------------------------------------------------


@pytest.fixture
def other_run(finished, tmp_path):
    """A run of 32 px whose generator has other weights."""
    config, _, _, _ = finished
    other = fake_run.make_run(tmp_path / "other", config)
    stage = other.stage("gan")
    model = artifact.load_model(Generator, stage.model)
    for weight in model.trainable_weights:
        weight.assign(weight * 0.5)
    artifact.save_model(model, stage.model)
    return other


def test_compare_judges_both_generators_alike(finished, other_run):
    config, folder, dataset, report = finished
    result = evaluate_command.compare(folder.path, other_run.path)
    assert result["run"] == report["generation"]
    assert result["other"]["fd_floor"] == pytest.approx(result["run"]["fd_floor"])
    assert result["other"]["fd"] != pytest.approx(result["run"]["fd"], rel=1e-3)
    stored = evaluate_command.read_comparisons(folder.stage("evaluate"))
    assert stored == {"other": json.loads(json.dumps(result))}
    text = figures.collect(folder.path)
    assert "fd at 32 px / that of other" in text
    (folder.path / "evaluate" / "against_other.json").unlink()


def test_compare_tells_how_well_a_stylegans_spaces_separate(finished, tmp_path, monkeypatch):
    config, folder, _, _ = finished
    other = fake_run.make_run(tmp_path / "style", config_module.replace(config, gan_arch="stylegan"))
    few = functools.partial(generation.measure_separability, samples=500)
    monkeypatch.setattr(generation, "measure_separability", few)
    result = evaluate_command.compare(folder.path, other.path)
    block = result["separability"]
    assert (block["n_train"], block["n"], block["seed"]) == (400, 100, config.seed)
    block["attributes"] = {"Smiling": {"positive": 0.25, "z": 0.75, "w": 0.875}}
    lines = evaluate_command.table(result | {"separability": block | {"z": 0.75, "w": None}}).splitlines()
    lines = lines[lines.index("") + 1 :]
    assert [line.split()[-4:] for line in lines[1:-1]] == [
        ["Smiling", "0.250", "0.750", "0.875"], ["mean", "-", "0.750", "-"]]  # fmt: skip
    assert "100 held-out samples" in lines[-1]
    (folder.path / "evaluate" / "against_style.json").unlink()


def test_compare_wants_an_evaluated_run(other_run):
    with pytest.raises(UserError, match="--stage=evaluate"):
        evaluate_command.compare(other_run.path, other_run.path)


def test_figures_of_a_run(finished):
    config, folder, _, report = finished
    text = figures.collect(folder.path)
    assert "synthetic, 32 px, seed 7" in text
    lines = {line.split("  ")[0]: line for line in text.splitlines()}
    change = report["edits"]["learned"]["Smiling"]["target_change"]
    assert f"{change:.4g}" in lines["Smiling, target change"]
    assert "MISSED" in lines["Smiling, target change"]  # nothing has been trained
    assert text.splitlines()[-1].endswith("bars met")


def test_figures_of_nothing(tmp_path, finished):
    config, _, _, _ = finished
    with pytest.raises(UserError, match="no run folder"):
        figures.collect(tmp_path)
    bare = fake_run.make_run(tmp_path / "bare", config)
    with pytest.raises(UserError, match="--stage=evaluate"):
        figures.collect(bare.path)
    bare.stage("evaluate").path.mkdir()
    (bare.stage("evaluate").path / "report.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        figures.collect(bare.path)


def test_an_interval_stands_beside_its_figure():
    rows = [figures.Row("change", 0.5562, n=521, interval=[0.53, 0.58]), figures.Row("kid", 0.1)]
    lines = figures.table(rows).splitlines()
    assert lines[1].split() == ["change", "0.5562", "±0.025", "521"]
    assert lines[2].split() == ["kid", "0.1"]


@pytest.mark.parametrize(
    "value, bars, verdict",
    [
        (0.4, {"at_least": 0.4}, "met"),
        (0.39, {"at_least": 0.4}, "MISSED"),
        (0.1, {"at_most": 0.1}, "met"),
        (0.11, {"at_most": 0.1}, "MISSED"),
        (None, {"at_most": 0.1}, "MISSED"),
        (None, {}, ""),
    ],
)
def test_verdicts(value, bars, verdict):
    assert figures.Row("x", value, **bars).verdict == verdict


def test_bars_of_photos_and_of_drawn_faces(finished):
    report = finished[3]
    photos = json.loads(json.dumps(report))
    photos["data"]["name"] = "celeba_dir"
    del photos["counterfactual"]
    barred = {row.name: row.bar for row in figures.evaluation_rows(photos, {}) if row.verdict}
    assert barred == {
        "fd / floor": "<= 12",
        "regressor, mean accuracy": ">= 0.875",
        "regressor, Smiling": ">= 0.9",
        "regressor, Eyeglasses": ">= 0.965",
        "inversion, nearer than random": ">= 0.95",
        "hybrid, distance / encoder's": "<= 0.6",
        "hybrid, seconds per image": "<= 1.5",
        "hybrid, distance / optimize's": "<= 1.05",
        "hybrid, seconds to optimize's distance / its": "<= 0.25",
        "Smiling, target change": ">= 0.4",
        "Smiling, leakage": "<= 0.1",
        "Smiling, ratio / random's": ">= 3",
        "Blond_Hair, target change": ">= 0.4",
        "Blond_Hair, leakage": "<= 0.1",
        "Blond_Hair, ratio / random's": ">= 3",
        "keep_detail, identity to the photo": ">= 0.9",
        "keep_detail, target change": ">= 0.4",
        "set, |reached - asked|": "<= 0.1",
        "set, |reached - asked| by the judge": "<= 0.15",
        **{
            f"{name}, {figure} at the same change": bar
            for name in ("Smiling", "Blond_Hair", "Eyeglasses")
            for figure, bar in (("leakage", "<= 0.08"), ("leakage / random's", "<= 0.3333"))
        },
    }
    barred = {row.name: row.bar for row in figures.evaluation_rows(report, {}) if row.verdict}
    assert len(barred) == 16
    assert barred["Eyeglasses, kept detail beats the photo"] == ">= 0.95"
    assert barred["mean leakage of the edits"] == "<= 0.03"
    assert barred["Eyeglasses, beats the photo"] == ">= 0.95"
    assert barred["Eyeglasses, leakage"] == "<= 0.05"
    assert barred["Eyeglasses, nearer to the true edit"] == ">= 0.8"


def test_what_set_misses_has_bars_on_photos(finished):
    report = copy.deepcopy(finished[3])
    names = ("set, |reached - asked|", "set, |reached - asked| by the judge", "set, share met")
    for source, errors, verdicts in (
        ("celeba", (0.1, 0.15), ("met", "met", "")),
        ("celeba_dir", (0.101, 0.151), ("MISSED", "MISSED", "")),
        ("synthetic", (0.101, 0.151), ("", "", "")),
    ):
        report["data"]["name"] = source
        report["set"] |= {"error": errors[0], "error_judge": errors[1], "met": 0.9, "n": 100}
        rows = {row.name: row for row in figures.evaluation_rows(report, {})}
        assert tuple(rows[name].verdict for name in names) == verdicts
        assert tuple(rows[name].value for name in names) == (*errors, 0.9)
        assert {rows[name].n for name in names} == {100}
    del report["set"]  # an older report
    assert not any(row.name.startswith("set") for row in figures.evaluation_rows(report, {}))


def test_hybrid_beside_the_encoder_and_optimize(finished):
    report = copy.deepcopy(finished[3])
    report["inversion"]["hybrid"] |= {
        "inversion_perceptual": 0.6,
        "perceptual_encoder": 1.2,
        "n": 64,
        "seconds_per_image": 0.9,
        "seconds_to_optimize": None,
    }
    report["inversion"]["optimize"] |= {"inversion_perceptual": 0.5, "seconds_per_image": 2.0}
    rows = {row.name: row.value for row in figures.evaluation_rows(report, {})}
    assert rows["hybrid, distance / encoder's"] == 0.5
    assert rows["hybrid, seconds per image"] == 0.9
    assert rows["hybrid, distance / optimize's"] == pytest.approx(1.2)
    assert rows["hybrid, seconds to optimize's distance / its"] is None
    report["inversion"]["hybrid"]["seconds_to_optimize"] = 0.5
    rows = {row.name: row.value for row in figures.evaluation_rows(report, {})}
    assert rows["hybrid, seconds to optimize's distance / its"] == 0.25
    for mode in ("hybrid", "optimize"):  # an older report, or --evaluate_projections=0
        del report["inversion"][mode]
    assert not any(row.name.startswith("hybrid") for row in figures.evaluation_rows(report, {}))


def test_export_rows():
    report = {
        "photos": {"n": 64},
        "variants": {
            "saved_model": {
                "passed": True, "reason": None, "bound": 1e-4,
                "signatures": {"encode": {"max_difference": 1e-6},
                               "translate": {"max_difference": 3e-6}},
            },
            "translator_float16": {"passed": False, "reason": "encode gives NaN", "bound": 2e-2,
                                   "signatures": {"encode": {"max_difference": None}}},
            "translator_float32": {"passed": False, "reason": "cannot be converted", "path": None},
        },
    }  # fmt: skip
    rows = figures.export_rows(report)
    assert [(row.value, row.verdict) for row in rows] == [
        (3e-6, "met"), (None, "MISSED"), (None, ""), (None, "MISSED")]  # fmt: skip
    assert "cannot be converted" in rows[3].name
    report["variants"] = {"translator_dynamic": {
        "passed": True, "reason": None, "bound": None, "psnr_bound": 30.0,
        "signatures": {"encode": {"max_difference": 0.2, "psnr": None},
                       "translate": {"max_difference": 0.5, "psnr": 41.0},
                       "generate": {"max_difference": 0.5, "psnr": 40.0}},
        "edits": {"agreement": 0.97, "attributes": {
            "A": {"kept": 0.99, "leakage_added": 0.002},
            "B": {"kept": 0.96, "leakage_added": 0.001},
            "C": {"kept": None, "leakage_added": -0.5}}},
    }}  # fmt: skip
    assert [(row.name.split(", ")[1], row.value, row.verdict) for row in
            figures.export_rows(report)] == [
        ("largest difference", 0.5, ""), ("dB", 40.0, "met"), ("change kept", 0.96, "met"),
        ("leakage added", 0.002, "met"), ("agreement", 0.97, "MISSED")]  # fmt: skip


class Plain:
    """A generator of 1 px: z is its own image."""

    def sample_prior(self, count, seed):
        return tf.random.stateless_normal((count, 4), (seed, 0))

    def mapping(self, z):
        return tf.stack([z[:, 0], z[:, 0] * z[:, 1]], axis=1)

    def from_prior(self, z):
        return z[:, None, None, :]


class Sign:
    """A judge that sees z0 > 0, z0 * z1 > 0, and what hardly any sample has."""

    attribute_names = ("Linear", "Product", "Rare")
    resolution = 1

    def features_and_probabilities(self, images):
        z = images[:, 0, 0, :]
        marks = tf.stack([z[:, 0], z[:, 0] * z[:, 1], z[:, 2] - 4], axis=1)
        return z, tf.cast(marks > 0, tf.float32)


def test_separability_is_what_a_hyperplane_can_tell():
    block = generation.measure_separability(Plain(), Sign(), seed=3, samples=2000)
    assert set(block["attributes"]) == {"Linear", "Product"}
    assert (block["n_train"], block["n"], block["seed"]) == (1600, 400, 3)
    linear, product = block["attributes"]["Linear"], block["attributes"]["Product"]
    assert linear["z"] > 0.97 and linear["w"] > 0.97 and product["w"] > 0.97
    assert product["z"] == pytest.approx(0.5, abs=0.08)
    assert linear["positive"] == pytest.approx(0.5, abs=0.05)
    assert block["z"] == pytest.approx((linear["z"] + product["z"]) / 2)
    assert block["w"] == pytest.approx((linear["w"] + product["w"]) / 2)


def test_w_must_separate_better_than_z(finished):
    report = copy.deepcopy(finished[3])
    report["separability"] = {"z": 0.8, "w": 0.85, "n": 2000}
    rows = {row.name: row for row in figures.evaluation_rows(report, {})}
    assert rows["separability of z, mean"].verdict == ""
    assert rows["separability of w, mean"].verdict == "met"
    report["separability"]["w"] = 0.79
    rows = {row.name: row for row in figures.evaluation_rows(report, {})}
    assert rows["separability of w, mean"].verdict == "MISSED"
