"""Adds custom attributes to a finished run, from a few hundred labels.

    cgan attribute --run_dir=RUN_DIR --labels=hats.csv [--image=FOLDER]
        [--attributes=Wearing_Hat] [--directions_family=hyperplane] [--restart] [--data_dir=DIR]

The CSV is `file,Attr1,Attr2,...` with 1 and -1 (or 1 and 0). Its files are those of --image or,
without it, the run's own photos. For each attribute a logistic regression on the regressor's pooled
features becomes one more output of the regressor. Then the directions stage is repeated for this
attribute: the new output labels photos or samples, the direction is found and calibrated, and
`cgan translate`, `cgan label` and `cgan export` include it. The judge does not score custom
attributes, so the evaluate stage leaves them out.

It needs the run folder: the files of an export, and named models, cannot learn an attribute.
Writes custom_attributes/NAME.json (head, direction, calibration) and NAME.png into the run folder.
The names go into config.json last: until then the run is unchanged.
"""

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags

from cgan_tf.commands.attribute_head import BATCH, Head, fit_head, head_features
from cgan_tf.commands.attribute_labels import (
    Labels,
    find_files,
    find_folder,
    read_labels,
    read_photos,
)
from cgan_tf.core import cli, quiet
from cgan_tf.core import config as config_module
from cgan_tf.core.config import OPTIONS, Config
from cgan_tf.core.errors import Interrupted, UserError
from cgan_tf.core.files import backup_path, file_hash, names_full_disk, write_json
from cgan_tf.core.options import absolute, make, parse
from cgan_tf.core.run_folder import CUSTOM, RunFolder
from cgan_tf.data import images
from cgan_tf.data.source import list_images
from cgan_tf.editing import named_models

if TYPE_CHECKING:  # importing them would start TensorFlow
    from cgan_tf.data import ImageData
    from cgan_tf.networks.vgg import Regressor
    from cgan_tf.stages.directions import DirectionsTrainer

DIRECTIONS_FLAGS = ("directions_family", "directions_samples")  # replace options of the run


# ---- direction ---------------------------------------------------------------------------------


def with_predictions(
    dataset: "ImageData", regressor: "Regressor", labels: Labels, from_dataset: bool
) -> "ImageData":
    """The data set with a label column for each custom attribute.

    The given labels are kept. All other photos of the training and validation splits that the
    directions are found with get the regressor's prediction, rounded to 0 or 1.

    Args:
        dataset: its attributes are the first of the regressor's.
        regressor: with the heads of the custom attributes.
        labels: of the new attributes.
        from_dataset: whether the labelled photos belong to the data set.
    """
    from cgan_tf.evaluation.scores import scorer
    from cgan_tf.stages import directions

    names = regressor.attribute_names[len(dataset.attribute_names) :]
    rows = np.concatenate(list(directions.compared_photos(dataset).values()))
    columns = np.full((len(dataset.files), len(names)), np.nan, np.float32)  # NaN: not predicted
    score = scorer(lambda photos, training: photos, regressor, BATCH)
    for start in range(0, len(rows), BATCH):
        chosen = rows[start : start + BATCH]
        scores = score(images.to_float(dataset.read(chosen)))
        columns[chosen] = scores[:, len(dataset.attribute_names) :] > 0.5
    if from_dataset:
        index = {file: row for row, file in enumerate(dataset.files)}
        labelled = [index[file] for file in labels.files]
        columns[np.ix_(labelled, [names.index(name) for name in labels.names])] = labels.values
    return dataclasses.replace(
        dataset,
        attribute_names=regressor.attribute_names,
        labels=np.concatenate([dataset.labels, columns], axis=1),
    )


def add(
    run: RunFolder,
    config: Config,
    dataset: "ImageData",
    labels: Labels,
    pixels: np.ndarray,
    from_dataset: bool,
) -> None:
    """Trains the heads, finds the directions, and adds both to the run.

    Args:
        run: the run folder, locked; its stages up to directions have finished.
        config: its resolved options.
        dataset: its photos.
        labels: of the attributes to add; existing ones of these names are moved aside.
        pixels: the labelled photos, uint8 `[N, R, R, 3]`.
        from_dataset: whether the labelled photos belong to the data set.

    Raises:
        UserError: the head predicts only one class, or too few samples of one.
        Interrupted: a signal arrived; the run is unchanged.
    """
    from cgan_tf.editing import models
    from cgan_tf.networks.vgg import widened
    from cgan_tf.stages import directions
    from cgan_tf.training import precision

    precision.seed_everything(config)
    policy = precision.compute_policy(config)
    kept = [name for name in run.custom_attributes() if name not in labels.names]
    base = models.load_regressor(run, kept, policy)
    heads = train_heads(base, labels, pixels, config.seed)
    regressor = widened(base, {name: head[:2] for name, head in heads.items()}, policy)
    known = with_predictions(dataset, regressor, labels, from_dataset)
    check_predictions(known, labels)
    # The directions stage, for the new attributes only: without preserved attributes, and with
    # their share of the training.
    share = len(labels.names) / max(1, len(config.attributes))
    config = config_module.replace(
        config, directions_condition=(), directions_kimg=config.directions.kimg * share
    )
    trainer = directions.DirectionsTrainer(
        labels.names, **directions.load_networks(run, config, regressor), config=config
    )
    entries = find_directions(run, config, trainer, known, labels.names)
    shown = dataset.read(dataset.splits["validation"][: directions.SHOWN])
    figures = {
        name: directions.edits_grid(trainer, np.float32([entry["vector"]]), shown)
        for name, entry in entries.items()
    }
    publish(run, labels, heads, entries, figures)


def train_heads(
    regressor: "Regressor", labels: Labels, pixels: np.ndarray, seed: int
) -> dict[str, Head]:
    """A head for each attribute of the table, trained on the photos uint8 `[N, R, R, 3]`."""
    features = head_features(regressor, pixels)
    heads = {}
    for name, column in zip(labels.names, labels.values.T, strict=True):
        head = heads[name] = fit_head(features, column, seed)
        print(
            f"{name}: {head.facts['labels']} labels, {head.facts['positive']} of them positive; "
            f"balanced accuracy {head.facts['balanced_accuracy']:.3f} in cross-validation",
            flush=True,
        )
    return heads


def find_directions(
    run: RunFolder,
    config: Config,
    trainer: "DirectionsTrainer",
    known: "ImageData",
    names: Sequence[str],
) -> dict[str, dict[str, Any]]:
    """The calibrated direction of each attribute, as the entry of its file.

    Args:
        run: the run folder. Training writes into a folder of it that is deleted afterwards.
        config: the options of the directions stage.
        trainer: for these attributes.
        known: the data set with labels of these attributes.
        names: of the attributes.

    Raises:
        Interrupted: a signal arrived.
    """
    from cgan_tf.stages import calibration, directions

    building = run.path / CUSTOM / ".building"
    shutil.rmtree(building, ignore_errors=True)  # of a process that was killed
    building.mkdir(parents=True)
    try:
        if config.directions.family == "learned":
            stage = run.stage(f"{CUSTOM}/{building.name}")
            stage.name = "attribute"
            directions.learn(trainer, known, stage, config)
        origins = directions.find_directions(trainer, names, config)
        vectors = dict(zip(names, trainer.directions.numpy(), strict=True))
        measured = directions.make_calibration(trainer, known)
        return calibration.calibrate(measured, vectors, origins, run, config)
    except Interrupted as error:
        remedy = "nothing was added; the same command starts over"
        raise Interrupted(error.signum, remedy) from None
    finally:
        shutil.rmtree(building, ignore_errors=True)


def check_predictions(known: "ImageData", labels: Labels) -> None:
    """Raises a UserError if all training or validation photos are predicted to be of one class."""
    from cgan_tf.stages import directions

    for name in labels.names:
        for part, rows in directions.compared_photos(known).items():
            share = known.labels[rows, known.attribute_names.index(name)].mean()
            if share in (0, 1):
                raise UserError(
                    f"--labels={labels.path}: the classifier trained on them predicts {name} for "
                    f"{'all' if share else 'none'} of the {len(rows)} {part} photos, and a "
                    "direction takes both; give more labels"
                )


def publish(
    run: RunFolder,
    labels: Labels,
    heads: Mapping[str, Head],
    entries: Mapping[str, dict],
    figures: Mapping[str, np.ndarray],
) -> None:
    """Writes the files of the custom attributes, then their names into config.json.

    A file that config.json already names is copied aside before it is replaced, so that it exists
    at any moment.

    Args:
        run: the run folder.
        labels: the labels that the heads were trained with.
        heads: by attribute.
        entries: by attribute, from `calibration.calibrate`.
        figures: of the edits by attribute, uint8 `[H, W, 3]`.
    """
    facts = {}
    for name, entry in entries.items():
        path = run.custom_path(name)
        figure = path.with_suffix(".png")
        for old in (path, figure):
            if name in run.custom_attributes() and old.exists():
                backup = backup_path(old)
                with names_full_disk(backup):
                    shutil.copy2(old, backup)
        head = heads[name]
        facts[name] = head.facts | {"table": labels.path.name, "sha256": file_hash(labels.path)}
        if labels.notes:
            facts[name]["notes"] = list(labels.notes)
        images.save_png(figure, figures[name])
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
    """Defines the command's flags."""
    flags.DEFINE_string("run_dir", None, "run folder whose stages up to directions have finished")
    flags.DEFINE_string("labels", None, "CSV of labels: file,NAME,... with 1 and -1, or 1 and 0")
    flags.DEFINE_string(
        "image", None, "folder that the CSV's files are relative to; by default the run's photos"
    )
    flags.DEFINE_string("data_dir", None, "folder of the run's photos, if they have moved")
    flags.DEFINE_list("attributes", [], "columns of the CSV to add; by default all")
    for name in DIRECTIONS_FLAGS:
        flags.DEFINE_string(name, None, f"{OPTIONS[name].metadata['help']}; by default the run's")
    flags.DEFINE_bool("restart", False, "move custom attributes of the same names aside")


def main() -> int:
    """Runs the command with the parsed flags; returns the exit code."""
    options = flags.FLAGS
    cli.require("run_dir", "labels")
    run = RunFolder(options.run_dir)
    if named_models.folder_of(run.path):
        raise UserError(
            f"--run_dir={options.run_dir}: a named model, which cannot learn an attribute; give "
            "the run folder that it was made of"
        )
    stored = run.load_config()
    given = {
        name: parse(name, options[name].value)
        for name in DIRECTIONS_FLAGS
        if options[name].value is not None
    }
    if options.data_dir:
        given["data_dir"] = absolute(options.data_dir, "--data_dir")
    config = make(None, given, stored)
    labels = read_labels(options.labels, options.attributes, run, options.restart)
    if options.image:
        place = find_folder(options.image)
        labels = find_files(labels, tuple(list_images(place)), f"--image={options.image}", place)
    quiet.import_tensorflow()
    from cgan_tf import data
    from cgan_tf.editing import description, models
    from cgan_tf.report import page

    for name in ("gan", "regressor", "inversion", "features", "directions"):
        models.finished_stage(run, name)
    run.lock()
    dataset = data.open_data(config)
    if run.stage("directions").read_metadata()["data"] != dataset.digest:
        raise UserError(
            f"--run_dir={run.path}: its photos or labels have changed since it was trained; "
            "restore them"
        )
    if options.image:
        aligned = description.training_crop(run) == description.CELEBA_CROP
        labels, pixels = read_photos(labels, place, config.resolution, aligned)
    else:
        folder = Path(dataset.folder) if dataset.folder else None
        labels = find_files(labels, dataset.files, "the run's photos", folder)
        rows = {file: row for row, file in enumerate(dataset.files)}
        pixels = dataset.read([rows[file] for file in labels.files])
    add(run, config, dataset, labels, pixels, from_dataset=not options.image)
    print(f"report: {page.write(run)}")
    name = labels.names[0]
    print(
        f"{run.path}: added {', '.join(labels.names)}; try cgan translate "
        f"--model={run.path} --image=PHOTO --edit={name}=+1 --output=OUT.png"
    )
    return 0
