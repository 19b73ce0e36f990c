"""Compares families of latent directions of one run, each at the same change of its attribute.

    python -m benchmarks.directions --run=runs/celeba64 --split=validation \\
        --attributes=Smiling,Blond_Hair,Male,Eyeglasses,Young

Families: the run's own directions (`learned`, or the family of its directions stage), `hyperplane`,
`sefa` and `pca` (stages/families.py), and `random` as the control. Each direction is scaled until
the judge's mean prediction of its attribute changes by --change, within 1 %, on photos without the
attribute; "!" marks directions that do not reach it.

Tables of attributes by families: leakage (mean |change| of the other attributes), its ratio to that
of random directions at the largest change that both reach, its ratio to that of random directions
of the same length, and retrieval (see docs/evaluation.md). The last table is the effect of
conditional projection on the two most entangled pairs of each family. The JSON file also has the
cosines between directions and the re-scoring matrix. Use the validation split for figures that
decide on a setting.
"""

from pathlib import Path

from absl import flags

from cgan_tf.core import cli, quiet
from cgan_tf.core.cli import closest
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_json
from cgan_tf.core.run_folder import RunFolder

FAMILIES = ("hyperplane", "sefa", "pca")  # besides the run's own
RANDOM_DRAWS = 8  # random directions per attribute

FLAGS = flags.FLAGS
flags.DEFINE_string("run", None, "Run folder whose evaluate stage has finished.")
flags.DEFINE_enum("split", "validation", ["validation", "test"], "Photos that are edited.")
flags.DEFINE_list("attributes", [], "Attributes to edit; the run's by default.")
flags.DEFINE_float("change", 0.4, "Mean change by the judge to compare at.", 0.01, 0.99)
flags.DEFINE_integer("photos", 200, "Maximum number of photos.", lower_bound=10)
flags.DEFINE_integer("samples", 20000, "Samples that the families are found with.", lower_bound=500)
flags.DEFINE_string("output", None, "JSON file of the figures.")


def find_all(models, entries: dict, networks, samples, names: list[str]) -> dict[str, dict]:
    """The directions by family and attribute; prints how each was found.

    Args:
        models: with the run's own directions.
        entries: the run's direction files, see `editing.models.read_directions`.
        networks: generator and regressor, as the directions stage has them.
        samples: labelled by the regressor.
        names: the attributes.
    """
    from cgan_tf.evaluation.hyperplane import has_enough_samples
    from cgan_tf.stages import families

    found: dict[str, dict] = {}
    for name in names:
        if name in entries:
            own = found.setdefault(entries[name].get("family", "learned"), {})
            own[name] = models.directions[name]
    for family in FAMILIES:
        columns = {name: models.all_attributes.index(name) for name in names}
        if family == "hyperplane":
            columns = {
                name: column
                for name, column in columns.items()
                if has_enough_samples(samples, column)
            }
        if not columns:
            continue
        vectors, notes = families.find(family, *networks, columns, samples)
        for name, vector, note in zip(columns, vectors, notes, strict=True):
            found.setdefault(family, {}).setdefault(name, vector)
            print(f"{family:12s}{name:24s}{note}", flush=True)
    return found


def print_table(title: str, block: dict, families: list[str], key: str) -> None:
    """Prints one figure, attributes by families, and the means."""
    print(f"\n{title:24s}" + "".join(f"{family:>13s}" for family in families) + f"{'n':>6s}")
    for name, entries in block["attributes"].items():
        cells = []
        for family in families:
            value = entries.get(family, {}).get(key)
            short = family in entries and not entries[family]["reached"]
            cells.append("-" if value is None else f"{value:.3f}{'!' if short else ' '}")
        count = next(iter(entries.values()))["n"]
        print(f"{name:24s}" + "".join(f"{cell:>13s}" for cell in cells) + f"{count:6d}")
    means = [block["mean"][family].get(key) for family in families]
    texts = ["-" if value is None else f"{value:.3f}" for value in means]
    print(f"{'mean':24s}" + "".join(f"{text:>12s} " for text in texts))


def main() -> None:
    cli.require("run")
    run = RunFolder(FLAGS.run)
    config = run.load_config()
    names = list(FLAGS.attributes or config.attributes)
    quiet.import_tensorflow()
    from cgan_tf import data
    from cgan_tf.core import artifact
    from cgan_tf.editing import models, network
    from cgan_tf.evaluation import comparison, hyperplane
    from cgan_tf.evaluation.evaluated import EvaluatedModels, TestPhotos
    from cgan_tf.evaluation.report import read_report
    from cgan_tf.evaluation.scores import label_samples
    from cgan_tf.networks.judge import Judge
    from cgan_tf.networks.vgg import Regressor
    from cgan_tf.stages import evaluate
    from cgan_tf.stages import judge as judge_module
    from cgan_tf.training import precision

    stage = models.finished_stage(run, "evaluate")
    read_report(stage)
    judge = artifact.load_model(Judge, stage.path / judge_module.FOLDER)
    editor = network.EditingNetwork.from_run(run.path, scores=True)
    for name in names:
        if name not in judge.attribute_names:
            raise UserError(
                f"--attributes={name}: the run has no such attribute"
                f"{closest(name, judge.attribute_names)}"
            )
    entries = models.read_directions(run, editor.codec.latent_shape)
    calibrated = {name: evaluate.calibrated_change(entry) for name, entry in entries.items()}
    evaluated = EvaluatedModels(editor, judge, calibrated)
    dataset = data.open_data(config)
    photos = TestPhotos(evaluated, dataset, FLAGS.photos, config.seed, FLAGS.split)
    policy = precision.compute_policy(config)
    networks = (
        models.load_generator(run.stage("gan").model, config.inversion.space, policy),
        artifact.load_model(Regressor, run.stage("regressor").model, policy),
    )
    samples = label_samples(*networks, FLAGS.samples, config.seed)
    found = find_all(evaluated, entries, networks, samples, names)
    block, scaled = comparison.measure_families(
        evaluated, photos, found, FLAGS.change, RANDOM_DRAWS
    )
    columns = [*found, "random"]
    print(
        f"\n{len(photos.images)} {FLAGS.split} photos, change {FLAGS.change:g} by the judge, "
        f"seed {config.seed}, {FLAGS.samples} samples"
    )
    print_table("target change", block, columns, "target_change")
    print_table("leakage", block, columns, "leakage")
    print_table("/ random, same change", block, list(found), "leakage_over_random")
    print_table("/ random, same length", block, list(found), "leakage_over_same_length")
    print_table("retrieval", block, columns, "retrieval")
    print_table("length", block, columns, "length")

    normals = {
        name: hyperplane.find_hyperplane(samples, column, name)[0]
        for column, name in enumerate(evaluated.all_attributes)
        if hyperplane.has_enough_samples(samples, column)
    }
    report = {
        "run": FLAGS.run,
        "split": FLAGS.split,
        "n_photos": len(photos.images),
        "n_samples": FLAGS.samples,
        "seed": config.seed,
        "comparison": block,
        "rescoring": {},
        "cosines": {},
        "projection": {},
    }
    print(f"\n{'edited:preserved':44s}{'its |change|':>16s}{'ratio':>8s}{'leakage':>18s}{'n':>6s}")
    for family, vectors in scaled.items():
        matrix = comparison.measure_rescoring(evaluated, photos, vectors)
        report["rescoring"][family] = matrix
        report["cosines"][family] = {
            "names": list(vectors),
            "matrix": hyperplane.cosines([*vectors.values()]).tolist(),
        }
        pairs = {
            (name, preserved): (
                vectors[name],
                hyperplane.project_out(name, vectors[name], {preserved: normals[preserved]}),
            )
            for name, preserved in comparison.entangled_pairs(matrix, list(normals))
        }
        rows = comparison.measure_projection(evaluated, photos, pairs, FLAGS.change)
        report["projection"][family] = rows
        for row in rows:
            before, after = row["before"], row["after"]
            print(
                f"{family:12s}{row['edited'] + ':' + row['preserved']:32s}"
                f"{before['preserved_leakage']:8.3f}{after['preserved_leakage']:8.3f}{row['ratio']:8.2f}"
                f"{before['leakage']:10.3f}{after['leakage']:8.3f}{row['n']:6d}"
                f"{'' if after['reached'] else '!'}"
            )
    if FLAGS.output:
        write_json(Path(FLAGS.output), report)
        print(f"written: {FLAGS.output}")


if __name__ == "__main__":
    cli.run(main)
