"""Adds attributes of one's own to a finished run: a few hundred labels give a head and a direction.

    cgan attribute --run_dir=RUN_DIR --labels=hats.csv [--image=FOLDER]
        [--attributes=Wearing_Hat] [--directions_family=hyperplane] [--restart]

The CSV is `file,Attr1,Attr2,...` with 1 and -1 (or 1 and 0), its files those of --image or, without
it, of the run's own photos. For each attribute logistic regression on what the regressor's head
sees makes one more output of it: R then scores the attribute as it does its own. From there on it
is the directions stage once more: the head's opinion labels photos or samples, the direction is
found and calibrated as the others are, and `cgan translate`, `cgan label` and `export` have
it. The judge does not know it, so the evaluate stage leaves it out.

Leaves attributes/NAME.json (head, direction, calibration) and attributes/NAME.png in the run
folder, and their names in its config.json, last: until then the run is as it was.
"""

import dataclasses
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from absl import flags

from cgan_tf.core import cli, quiet
from cgan_tf.core.options import make, parse
from cgan_tf.core.cli import closest
from cgan_tf.core.config import OPTIONS, Config
from cgan_tf.core.errors import Interrupted, UserError
from cgan_tf.core.files import backup_path, file_hash, write_json
from cgan_tf.core.run_folder import CUSTOM_FOLDER, RunFolder
from cgan_tf.data import folder as folder_data
from cgan_tf.data import images
from cgan_tf.data.portraits import NoFaceError, choose_face, portraits
from cgan_tf.data.source import list_images, load_all

if TYPE_CHECKING:  # at run time they would import TensorFlow, with its start-up lines
    from sklearn import linear_model, preprocessing

    from cgan_tf.data import ImageData
    from cgan_tf.networks.vgg import Regressor

LEAST = 20  # labels that an attribute needs
FOLDS = 5  # of the cross-validation; each must hold both classes
STRENGTHS = 10.0 ** np.arange(-6, 1)  # of the head: C, the inverse of the L2 penalty's weight
FORBIDDEN = set("/\\,=:+")  # in a name: it is a file's, and a word of --edit, --directions_condition, --attributes
FOUND_BY = ("directions_family", "directions_samples")  # options of the run that a flag may replace
BATCH = 50  # photos in one pass of R


# ---- what was asked for ------------------------------------------------------------------------


class Labels(NamedTuple):
    """A table of labels."""

    path: Path
    names: tuple[str, ...]  # K, the attributes to add
    files: tuple[str, ...]  # N
    values: np.ndarray  # float32 [N, K] in {0, 1}


def read_labels(path: str, chosen: Sequence[str], run: RunFolder, restart: bool = False) -> Labels:
    """The labels of the attributes to add.

    Args:
        path: the value of --labels.
        chosen: columns of the table; all if empty.
        run: the run that they will be added to.
        restart: own attributes that the run has already may be made anew.

    Raises:
        UserError: no table of labels, or one that no head can be trained from.
    """
    place = Path(path).expanduser()
    if not place.is_file():
        raise UserError(f"--labels={path}: no such file; give a CSV that begins with file,NAME")
    columns, rows = folder_data.read_labels(place)
    for name in chosen:
        if name not in columns:
            raise UserError(
                f"--attributes={name}: {path} has no such column{closest(name, columns)}; "
                f"it has {', '.join(columns)}"
            )
    names = tuple(dict.fromkeys(chosen)) or columns
    values = np.array(list(rows.values()), np.float32).reshape(len(rows), len(columns))
    labels = Labels(place, names, tuple(rows), values[:, [columns.index(name) for name in names]])
    known = _known(run)
    for name in names:
        _check_name(name, path, known, run, restart)
    _check_counts(labels, path)
    return labels


def _known(run: RunFolder) -> list[str]:
    """The attributes that the run's regressor was trained on; none if there is no regressor."""
    try:
        content = json.loads((run.stage("regressor").model / "config.json").read_text())
        return content["arguments"]["attribute_names"]
    except (FileNotFoundError, ValueError, KeyError):  # its loader says what is wrong with it
        return []


def _check_name(name: str, path: str, known: Sequence[str], run: RunFolder, restart: bool) -> None:
    if name in known:
        raise UserError(
            f"--labels={path}: the regressor knows {name} already; leave it out (--attributes "
            "names the columns to add), or have it edited by train_main.py --stage=directions "
            f"--restart --attributes={name},..."
        )
    if set(name) & FORBIDDEN or name.startswith("."):
        raise UserError(
            f"--labels={path}: {name!r} cannot be an attribute's name; take letters, digits and _"
        )
    if name in run.custom_attributes() and not restart:
        raise UserError(
            f"--labels={path}: {run.path} has an own attribute {name} already; --restart moves "
            "the old one aside"
        )


def _check_counts(labels: Labels, path: str) -> None:
    count = len(labels.files)
    if count < LEAST:
        raise UserError(f"--labels={path}: {count} label(s); give at least {LEAST}")
    for name, column in zip(labels.names, labels.values.T, strict=True):
        positive = int(column.sum())
        few = min(positive, count - positive)
        if few < FOLDS:
            which = "with" if positive == few else "without"
            raise UserError(
                f"--labels={path}: {few} of {count} photos are {which} {name}; give at least "
                f"{FOLDS} of either class"
            )


def check_files(labels: Labels, files: Sequence[str], place: str) -> None:
    """Refuses rows whose photos are not there.

    Args:
        labels: the table.
        files: the photos' names.
        place: what holds them, for the error.

    Raises:
        UserError: rows without a photo.
    """
    missing = sorted(set(labels.files) - set(files))
    if missing:
        raise UserError(
            f"--labels={labels.path}: {len(missing)} of its {len(labels.files)} files are not in "
            f"{place} (first: {missing[0]}); delete their rows, or name their folder with --image"
        )


# ---- photos and head -----------------------------------------------------------------------------


def find_folder(image: str) -> Path:
    """The folder behind --image; UserError where there is none."""
    place = Path(image).expanduser()
    if not place.is_dir():
        raise UserError(f"--image={image}: no such folder; give the one that holds the photos")
    return place


def read_photos(
    labels: Labels, place: Path, resolution: int, aligned: bool
) -> tuple[Labels, np.ndarray]:
    """The labelled photos of a folder, uint8 `[N, R, R, 3]`, and their rows of the table.

    Where the model knows how faces were cut, a photo that is not aligned gives its largest face,
    and one in which none is found is named and left out.

    Args:
        labels: names relative to the folder, all there.
        place: the folder.
        resolution: the model's.
        aligned: see `photos.portraits`.

    Raises:
        UserError: photos that cannot be read, or too few labels are left.
    """
    which = choose_face(None, aligned)

    def load(file: str) -> np.ndarray:
        return portraits(images.decode_file(place / file), resolution, aligned, which)[0].crop

    loaded = list(load_all(load, labels.files))
    faceless = [isinstance(item, NoFaceError) for item in loaded]
    bad = [
        item
        for item, none in zip(loaded, faceless, strict=True)
        if isinstance(item, UserError) and not none
    ]
    if bad:
        raise UserError(
            f"--image={place}: {len(bad)} of the {len(loaded)} labelled photos cannot be read "
            f"(first: {bad[0]}); delete their rows"
        )
    if not any(faceless):
        return labels, np.stack(loaded)
    for index in np.flatnonzero(faceless):
        print(f"left out: {place / labels.files[index]}: no face found", file=sys.stderr)
    kept = np.flatnonzero(~np.array(faceless))
    labels = labels._replace(
        files=tuple(labels.files[index] for index in kept), values=labels.values[kept]
    )
    _check_counts(labels, f"{labels.path}, photos with a face")
    return labels, np.stack([loaded[index] for index in kept])


class Head(NamedTuple):
    """One more output of the regressor: sigmoid(kernel . what its head sees + bias)."""

    kernel: np.ndarray  # float32 [D]
    bias: float
    facts: dict[str, Any]  # labels, positive, c, balanced_accuracy


def pooled(regressor: "Regressor", pixels: np.ndarray) -> np.ndarray:
    """What the regressor's head sees of photos uint8 `[N, R, R, 3]`, float32 `[N, D]`."""
    import tensorflow as tf

    from cgan_tf.stages import families

    graph = tf.function(
        lambda photos: regressor.features_and_pooled(photos)[1],
        autograph=False,
        reduce_retracing=True,
    )
    return families.in_batches(lambda rows: graph(images.to_float(rows)), pixels, BATCH)


def fit_head(features: np.ndarray, labels: np.ndarray, seed: int) -> Head:
    """Logistic regression on standardized features, both classes of equal weight.

    Cross-validation on the labels chooses the L2 penalty: of `STRENGTHS` the one with the least
    log loss on what was left out, both classes of equal weight. The balanced accuracy that is
    reported is that of the same predictions.

    Args:
        features: float32 `[N, D]`.
        labels: `[N]` in {0, 1}, at least `FOLDS` of either.
        seed: of the folds.
    """
    from sklearn import metrics, model_selection

    labels = labels > 0.5
    folds = model_selection.StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    guess = np.zeros((len(STRENGTHS), len(labels)))  # of each penalty, by the others of its fold
    for train, rest in folds.split(features, labels):
        scale, axes = _span(features[train])
        known = scale.transform(features[train]) @ axes.T
        unknown = scale.transform(features[rest]) @ axes.T
        for row, c in enumerate(STRENGTHS):
            guess[row, rest] = _plane(c).fit(known, labels[train]).predict_proba(unknown)[:, 1]
    weights = np.where(labels, 1 / labels.sum(), 1 / (~labels).sum())
    losses = [metrics.log_loss(labels, row, sample_weight=weights) for row in guess]
    best = int(np.argmin(losses))

    scale, axes = _span(features)
    plane = _plane(STRENGTHS[best]).fit(scale.transform(features) @ axes.T, labels)
    kernel = (plane.coef_[0] @ axes) / scale.scale_  # score = coef . (x - mean) / scale + intercept
    return Head(
        kernel.astype(np.float32),
        float(plane.intercept_[0] - kernel @ scale.mean_),
        {
            "labels": len(labels),
            "positive": int(labels.sum()),
            "c": float(STRENGTHS[best]),
            "balanced_accuracy": float(metrics.balanced_accuracy_score(labels, guess[best] > 0.5)),
        },
    )


def _span(features: np.ndarray) -> "tuple[preprocessing.StandardScaler, np.ndarray]":
    """What standardizes features `[N, D]`, and axes `[n, D]` of the n-space that they span.

    An L2 penalty does not see a rotation, and the weights lie in that space: the fit on those few
    coordinates is the fit on all features, of which there are a hundred times as many as labels.
    """
    from sklearn import preprocessing

    scale = preprocessing.StandardScaler().fit(features)
    rows = scale.transform(features)
    # By the rows' products: a singular value decomposition of the features takes minutes.
    squares, columns = np.linalg.eigh((rows @ rows.T).astype(np.float64))
    kept = squares > 1e-6 * squares[-1]  # centered rows span one dimension less than they are
    return scale, (columns[:, kept] / np.sqrt(squares[kept])).T.astype(np.float32) @ rows


def _plane(c: float) -> "linear_model.LogisticRegression":
    from sklearn import linear_model

    return linear_model.LogisticRegression(C=c, class_weight="balanced", max_iter=1000)


# ---- direction -----------------------------------------------------------------------------------


def with_opinions(
    dataset: "ImageData", regressor: "Regressor", labels: Labels, own_photos: bool
) -> "ImageData":
    """The data set with a column for each attribute that only the regressor's added heads know.

    What a label says holds; of all other photos of the training and validation splits that the
    directions are made from, the head's opinion does.

    Args:
        dataset: its attributes are the first of the regressor's.
        regressor: with the added heads.
        labels: of the newest attributes.
        own_photos: the labelled photos are the data set's.
    """
    from cgan_tf.stages import directions, families

    names = regressor.attribute_names[len(dataset.attribute_names) :]
    rows = np.concatenate(
        [dataset.splits["train"][: directions.STARTING_PHOTOS], dataset.splits["validation"]]
    )
    opinions = np.full((len(dataset.files), len(names)), np.nan, np.float32)  # NaN: not asked
    score = families.scorer(lambda photos, training: photos, regressor, BATCH)
    for start in range(0, len(rows), BATCH):
        chosen = rows[start : start + BATCH]
        scores = score(images.to_float(dataset.read(chosen)))
        opinions[chosen] = scores[:, len(dataset.attribute_names) :] > 0.5
    if own_photos:
        place = {file: index for index, file in enumerate(dataset.files)}
        columns = [names.index(name) for name in labels.names]
        opinions[np.ix_([place[file] for file in labels.files], columns)] = labels.values
    return dataclasses.replace(
        dataset,
        attribute_names=regressor.attribute_names,
        labels=np.concatenate([dataset.labels, opinions], axis=1),
    )


def add(
    run: RunFolder,
    config: Config,
    dataset: "ImageData",
    labels: Labels,
    pixels: np.ndarray,
    own_photos: bool,
) -> None:
    """Trains the heads, finds the directions, and adds both to the run.

    Args:
        run: the run folder, locked; its stages up to directions have finished.
        config: its resolved options.
        dataset: its photos.
        labels: of the attributes to add; those that the run has already are moved aside.
        pixels: the labelled photos, uint8 `[N, R, R, 3]`.
        own_photos: they are the data set's.

    Raises:
        UserError: the head sees one class only, or too few samples of one.
        Interrupted: a signal; the run is as it was.
    """
    from cgan_tf.editing import models
    from cgan_tf.networks.vgg import widened
    from cgan_tf.stages import calibration, directions
    from cgan_tf.training import precision

    precision.seed_everything(config)
    policy = precision.compute_policy(config)
    kept = [name for name in run.custom_attributes() if name not in labels.names]
    base = models.load_regressor(run, kept, policy)
    features = pooled(base, pixels)
    heads = {}
    for name, column in zip(labels.names, labels.values.T, strict=True):
        head = heads[name] = fit_head(features, column, config.seed)
        print(
            f"{name}: {head.facts['labels']} labels, {head.facts['positive']} of them with it; "
            f"balanced accuracy {head.facts['balanced_accuracy']:.3f} in cross-validation",
            flush=True,
        )
    regressor = widened(base, {name: head[:2] for name, head in heads.items()}, policy)
    known = with_opinions(dataset, regressor, labels, own_photos)
    check_opinions(known, labels)

    # The directions stage, for these attributes alone.
    share = len(labels.names) / max(1, len(config.attributes))
    config = dataclasses.replace(config, hold=(), directions_kimg=config.directions.kimg * share)
    trainer = directions.DirectionsTrainer(
        labels.names, **directions.load_networks(run, config, regressor), config=config
    )
    building = run.path / CUSTOM_FOLDER / ".building"
    shutil.rmtree(building, ignore_errors=True)  # of a process that was killed
    building.mkdir(parents=True)
    try:
        if config.directions.family == "learned":
            stage = run.stage(f"{CUSTOM_FOLDER}/{building.name}")
            stage.name = "attribute"
            directions.learn(trainer, known, stage, config)
        origins = directions.find_directions(trainer, labels.names, config)
        measured = calibration.Calibration(
            trainer, known, "validation", calibration.CALIBRATION_PHOTOS
        )
        entries = calibration.calibrate(measured, labels.names, origins, run, config)
    except Interrupted as error:
        raise Interrupted(error.signum, "nothing was added; the same command begins anew") from None
    finally:
        shutil.rmtree(building, ignore_errors=True)
    shown = dataset.read(dataset.splits["validation"][: directions.SHOWN])
    pictures = {
        name: directions.draw_edits(trainer, np.float32([entry["vector"]]), shown)
        for name, entry in entries.items()
    }
    publish(run, labels, heads, entries, pictures)


def check_opinions(known: "ImageData", labels: Labels) -> None:
    rows = known.splits["validation"]
    for name in labels.names:
        share = known.labels[rows, known.attribute_names.index(name)].mean()
        if share in (0, 1):
            raise UserError(
                f"--labels={labels.path}: by what was learned from them "
                f"{'all' if share else 'none'} of the {len(rows)} validation photos are with "
                f"{name}, so nothing can be calibrated; give more labels"
            )


def publish(
    run: RunFolder,
    labels: Labels,
    heads: Mapping[str, Head],
    entries: Mapping[str, dict],
    pictures: Mapping[str, np.ndarray],
) -> None:
    """Writes the own attributes' files, then their names into config.json.

    A file that the run's config.json names is copied aside before the new one takes its place, so
    that there is one at any moment.

    Args:
        run: the run folder.
        labels: what the heads were trained from.
        heads: by attribute.
        entries: what `directions.calibrate` gives.
        pictures: of the edits, uint8.
    """
    facts = {}
    for name, entry in entries.items():
        path = run.custom_path(name)
        picture = path.with_suffix(".png")
        for old in (path, picture):
            if name in run.custom_attributes() and old.exists():
                shutil.copy2(old, backup_path(old))
        head = heads[name]
        facts[name] = head.facts | {"table": labels.path.name, "sha256": file_hash(labels.path)}
        images.save_png(picture, pictures[name])
        write_json(
            path,
            entry
            | {
                "labels": facts[name],
                "regressor": file_hash(run.stage("regressor").model / "weights.h5"),
                "head": {"kernel": head.kernel.tolist(), "bias": head.bias},
            },
        )
    run.record_custom_attributes(facts)


# ---- the command -------------------------------------------------------------------------------


def define_flags() -> None:
    """The command's flags; only the command itself may define them, not who imports this module."""
    flags.DEFINE_string("run_dir", None, "run folder whose stages up to directions have finished")
    flags.DEFINE_string("labels", None, "CSV of labels: file,NAME,... with 1 and -1, or 1 and 0")
    flags.DEFINE_string(
        "image",
        None,
        "folder that the CSV's files are relative to; by default the run's own photos",
    )
    flags.DEFINE_list("attributes", [], "columns of the CSV to add; by default all")
    for name in FOUND_BY:
        flags.DEFINE_string(
            name, None, f"{OPTIONS[name].metadata['help']}; by default the run's"
        )
    flags.DEFINE_bool("restart", False, "move own attributes of these names aside")


def main() -> int:
    """The command behind the flags; returns the exit code."""
    options = flags.FLAGS
    cli.require("run_dir", "labels")
    run = RunFolder(options.run_dir)
    stored = run.load_config()
    given = {
        name: parse(name, options[name].value)
        for name in FOUND_BY
        if options[name].value is not None
    }
    config = make(None, given, stored)
    labels = read_labels(options.labels, options.attributes, run, options.restart)
    if options.image:
        place = find_folder(options.image)
        check_files(labels, tuple(list_images(place)), f"--image={options.image}")
    quiet.import_tensorflow()
    from cgan_tf import data
    from cgan_tf.editing import description, models
    from cgan_tf.report import page

    for name in ("gan", "regressor", "inversion", "directions"):
        models.finished_stage(run, name)
    run.lock()
    dataset = data.open_data(config)
    if run.stage("directions").read_metadata()["data"] != dataset.digest:
        raise UserError(
            f"--run_dir={run.path}: its photos or labels are no longer those that it was made "
            "from; put them back"
        )
    if options.image:
        aligned = description.training_crop(config) == description.CELEBA_CROP
        labels, pixels = read_photos(labels, place, config.resolution, aligned)
    else:
        check_files(labels, dataset.files, "the run's own photos")
        places = {file: index for index, file in enumerate(dataset.files)}
        pixels = dataset.read([places[file] for file in labels.files])
    add(run, config, dataset, labels, pixels, own_photos=not options.image)
    print(f"report: {page.write(run)}")
    name = labels.names[0]
    print(
        f"{run.path}: added {', '.join(labels.names)}; try cgan translate "
        f"--model={run.path} --image=PHOTO --edit={name}=+1 --output=OUT.png"
    )
    return 0
