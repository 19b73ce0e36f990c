"""The quality of a custom attribute (`cgan attribute`) that the regressor was not trained on.

    python -m benchmarks.attribute --run=runs/celeba64 --hold_out=Wearing_Hat --labels=300 \\
        --work=/tmp/held_out --split=validation --directions=learned,hyperplane

Trains a regressor in the folder --work on all attributes but the one held out, with the generator
and encoder of the run (the same command resumes it). `cgan attribute` then adds the held-out
attribute from --labels labels of the validation split, and the run's judge, which was trained on
it, measures +1 as the evaluate stage does. With --choice=random the labelled photos are a random
choice, which has few positives of a rare attribute; `balanced` takes equal numbers with and without
the attribute.

The encoder was trained with perceptual features of the run's own regressor, which was trained on
the held-out attribute. The judge only measures.
"""

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
from absl import flags

from cgan_tf.core import cli, quiet
from cgan_tf.core import config as config_module
from cgan_tf.core.cli import closest
from cgan_tf.core.config import DIRECTION_FAMILIES
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_json
from cgan_tf.core.run_folder import RunFolder

FLAGS = flags.FLAGS
flags.DEFINE_string("run", None, "Run folder whose evaluate stage has finished.")
flags.DEFINE_string("hold_out", "Wearing_Hat", "Attribute to hold out from the regressor.")
flags.DEFINE_integer("labels", 300, "Number of labels.", lower_bound=20)
flags.DEFINE_enum("choice", "balanced", ["balanced", "random"], "Choice of the labelled photos.")
flags.DEFINE_integer("seed", 1, "Seed of the choice.", lower_bound=0)
flags.DEFINE_string("work", None, "Folder of the run without the attribute.")
flags.DEFINE_float(
    "regressor_kimg",
    None,
    "Length of the regressor's training [kimg]; the run's by default.",
    0.001,
)
flags.DEFINE_list("directions", ["learned"], f"Families, of {', '.join(DIRECTION_FAMILIES)}.")
flags.DEFINE_enum("split", "validation", ["validation", "test"], "Photos that are edited.")
flags.DEFINE_integer("photos", 1000, "Maximum number of photos.", lower_bound=10)
flags.DEFINE_string("output", None, "JSON file of the figures.")

PRINTED = (
    "target_change",
    "success",
    "leakage",
    "retrieval",
    "calibrated_change",
    "achieved_change",
    "head_balanced_accuracy",
)


def without(dataset, name: str):
    """The data set without one attribute."""
    column = dataset.attribute_names.index(name)
    return dataclasses.replace(
        dataset,
        attribute_names=tuple(np.delete(dataset.attribute_names, column).tolist()),
        labels=np.delete(dataset.labels, column, axis=1),
        digest=f"{dataset.digest} without {name}",
    )


def make_work(run: RunFolder, work: RunFolder, config, dataset) -> None:
    """Copies the run's networks, but the regressor, to `work`; trains a regressor there."""
    from cgan_tf.stages import regressor

    work.lock()
    work.save_config(
        config,
        {
            "name": dataset.name,
            "size": len(dataset.files),
            "digest": dataset.digest,
            "attribute_names": list(dataset.attribute_names),
        },
    )
    for folder in ("gan/model", "gan/discriminator", "inversion/model", "features/model"):
        if not (work.path / folder).exists():
            shutil.copytree(run.path / folder, work.path / folder)
    regressor.run(config, work, dataset)


def choose(dataset, name: str) -> np.ndarray:
    """Indices of the photos to label, of the validation split."""
    rows = dataset.splits["validation"]
    draw = np.random.default_rng(FLAGS.seed)
    if FLAGS.choice == "random":
        parts = [(rows, FLAGS.labels)]
    else:
        has = dataset.labels[rows, dataset.attribute_names.index(name)] > 0.5
        half = min(FLAGS.labels // 2, int(has.sum()))
        parts = [(rows[has], half), (rows[~has], FLAGS.labels - half)]
    return np.concatenate([draw.choice(part, count, replace=False) for part, count in parts])


def write_labels(dataset, rows: np.ndarray, name: str, path: Path) -> int:
    """Writes the labels of one attribute for the rows as a CSV; returns the number of positives."""
    has = dataset.labels[rows, dataset.attribute_names.index(name)] > 0.5
    files = [dataset.files[row] for row in rows]
    with open(path, "w", newline="") as file:
        values = np.where(has, 1, -1)
        csv.writer(file).writerows([["file", name], *zip(files, values, strict=True)])
    return int(has.sum())


def reorder(regressor, names):
    """The regressor with its outputs in the order of the names."""
    from cgan_tf.networks.vgg import Regressor

    order = [regressor.attribute_names.index(name) for name in names]
    reordered = Regressor(
        names,
        regressor.resolution,
        regressor.vgg_resolution,
        regressor.input_scale,
        [regressor.offsets[index] for index in order],
    )
    reordered.backbone.set_weights(regressor.backbone.get_weights())
    kernel, bias = regressor.head.get_weights()
    reordered.head.set_weights([kernel[:, order], bias[order]])
    return reordered


def measure_all(run: RunFolder, work: RunFolder, name: str) -> dict[str, dict]:
    """The figures of the held-out attribute by family of the direction; prints a summary line."""
    from cgan_tf import data
    from cgan_tf.commands import attribute, attribute_labels
    from cgan_tf.core import artifact
    from cgan_tf.editing import models, network
    from cgan_tf.evaluation import edits, metrics, statistics
    from cgan_tf.evaluation.batching import batched
    from cgan_tf.evaluation.evaluated import EvaluatedModels, TestPhotos
    from cgan_tf.evaluation.report import read_report
    from cgan_tf.networks.judge import Judge
    from cgan_tf.stages import judge as judge_stage
    from cgan_tf.stages.evaluate import calibrated_change

    config, stage = run.load_config(), models.finished_stage(run, "evaluate")
    read_report(stage)
    judge = artifact.load_model(Judge, stage.path / judge_stage.FOLDER)
    if name not in judge.attribute_names:
        hint = closest(name, judge.attribute_names)
        raise UserError(f"--hold_out={name}: the run has no such attribute{hint}")
    dataset = data.open_data(config)
    config = config_module.replace(
        config,
        attributes=tuple(other for other in config.attributes if other != name),
        regressor_kimg=FLAGS.regressor_kimg or config.regressor.kimg,
    )
    known = without(dataset, name)
    make_work(run, work, config, known)
    codec = models.load_codec(run, config)

    rows, table = choose(dataset, name), work.path / "labels.csv"
    positive = write_labels(dataset, rows, name, table)
    photos, column, entries = None, judge.attribute_names.index(name), {}
    for family in FLAGS.directions:
        options = config_module.replace(config, directions_family=family)
        labels = attribute_labels.read_labels(str(table), (), work, restart=True)
        attribute.add(work, options, known, labels, dataset.read(rows), from_dataset=True)
        entry = json.loads(work.custom_path(name).read_text())
        regressor = reorder(models.load_regressor(work, [name]), judge.attribute_names)
        editor = network.EditingNetwork(codec, {name: entry["vector"]}, regressor)
        evaluated = EvaluatedModels(editor, judge, {name: calibrated_change(entry)})
        photos = photos or TestPhotos(evaluated, dataset, FLAGS.photos, config.seed, FLAGS.split)
        scores = batched(evaluated.score, photos.images)
        accuracy = metrics.balanced_accuracy(scores, photos.labels)[column]
        entries[family] = edits.measure_edits(evaluated, photos)["learned"][name] | {
            "head": work.custom_attributes()[name],
            "head_balanced_accuracy": statistics.number(accuracy),
            "found": entry["found"],
        }
    print(
        f"\n{name} from {len(rows)} labels ({positive} positive, {FLAGS.choice}); "
        f"+1 on {entries[family]['n']} of {len(photos.images)} {FLAGS.split} photos, by the judge"
    )
    return entries


def main() -> None:
    """Prints a table and writes the figures."""
    cli.require("run", "work")
    for family in FLAGS.directions:
        if family not in DIRECTION_FAMILIES:
            raise UserError(f"--directions={family}: one of {', '.join(DIRECTION_FAMILIES)}")
    quiet.import_tensorflow()
    run, work = RunFolder(FLAGS.run), RunFolder(FLAGS.work)
    entries = measure_all(run, work, FLAGS.hold_out)
    print(f"{'':12s}" + "".join(f"{key.removesuffix('_change'):>24s}" for key in PRINTED))
    for family, figures in entries.items():
        print(f"{family:12s}" + "".join(f"{figures[key]:24.3f}" for key in PRINTED))
    if FLAGS.output:
        report = {
            "run": FLAGS.run,
            "hold_out": FLAGS.hold_out,
            "choice": FLAGS.choice,
            "seed": FLAGS.seed,
            "regressor_kimg": FLAGS.regressor_kimg or run.load_config().regressor.kimg,
            "split": FLAGS.split,
            "directions_family": entries,
        }
        write_json(Path(FLAGS.output), report)
        print(f"written: {FLAGS.output}")


if __name__ == "__main__":
    cli.run(main)
