"""Compares families of latent directions on one run, each at the same change of its attribute.

    python -m benchmarks.directions --run=runs/celeba64 --split=validation \\
        --attributes=Smiling,Blond_Hair,Male,Eyeglasses,Young

Families: `learned`, as the run's directions stage left them (those that it wrote of another family
stand under that one's name), `hyperplane`, `sefa` and `pca` (cgan_tf/families.py), and `random` as
the control. The run's judge measures; every direction is scaled until the judge sees its attribute
change by --change, within 1 %, on photos without it ("!" where a family does not reach that).

Tables: attribute x family of leakage (mean |change| of the other attributes), leakage over that of
random directions at the largest change that both reach, over that of random directions of the same
length, identity (cosine of the judge's features); then what conditional projection against the
hyperplanes' normals does to the two most entangled pairs of each family. The JSON also has the
cosines between directions and the re-scoring matrix. What is chosen by these figures takes the
validation split.
"""

from pathlib import Path

from absl import flags

from cgan_tf.core import cli, quiet
from cgan_tf.core.cli import closest
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_json
from cgan_tf.core.run_folder import RunFolder

FAMILIES = ("hyperplane", "sefa", "pca")  # besides the run's own

FLAGS = flags.FLAGS
flags.DEFINE_string("run", None, "Run folder whose evaluate stage has finished.")
flags.DEFINE_enum("split", "validation", ["validation", "test"], "Photos that are edited.")
flags.DEFINE_list("attributes", [], "Attributes to edit; the run's if not given.")
flags.DEFINE_float("change", 0.4, "The judge's mean change to compare at.", 0.01, 0.99)
flags.DEFINE_integer("photos", 200, "Photos of the split at most.", lower_bound=10)
flags.DEFINE_integer("samples", 20000, "Samples behind the families.", lower_bound=500)
flags.DEFINE_string("output", None, "JSON file of the figures.")


def find_all(chain, entries: dict, networks, samples, names: list[str]) -> dict[str, dict]:
    """The directions by family and attribute; says which a family lacks.

    Args:
        chain: for the run's own directions.
        entries: the run's direction files, see `translator.read_directions`.
        networks: generator and regressor, as the directions stage has them.
        samples: see `families.label`.
        names: the attributes.
    """
    from cgan_tf.evaluation import hyperplane
    from cgan_tf.stages import families

    found: dict[str, dict] = {}
    for name in names:
        if name in entries:
            own = found.setdefault(entries[name].get("family", "learned"), {})
            own[name] = chain.directions[name]
    for family in FAMILIES:
        columns = {name: chain.names.index(name) for name in names}
        if family == "hyperplane":
            columns = {
                name: column for name, column in columns.items() if hyperplane.enough(samples, column)
            }
        if not columns:
            continue
        vectors, notes = families.find(family, *networks, columns, samples)
        for name, vector, note in zip(columns, vectors, notes, strict=True):
            found.setdefault(family, {}).setdefault(name, vector)
            print(f"{family:12s}{name:24s}{note}", flush=True)
    return found


def print_table(title: str, block: dict, families: list[str], key: str) -> None:
    """Attribute x family of one figure, with the row of means."""
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
    print(f"{'mean':24s}" + "".join("-".rjust(12) + " " if value is None else f"{value:12.3f} "
                                    for value in means))  # fmt: skip


def main() -> None:
    cli.require("run")
    run = RunFolder(FLAGS.run)
    config = run.load_config()
    names = list(FLAGS.attributes or config.attributes)
    quiet.import_tensorflow()
    from cgan_tf import data
    from cgan_tf.core import artifact
    from cgan_tf.editing import models, network
    from cgan_tf.evaluation import comparison, hyperplane, subject
    from cgan_tf.networks.judge import Judge
    from cgan_tf.networks.vgg import Regressor
    from cgan_tf.stages import evaluate, families
    from cgan_tf.stages import judge as judge_module
    from cgan_tf.training import precision

    stage = models.finished_stage(run, "evaluate")
    judge = artifact.load_model(Judge, stage.path / judge_module.FOLDER)
    editor = network.EditingNetwork.from_run(run.path, scores=True)
    for name in names:
        if name not in judge.attribute_names:
            raise UserError(
                f"--attributes={name}: the run has no such attribute"
                f"{closest(name, judge.attribute_names)}"
            )
    entries = models.read_directions(run, editor.generator.latent_shape)
    chain = subject.Chain(
        editor, judge, {name: evaluate.promised(entry) for name, entry in entries.items()}
    )
    dataset = data.open_data(config)
    photos = subject.Photos(chain, dataset, FLAGS.photos, config.seed, FLAGS.split)
    policy = precision.compute_policy(config)
    networks = (
        models.load_generator(run.stage("gan").model, config.inversion.space, policy),
        artifact.load_model(Regressor, run.stage("regressor").model, policy),
    )
    samples = families.label(*networks, FLAGS.samples, config.seed)
    found = find_all(chain, entries, networks, samples, names)
    block, scaled = comparison.measure_families(chain, photos, found, FLAGS.change)
    columns = [*found, "random"]
    print(f"\n{len(photos.images)} photos of {FLAGS.split}, change {FLAGS.change:g} by the judge, "
          f"seed {config.seed}, {FLAGS.samples} samples")  # fmt: skip
    print_table("target change", block, columns, "target_change")
    print_table("leakage", block, columns, "leakage")
    print_table("/ random, same change", block, list(found), "leakage_over_random")
    print_table("/ random, same length", block, list(found), "leakage_over_same_length")
    print_table("identity", block, columns, "identity")
    print_table("length", block, columns, "length")

    normals = {
        name: hyperplane.hyperplane(samples, column, name)[0]
        for column, name in enumerate(chain.names)
        if hyperplane.enough(samples, column)
    }
    report = {
        "run": FLAGS.run, "split": FLAGS.split, "n_photos": len(photos.images),
        "n_samples": FLAGS.samples, "seed": config.seed, "comparison": block,
        "rescoring": {}, "cosines": {}, "projection": {},
    }  # fmt: skip
    print(f"\n{'edited:held':44s}{'held |change|':>16s}{'ratio':>8s}{'leakage':>18s}{'n':>6s}")
    for family, vectors in scaled.items():
        matrix = comparison.measure_rescoring(chain, photos, vectors)
        report["rescoring"][family] = matrix
        report["cosines"][family] = {
            "names": list(vectors),
            "matrix": hyperplane.cosines([*vectors.values()]).tolist(),
        }
        pairs = {
            (name, held): (
                vectors[name],
                hyperplane.project_out(name, vectors[name], {held: normals[held]}),
            )
            for name, held in comparison.entangled_pairs(matrix, list(normals))
        }
        rows = comparison.measure_projection(chain, photos, pairs, FLAGS.change)
        report["projection"][family] = rows
        for row in rows:
            before, after = row["before"], row["after"]
            print(
                f"{family:12s}{row['edited'] + ':' + row['held']:32s}"
                f"{before['held_leakage']:8.3f}{after['held_leakage']:8.3f}{row['ratio']:8.2f}"
                f"{before['leakage']:10.3f}{after['leakage']:8.3f}{row['n']:6d}"
                f"{'' if after['reached'] else '!'}"
            )
    if FLAGS.output:
        write_json(Path(FLAGS.output), report)
        print(f"written: {FLAGS.output}")


if __name__ == "__main__":
    cli.run(main)
