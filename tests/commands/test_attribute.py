"""The attribute command: the head, what is refused, and that all commands know the attribute."""

import csv
import dataclasses
import json
import shutil
import signal

import command_flags
import fake_run
import numpy as np
import pytest
import tiny
from face_pictures import photo_with_faces
from PIL import Image

from cgan_tf import data
from cgan_tf.commands import attribute, attribute_head, attribute_labels, label
from cgan_tf.core import artifact
from cgan_tf.core import config as config_module
from cgan_tf.core.errors import Interrupted, UserError
from cgan_tf.core.files import write_json
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.data import images
from cgan_tf.editing import network
from cgan_tf.networks.dcgan import Discriminator
from cgan_tf.networks.vgg import Regressor, widened
from cgan_tf.stages import calibration, directions

NAME = "Bright"  # no attribute of the synthetic faces


def silent(line):
    pass


def command(**options):
    """Runs the command in this process."""
    arguments = [f"--{name}={value}" for name, value in options.items()]
    return command_flags.run(attribute.define_flags, attribute.main, arguments)


def brightness(faces):
    return faces.read(np.arange(len(faces.files))).mean(axis=(1, 2, 3))


def write_table(path, files, values, name=NAME):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([["file", name], *zip(files, values, strict=True)])
    return path


@pytest.fixture
def table(tmp_path, faces):
    """Labels of 60 photos of the run, half of them with the attribute."""
    bright = brightness(faces)
    order = np.argsort(bright)
    rows = [*order[:30], *order[-30:]]
    values = [-1] * 30 + [1] * 30
    return write_table(tmp_path / "bright.csv", [faces.files[row] for row in rows], values)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cache, faces):
    """A run whose stages up to directions have finished, though untrained; no test changes it."""
    with fake_run.slim():
        path = tmp_path_factory.mktemp("finished") / "run"
        run = fake_run.make_run(path, tiny.make_config(cache))
        artifact.save_model(Discriminator(32, 4), run.stage("gan").path / "discriminator")
        return run


@pytest.fixture
def copy(tmp_path, finished):
    """A copy of the run that a test may change."""
    shutil.copytree(finished.path, tmp_path / "run")
    return RunFolder(tmp_path / "run")


@pytest.fixture(scope="module")
def untouched(tmp_path_factory, finished):
    """A copy of the run for commands that fail; they lock the folder."""
    path = tmp_path_factory.mktemp("untouched") / "run"
    shutil.copytree(finished.path, path)
    return RunFolder(path)


@pytest.fixture(scope="module")
def added(tmp_path_factory, finished, faces):
    """The run with a custom attribute, which no test may change, and its files before."""
    path = tmp_path_factory.mktemp("added")
    shutil.copytree(finished.path, path / "run")
    before = tiny.snapshot(path / "run")
    order = np.argsort(brightness(faces))
    rows = [*order[:30], *order[-30:]]
    write_table(path / "bright.csv", [faces.files[row] for row in rows], [-1] * 30 + [1] * 30)
    with fake_run.slim():
        assert command(run_dir=path / "run", labels=path / "bright.csv") == 0
    return RunFolder(path / "run"), before


# ---- the head ----------------------------------------------------------------------------------


def toy(count, noise, seed=0):
    """Features `[count, 6]` of different scales and means, and labels from the first of them."""
    draw = np.random.default_rng(seed)
    features = draw.standard_normal((count, 6)) * [1, 5, 0.1, 3, 1, 1] + [0, 9, -2, 0, 1, 4]
    labels = features[:, 0] + noise * draw.standard_normal(count) > 0.3
    return features.astype(np.float32), labels.astype(np.float32)


def test_the_head_is_the_minimum_of_the_penalized_loss():
    features, labels = toy(80, noise=0.7)
    head = attribute_head.fit_head(features, labels, seed=1)
    assert head.facts["labels"] == 80 and head.facts["positive"] == labels.sum()
    # Both classes have the same weight; the penalty is on the weights of standardized features.
    logits = features @ head.kernel + head.bias
    weights = np.where(labels > 0.5, 40 / labels.sum(), 40 / (80 - labels.sum()))
    residual = weights * (1 / (1 + np.exp(-logits)) - labels)
    spread = features.std(axis=0)
    standard = (features - features.mean(axis=0)) / spread
    slope = residual @ standard + head.kernel * spread / head.facts["c"]
    np.testing.assert_allclose(slope, 0, atol=0.05)
    assert abs(residual.sum()) < 0.05
    assert np.abs(residual @ standard).max() > 0.2  # the penalty is not negligible


def test_cross_validation_tells_what_can_be_learned():
    features, labels = toy(200, noise=0.0)
    accuracy = attribute_head.fit_head(features, labels, seed=1).facts["balanced_accuracy"]
    assert 0.93 < accuracy <= 1.0
    chance = np.random.default_rng(5).permutation(labels)
    head = attribute_head.fit_head(features, chance, seed=1)
    assert 0.35 < head.facts["balanced_accuracy"] < 0.62
    assert head.facts["c"] <= 1e-2  # a strong penalty, as there is nothing to learn
    again = attribute_head.fit_head(features, chance, seed=1)
    np.testing.assert_array_equal(again.kernel, head.kernel)


def test_a_rare_class_counts_as_much():
    features, labels = toy(300, noise=0.4, seed=3)
    rare = np.flatnonzero(labels)[:12]
    rows = np.concatenate([np.flatnonzero(labels == 0), rare])
    head = attribute_head.fit_head(features[rows], labels[rows], seed=1)
    scores = features[rare] @ head.kernel + head.bias
    assert (scores > 0).mean() > 0.7
    assert head.facts["balanced_accuracy"] > 0.75


def test_a_widened_regressor_keeps_its_scores_and_has_the_heads(slim_vgg):
    regressor = Regressor(("A", "B"), 32, 32, offsets=[0.5, -1.0])
    photos = np.random.default_rng(0).uniform(-1, 1, (3, 32, 32, 3)).astype(np.float32)
    pooled = regressor.features_and_pooled(photos)[1].numpy()
    kernel = np.random.default_rng(1).standard_normal(pooled.shape[1]).astype(np.float32)
    wide = widened(regressor, {"Custom": (kernel, 0.25)})
    assert wide.attribute_names == ("A", "B", "Custom") and regressor.attribute_names == ("A", "B")
    logits = wide.logits(photos).numpy()
    np.testing.assert_allclose(logits[:, :2], regressor.logits(photos), atol=1e-4)
    np.testing.assert_allclose(logits[:, 2], pooled @ kernel + 0.25, rtol=1e-4, atol=1e-3)


# ---- the command -------------------------------------------------------------------------------


def test_the_attribute_is_added_and_the_stages_are_unchanged(added, faces, slim_vgg):
    folder, before = added
    after = tiny.snapshot(folder.path)
    changed = {name for name in before if after[name] != before[name]}
    assert changed <= {"config.json", ".lock"}
    new = set(after) - set(before) - {".lock"}
    assert new == {f"custom_attributes/{NAME}.json", f"custom_attributes/{NAME}.png", "report.html"}
    page = (folder.path / "report.html").read_text()
    assert f"<h3>{NAME}</h3>" in page and "edits of Bright at increasing strengths" in page
    assert "Learned from 60 labels of bright.csv, 30 of them positive; its balanced acc" in page
    facts = folder.read()["custom_attributes"]
    assert list(facts) == [NAME]
    assert facts[NAME]["labels"] == 60 and facts[NAME]["positive"] == 30
    assert facts[NAME]["balanced_accuracy"] > 0.8  # any features contain the brightness
    config = folder.load_config()
    for name in ("gan", "regressor", "inversion", "directions"):
        assert folder.stage(name).begin(config, faces.digest, say=silent) is False

    editor = network.EditingNetwork.from_run(folder.path, scores=True, custom=True)
    assert editor.attributes == (*config.attributes, NAME)
    assert editor.regressor.attribute_names == (*faces.attribute_names, NAME)
    entry = json.loads(folder.custom_path(NAME).read_text())
    np.testing.assert_array_equal(editor.directions[-1], np.float32(entry["vector"]))
    assert [line["strength"] for line in entry["calibration"]] == list(calibration.TABLE)
    assert entry["family"] == "learned" and entry["labels"] == facts[NAME]
    bright = brightness(faces)
    photos = images.to_float(faces.read(np.arange(100)))
    scores = editor.score(photos).numpy()[:, -1]
    assert np.corrcoef(scores, bright)[0, 1] > 0.6

    # The judge does not score it: the evaluate stage loads only the trained attributes.
    plain = network.EditingNetwork.from_run(folder.path, scores=True)
    assert plain.attributes == config.attributes
    assert plain.regressor.attribute_names == faces.attribute_names


def test_label_and_the_description_include_it(added, faces, slim_vgg):
    from cgan_tf.editing import backends, description

    folder, _ = added
    labeler = label.open_labeler(str(folder.path), samples=False)
    assert labeler.attributes == (*faces.attribute_names, NAME)
    assert backends.open_backend(str(folder.path)).attributes[-1] == NAME
    editor = network.EditingNetwork.from_run(folder.path, scores=True, custom=True)
    content = description.describe(folder, folder.load_config(), editor)
    assert content["attributes"][-1] == NAME and content["scores"][-1] == NAME
    assert content["calibration"][NAME][0]["strength"] == calibration.TABLE[0]
    assert f"custom_attributes/{NAME}.json" in content["hashes"]


def test_an_earlier_export_is_stale(copy, added, faces):
    config = copy.load_config()
    stage = copy.stage("export")
    assert stage.begin(config, faces.digest, say=silent)
    stage.finish()
    assert stage.begin(config, faces.digest, say=silent) is False
    shutil.copytree(added[0].path / "custom_attributes", copy.path / "custom_attributes")
    copy.record_custom_attributes(added[0].custom_attributes())
    with pytest.raises(UserError, match="custom attributes.*--stage=export --restart"):
        stage.begin(config, faces.digest, say=silent)
    copy.restart("export", say=silent)
    assert stage.begin(config, faces.digest, say=silent)
    stage.finish()
    assert stage.begin(config, faces.digest, say=silent) is False


def test_only_restart_replaces_it_and_gives_the_same_numbers(added, tmp_path, slim_vgg):
    shutil.copytree(added[0].path, tmp_path / "run")
    folder, path = RunFolder(tmp_path / "run"), added[0].path.parent / "bright.csv"
    old = folder.custom_path(NAME).read_bytes()
    with pytest.raises(UserError, match=f"has a custom attribute {NAME} already; --restart"):
        command(run_dir=folder.path, labels=path)
    command(run_dir=folder.path, labels=path, restart="true")
    kept = folder.path / "custom_attributes" / f"{NAME}.json.old-001"
    assert kept.read_bytes() == old
    assert folder.custom_path(NAME).read_bytes() == old
    assert not (folder.path / "custom_attributes" / ".building").exists()


def test_a_restarted_parent_moves_the_custom_attributes_aside(added, tmp_path, slim_vgg):
    shutil.copytree(added[0].path, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    folder.restart_custom_attributes(say=silent)
    assert folder.custom_attributes() == {}
    assert (folder.path / "custom_attributes.old-001" / f"{NAME}.json").exists()
    assert network.EditingNetwork.from_run(folder.path, custom=True).attributes == (
        folder.load_config().attributes
    )
    folder.restart_custom_attributes(say=silent)  # nothing is left to move
    assert not (folder.path / "custom_attributes.old-002").exists()


@pytest.fixture
def found(added, monkeypatch):
    """The direction of `added` is found at once."""
    folder, _ = added
    entry = json.loads(folder.custom_path(NAME).read_text())
    for key in ("labels", "regressor", "head"):
        del entry[key]
    monkeypatch.setattr(attribute, "find_directions", lambda *rest: {NAME: entry})


def test_a_killed_command_leaves_the_run_unchanged(copy, table, found, slim_vgg, monkeypatch):
    def die(*_):
        raise tiny.Killed

    monkeypatch.setattr(RunFolder, "record_custom_attributes", die)
    with pytest.raises(tiny.Killed):
        command(run_dir=copy.path, labels=table)
    assert copy.custom_path(NAME).exists() and copy.custom_attributes() == {}
    assert NAME not in network.EditingNetwork.from_run(copy.path, custom=True).attributes


def test_an_interrupted_command_adds_nothing(copy, table, slim_vgg, monkeypatch):
    def interrupt(*_):
        raise Interrupted(signal.SIGINT, "saved")

    monkeypatch.setattr(directions, "learn", interrupt)
    with pytest.raises(Interrupted, match="^SIGINT: nothing was added; the same command starts ov"):
        command(run_dir=copy.path, labels=table)
    assert copy.custom_attributes() == {}
    assert not (copy.path / "custom_attributes" / ".building").exists()


def test_the_photos_can_be_in_a_folder(copy, added, found, tmp_path, faces, slim_vgg):
    (tmp_path / "photos").mkdir()
    for file, pixels in zip(faces.files, faces.read(np.arange(100)), strict=True):
        Image.fromarray(pixels).save(tmp_path / "photos" / file)
    table = added[0].path.parent / "bright.csv"
    command(run_dir=copy.path, labels=table, image=tmp_path / "photos")
    entry, new = (json.loads(run.custom_path(NAME).read_text()) for run in (added[0], copy))
    assert new["head"] == entry["head"] and new["labels"] == entry["labels"]


def test_a_table_in_another_form_gives_the_same_head(
    copy, added, found, tmp_path, faces, slim_vgg, capsys
):
    """pandas' index, absolute names in capitals, and tabs."""
    (tmp_path / "photos").mkdir()
    for file, pixels in zip(faces.files, faces.read(np.arange(100)), strict=True):
        Image.fromarray(pixels).save(tmp_path / "photos" / file)
    with open(added[0].path.parent / "bright.csv", newline="") as file:
        _, *rows = csv.reader(file)
    lines = [
        f"{i}\t{tmp_path}/photos/{name.upper()}\t{value}" for i, (name, value) in enumerate(rows)
    ]
    (tmp_path / "bright.tsv").write_text("\n".join([f"\tfile\t{NAME}", *lines, lines[0]]))
    with pytest.raises(UserError, match="line 62: the first column has no name, and '0' is no ind"):
        command(run_dir=copy.path, labels=tmp_path / "bright.tsv", image=tmp_path / "photos")
    (tmp_path / "bright.tsv").write_text("\n".join([f"\tfile\t{NAME}", *lines]))
    command(run_dir=copy.path, labels=tmp_path / "bright.tsv", image=tmp_path / "photos")
    entry, new = (json.loads(run.custom_path(NAME).read_text()) for run in (added[0], copy))
    assert new["head"] == entry["head"] and "notes" not in entry["labels"]
    notes = new["labels"]["notes"]
    assert notes[0] == "tabs separate its columns" and notes[2].startswith("60 names written")
    assert f"labels: bright.tsv: {'; '.join(notes)}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda entry: entry | {"regressor": "0"}, "another regressor"),
        (lambda entry: entry | {"generator": "0"}, "another generator"),
        (lambda entry: entry | {"head": {"kernel": [1.0], "bias": 0.0}}, "finite numbers"),
        (lambda entry: {key: entry[key] for key in entry if key != "head"}, "is damaged"),
        (lambda entry: None, "is missing"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(added, tmp_path, slim_vgg, change, message):
    shutil.copytree(added[0].path, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    path = folder.custom_path(NAME)
    entry = change(json.loads(path.read_text()))
    if entry is None:
        path.unlink()
    else:
        write_json(path, entry)
    with pytest.raises(UserError, match=f"{NAME}.json.*{message}.*cgan attribute --restart"):
        network.EditingNetwork.from_run(folder.path, scores=True, custom=True)


def test_given_labels_are_kept_and_the_head_predicts_the_rest(faces, slim_vgg):
    regressor = Regressor((*faces.attribute_names, NAME), 32, 32)
    kernel, bias = regressor.head.get_weights()
    kernel[:, -1], bias[-1] = 0, 1.0  # it predicts 1 everywhere
    regressor.head.set_weights([kernel, bias])
    test, validation = faces.splits["test"][0], faces.splits["validation"]
    files = (faces.files[validation[0]], faces.files[test])
    labels = attribute_labels.Labels(None, (NAME,), files, np.float32([[0], [1]]))
    known = attribute.with_predictions(faces, regressor, labels, from_dataset=True)
    assert known.attribute_names == regressor.attribute_names
    np.testing.assert_array_equal(known.labels[:, :-1], faces.labels)
    predictions = known.labels[:, -1]
    assert predictions[validation[0]] == 0 and (predictions[validation[1:]] == 1).all()
    assert (predictions[faces.splits["train"]] == 1).all()
    assert predictions[test] == 1 and np.isnan(predictions[faces.splits["test"][1:]]).all()
    other = attribute.with_predictions(faces, regressor, labels, from_dataset=False)
    assert other.labels[validation[0], -1] == 1


# ---- wrong input -------------------------------------------------------------------------------


ROWS = [(f"{index:06d}.png", 1 if index % 3 else -1) for index in range(30)]


@pytest.mark.parametrize(
    "rows, name, options, message",
    [
        (ROWS, NAME, {"attributes": "Brigt"}, "no such column .did you mean Bright"),
        (ROWS, "Smiling", {}, "knows Smiling already"),
        (ROWS, "a/b", {}, "cannot be an attribute's name"),
        (ROWS[:19], NAME, {}, "19 label.s.; give at least 20"),
        ([(file, 1) for file, _ in ROWS], NAME, {}, "0 of 30 photos are without Bright"),
        (
            [(file, 1 if index < 4 else -1) for index, (file, _) in enumerate(ROWS)],
            NAME,
            {},
            "4 of 30 photos are with Bright; give at least 5",
        ),
        ([*ROWS[:-1], ("x.png", 2)], NAME, {}, "line 31: values are -1 and 1"),
        ([*ROWS, (ROWS[3][0], 1)], NAME, {}, "000003.png is listed twice, with other values in"),
        (
            [*ROWS, ("a.png", 1), ("b.png", 1)],
            NAME,
            {},
            "2 of its 32 files are not in the run's photos .first: a.png",
        ),
        (ROWS, NAME, {"image": "/nowhere"}, "--image=/nowhere: no such folder"),
        (ROWS, NAME, {"labels": "/nowhere.csv"}, "--labels=/nowhere.csv: no such file"),
        (ROWS, NAME, {"directions_family": "best"}, "--directions_family=best"),
        (ROWS, NAME, {"run_dir": "/nowhere"}, "/nowhere: no run folder"),
    ],
)
def test_refused(untouched, tmp_path, slim_vgg, rows, name, options, message):
    path = write_table(tmp_path / "labels.csv", *zip(*rows, strict=True), name)
    before = tiny.listing(untouched.path)
    given = {"run_dir": untouched.path, "labels": path} | options
    with pytest.raises(UserError, match=message):
        command(**given)
    assert set(tiny.listing(untouched.path)) - set(before) <= {".lock"}


@pytest.mark.parametrize("names", [("Bright", "bright"), ("Bright", "BRIGHT")])
def test_names_that_differ_only_in_case_are_refused(untouched, tmp_path, names):
    """Their files would be one on some systems."""
    path = tmp_path / "labels.csv"
    rows = [(file, value, value) for file, value in ROWS]
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([["file", *names], *rows])
    with pytest.raises(UserError, match=f"{names[0]} and {names[1]} differ only in case"):
        command(run_dir=untouched.path, labels=path)


def test_photos_that_cannot_be_read_are_counted(untouched, tmp_path, slim_vgg):
    folder = tmp_path / "photos"
    folder.mkdir()
    for file, _ in ROWS:
        Image.new("RGB", (40, 32)).save(folder / file)
    (folder / ROWS[2][0]).write_bytes(b"")
    path = write_table(tmp_path / "labels.csv", *zip(*ROWS, strict=True))
    with pytest.raises(UserError, match="1 of the 30 labelled photos cannot be read .first.*2.png"):
        command(run_dir=untouched.path, labels=path, image=folder)


def test_photos_without_a_face_are_reported_and_left_out(tmp_path, capsys):
    """If the model was trained on CelebA's aligned photos; a model of center squares takes all."""
    for index in range(3):
        face = photo_with_faces((1, 190, 175, 240, 0), size=(350, 380))
        images.save_png(tmp_path / f"face{index}.png", face)
    Image.new("RGB", (400, 300)).save(tmp_path / "empty.png")
    files = ("empty.png", "face0.png", "face1.png", "face2.png")
    values = np.float32([[1], [0], [1], [0]])
    labels = attribute_labels.Labels(tmp_path / "labels.csv", ("A",), files, values)
    same, pixels = attribute_labels.read_photos(labels, tmp_path, 32, aligned=False)
    assert same is labels and pixels.shape == (4, 32, 32, 3)
    with pytest.raises(UserError, match="labels.csv, photos with a face: 3 label.s.; give at leas"):
        attribute_labels.read_photos(labels, tmp_path, 32, aligned=True)
    assert capsys.readouterr().err == f"left out: {tmp_path / 'empty.png'}: no face found\n"
    many = tuple(f"face{index % 3}.png" for index in range(20))
    values = np.float32([[index % 2] for index in range(21)])
    labels = attribute_labels.Labels(tmp_path / "labels.csv", ("A",), ("empty.png", *many), values)
    fewer, pixels = attribute_labels.read_photos(labels, tmp_path, 32, aligned=True)
    assert fewer.files == many and pixels.shape == (20, 32, 32, 3)
    np.testing.assert_array_equal(fewer.values, values[1:])


def test_an_unfinished_run_and_other_photos(copy, tmp_path, faces, slim_vgg):
    path = write_table(tmp_path / "labels.csv", *zip(*ROWS, strict=True))
    notes = copy.stage("inversion").path / "metadata.json"
    content = json.loads(notes.read_text())
    write_json(notes, content | {"ended": None})
    with pytest.raises(UserError, match="the inversion stage has not finished"):
        command(run_dir=copy.path, labels=path)
    write_json(notes, content)
    config = config_module.replace(copy.load_config(), synthetic_size=101)
    assert data.open_data(config, say=silent).digest != faces.digest
    copy.save_config(config, copy.read()["data"])
    with pytest.raises(UserError, match="have changed since it was trained"):
        command(run_dir=copy.path, labels=path)


def test_photos_that_have_moved(copy, tmp_path, faces, monkeypatch):
    path = write_table(tmp_path / "labels.csv", *zip(*ROWS, strict=True))
    monkeypatch.chdir(tmp_path)

    def open_data(config):
        raise UserError(f"opened {config.data_dir}")

    monkeypatch.setattr(data, "open_data", open_data)
    with pytest.raises(UserError, match=f"opened {tmp_path / 'moved'}"):
        command(run_dir=copy.path, labels=path, data_dir="moved")


@pytest.mark.parametrize(
    "split, value, message",
    [
        ("train", 0, "predicts Bright for none of the 80 training photos, and a direction takes"),
        ("train", 1, "predicts Bright for all of the 80 training photos"),
        ("validation", 1, "predicts Bright for all of the 10 validation photos"),
    ],
)
def test_a_head_that_predicts_only_one_class(faces, slim_vgg, split, value, message):
    column = np.arange(len(faces.files), dtype=np.float32)[:, None] % 2
    column[faces.splits[split]] = value
    known = dataclasses.replace(
        faces,
        attribute_names=(*faces.attribute_names, NAME),
        labels=np.concatenate([faces.labels, column], axis=1),
    )
    labels = attribute_labels.Labels("b.csv", (NAME,), (), np.zeros((0, 1)))
    with pytest.raises(UserError, match=message):
        attribute.check_predictions(known, labels)
