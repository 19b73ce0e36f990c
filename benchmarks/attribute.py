"""What an own attribute (`cgan attribute`) is worth: one that the regressor has never seen.

    python -m benchmarks.attribute --run=runs/celeba64 --hold_out=Wearing_Hat --labels=300 \\
        --work=/tmp/held_out --split=validation --directions=learned,hyperplane

In the folder --work, with the run's generator and encoder, a regressor is trained anew on all
attributes but the one held out (as long as the run's, unless --regressor_kimg says otherwise; the
same command goes on with it). The own attribute is then added from so many labels of the
validation split, as the command does, and the run's judge, which knows it, measures +1 on photos
without it as the evaluate stage does. With --choice=random the labels are any photos' (rare
attributes then have few positives), with `balanced` as many photos with it as without.

The encoder has been trained with the perceptual features of the run's own regressor, which had
seen the attribute; the judge's opinion goes into nothing but the figures.
"""

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
from absl import flags

from cgan_tf.core import cli, quiet
from cgan_tf.core.cli import closest
from cgan_tf.core.config import DIRECTION_FAMILIES
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_json
from cgan_tf.core.run_folder import RunFolder

FLAGS = flags.FLAGS
flags.DEFINE_string("run", None, "Run folder whose evaluate stage has finished.")
flags.DEFINE_string("hold_out", "Wearing_Hat", "Attribute that the regressor is not to see.")
flags.DEFINE_integer("labels", 300, "Labels to add it from.", lower_bound=20)
flags.DEFINE_enum("choice", "balanced", ["balanced", "random"], "How the photos are chosen.")
flags.DEFINE_integer("seed", 1, "Seed of the choice.", lower_bound=0)
flags.DEFINE_string("work", None, "Folder of the run without the attribute.")
flags.DEFINE_float("regressor_kimg", None, "Length of the regressor's training, in kimg.", 0.001)
flags.DEFINE_list("directions", ["learned"], f"Families to compare, of {', '.join(DIRECTION_FAMILIES)}.")
flags.DEFINE_enum("split", "validation", ["validation", "test"], "Photos that are edited.")
flags.DEFINE_integer("photos", 1000, "Photos of the split at most.", lower_bound=10)
flags.DEFINE_string("output", None, "JSON file of the figures.")


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
    """The run without the attribute: its generator and encoder, and a regressor of its own."""
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
    for folder in ("gan/model", "gan/discriminator", "inversion/model"):
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


def ordered(regressor, names):
    """The regressor with its outputs in the order of the names."""
    from cgan_tf.networks.vgg import Regressor

    order = [regressor.attribute_names.index(name) for name in names]
    same = Regressor(
        names,
        regressor.resolution,
        regressor.vgg_resolution,
        regressor.input_scale,
        [regressor.offsets[index] for index in order],
    )
    same.backbone.set_weights(regressor.backbone.get_weights())
    kernel, bias = regressor.head.get_weights()
    same.head.set_weights([kernel[:, order], bias[order]])
    return same


def main() -> None:
    cli.require("run", "work")
    run, work, name = RunFolder(FLAGS.run), RunFolder(FLAGS.work), FLAGS.hold_out
    config = run.load_config()
    for family in FLAGS.directions:
        if family not in DIRECTION_FAMILIES:
            raise UserError(f"--directions={family}: one of {', '.join(DIRECTION_FAMILIES)}")
    quiet.import_tensorflow()
    from cgan_tf import data
    from cgan_tf.commands import attribute
    from cgan_tf.core import artifact
    from cgan_tf.core import config as config_module
    from cgan_tf.editing import models, network
    from cgan_tf.evaluation import edits, metrics, statistics, subject
    from cgan_tf.networks.encoder import Encoder
    from cgan_tf.networks.judge import Judge
    from cgan_tf.stages import evaluate
    from cgan_tf.stages import judge as judge_module

    stage = models.finished_stage(run, "evaluate")
    judge = artifact.load_model(Judge, stage.path / judge_module.FOLDER)
    if name not in judge.attribute_names:
        near = closest(name, judge.attribute_names)
        raise UserError(f"--hold_out={name}: the run has no such attribute{near}")
    dataset = data.open_data(config)
    config = config_module.replace(
        config,
        attributes=tuple(other for other in config.attributes if other != name),
        regressor_kimg=FLAGS.regressor_kimg or config.regressor.kimg,
    )
    held = without(dataset, name)
    make_work(run, work, config, held)
    generator = models.load_generator(run.stage("gan").model, config.inversion.space)
    encoder = artifact.load_model(Encoder, run.stage("inversion").model)

    rows = choose(dataset, name)
    files = [dataset.files[row] for row in rows]
    has = dataset.labels[rows, dataset.attribute_names.index(name)] > 0.5
    table = work.path / "labels.csv"
    values = np.where(has, 1, -1)
    with open(table, "w", newline="") as file:
        csv.writer(file).writerows([["file", name], *zip(files, values, strict=True)])
    photos, entries = None, {}
    for family in FLAGS.directions:
        chosen = config_module.replace(config, directions_family=family)
        labels = attribute.read_labels(str(table), (), work, restart=True)
        attribute.add(work, chosen, held, labels, dataset.read(rows), from_dataset=True)
        entry = json.loads(work.custom_path(name).read_text())
        editor = network.EditingNetwork(
            generator, encoder, {name: entry["vector"]},
            ordered(models.load_regressor(work, [name]), judge.attribute_names),
        )  # fmt: skip
        chain = subject.Chain(editor, judge, {name: evaluate.promised(entry)})
        photos = photos or subject.Photos(chain, dataset, FLAGS.photos, config.seed, FLAGS.split)
        figures = edits.measure_edits(chain, photos)["learned"][name]
        scores = subject.batched(chain.score, photos.images)
        column = judge.attribute_names.index(name)
        accuracy = metrics.balanced_accuracy(scores, photos.labels)[column]
        entries[family] = figures | {
            "head": work.custom_attributes()[name],
            "head_balanced_accuracy": statistics.number(accuracy),
            "found": entry["found"],
        }
    print(
        f"\n{name} by {len(rows)} labels ({int(has.sum())} with it, {FLAGS.choice}, seed "
        f"{FLAGS.seed}), a regressor that has not seen it; +1 on {figures['n']} of "
        f"{len(photos.images)} {FLAGS.split} photos, by the judge"
    )
    keys = ("target_change", "success", "leakage", "identity", "calibrated_change",
            "achieved_change", "head_balanced_accuracy")  # fmt: skip
    print(f"{'':12s}" + "".join(f"{key.removesuffix('_change'):>24s}" for key in keys))
    for family, figures in entries.items():
        print(f"{family:12s}" + "".join(f"{figures[key]:24.3f}" for key in keys))
    if FLAGS.output:
        report = {"run": FLAGS.run, "hold_out": name, "choice": FLAGS.choice, "seed": FLAGS.seed,
                  "regressor_kimg": config.regressor.kimg, "split": FLAGS.split,
                  "directions_family": entries}  # fmt: skip
        write_json(Path(FLAGS.output), report)
        print(f"written: {FLAGS.output}")


if __name__ == "__main__":
    cli.run(main)
