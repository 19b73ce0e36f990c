"""Whether an edited photo still shows the same person, by method.

    python -m benchmarks.fidelity --run_dir=runs/celeba --split=validation --photos=50

Each photo is edited by +1 for every attribute that it lacks. `retrieval` is the share of edits
that are most similar to their own photo, of all these photos, by the judge's features; `change` the
rise of the judge's probability of the attribute. The methods are those of `cgan translate`:
--inversion, --tune and --keep_detail.
"""

import time
from pathlib import Path

import numpy as np
from absl import flags

from cgan_tf.core import cli, quiet
from cgan_tf.core.files import write_json
from cgan_tf.core.run_folder import RunFolder

FLAGS = flags.FLAGS
flags.DEFINE_string("run_dir", None, "Run folder whose evaluate stage has finished.")
flags.DEFINE_enum("split", "validation", ["validation", "test"], "Split of the photos.")
flags.DEFINE_integer("photos", 50, "Number of photos.", lower_bound=1)
flags.DEFINE_integer("tune", 100, "Steps of --tune.", lower_bound=1)
flags.DEFINE_string("output", "fidelity.json", "JSON file of the figures.")


def measure_all(run: RunFolder, split: str, count: int, steps: int) -> dict[str, dict]:
    """Seconds per photo, retrieval and change, overall and by attribute, of each method."""
    from cgan_tf import data
    from cgan_tf.core import artifact
    from cgan_tf.data import face_crop
    from cgan_tf.data.images import to_float, to_uint8
    from cgan_tf.editing import backends, projection, tuning
    from cgan_tf.editing.models import finished_stage
    from cgan_tf.evaluation import statistics
    from cgan_tf.evaluation.batching import batched, choose, compiled
    from cgan_tf.evaluation.retrieval import Gallery
    from cgan_tf.networks.judge import Judge
    from cgan_tf.stages import judge

    config = run.load_config()
    editor = backends.open_backend(str(run.path))
    network = editor.network
    judge_model = artifact.load_model(Judge, finished_stage(run, "evaluate").path / judge.FOLDER)
    dataset = data.open_data(config)
    chosen = choose(dataset.splits[split], count, config.seed)
    crops, labels = dataset.read(chosen), dataset.labels[chosen]
    columns = [dataset.attribute_names.index(name) for name in network.attributes]
    predict = compiled(judge_model.features_and_probabilities, crops.shape[1:])
    features, probabilities = batched(predict, to_float(crops))
    gallery = Gallery(features)
    projector = projection.load_projector(run.path, network.codec)
    tuner = tuning.Tuner.of(projector)
    whole = face_crop.FaceBox(config.resolution / 2, config.resolution / 2, config.resolution)
    strengths = np.eye(len(columns), dtype=np.float32)

    def edits(index: int, code: dict[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
        """The edited photos by method, uint8, for every attribute that the photo lacks."""
        lacks = np.flatnonzero(labels[index, columns] < 0.5)
        rows = np.concatenate([np.zeros_like(strengths[:1]), strengths[lacks]])
        repeated = {key: np.repeat(part[[index]], len(rows), 0) for key, part in code.items()}
        before, *after = editor.generate(repeated, rows)
        kept = [face_crop.paste_face(crops[index], image, whole, before) for image in after]
        return {"": [to_uint8(image) for image in after], " + keep_detail": kept}

    table: dict[str, dict] = {}
    for mode in ("encoder", "hybrid"):
        start = time.perf_counter()
        code = editor.encode(to_float(crops))
        if mode == "hybrid":
            found = projection.invert(projector, to_float(crops), mode)
            code = {name: np.concatenate([getattr(part, name) for part in found]) for name in code}
        inverted = time.perf_counter() - start
        for tuned in (False, True):
            edited: dict[str, list[np.ndarray]] = {}
            start = time.perf_counter()
            for index in range(count):
                if tuned:
                    pivot = {name: part[index] for name, part in code.items()}
                    with tuner.tuned(to_float(crops[index]), pivot, steps):
                        new = edits(index, code)
                else:
                    new = edits(index, code)
                for method, images in new.items():
                    edited.setdefault(method, []).extend(images)
            seconds = (inverted + time.perf_counter() - start) / count
            owner, attribute = np.nonzero(labels[:, columns] < 0.5)
            for method, images in edited.items():
                edited_features, judged = batched(predict, to_float(np.stack(images)))
                picked = np.arange(len(images)), np.array(columns)[attribute]
                retrieval = gallery.finds(edited_features, owner)
                change = judged[picked] - probabilities[owner, picked[1]]
                name = mode + (f" + tune {steps}" if tuned else "") + method
                table[name] = {
                    "retrieval": statistics.mean(retrieval),
                    "change": statistics.mean(change),
                    "seconds_per_photo": seconds,
                    "attributes": {
                        one: {
                            "retrieval": statistics.mean(retrieval[attribute == k]),
                            "change": statistics.mean(change[attribute == k]),
                            "n": int(np.sum(attribute == k)),
                        }
                        for k, one in enumerate(network.attributes)
                    },
                }
                # All attributes have equal weight, however many photos lack them.
                for figure in ("retrieval", "change"):
                    values = [part[figure] for part in table[name]["attributes"].values()]
                    table[name][figure] = statistics.mean([v for v in values if v is not None])
    return table


def main() -> None:
    cli.require("run_dir")
    cli.require_writable(f"--output={FLAGS.output}", Path(FLAGS.output).absolute().parent)
    quiet.import_tensorflow()
    run = RunFolder(FLAGS.run_dir)
    table = measure_all(run, FLAGS.split, FLAGS.photos, FLAGS.tune)
    names = list(next(iter(table.values()))["attributes"])
    print(f"{FLAGS.photos} {FLAGS.split} photos, mean over {len(names)} attributes")
    print(f"{'':34}{'retrieval':>10}{'change':>9}{'s/photo':>9}")
    for name, row in table.items():
        print(
            f"{name:34}{row['retrieval']:10.3f}{row['change']:9.3f}{row['seconds_per_photo']:9.2f}"
        )
    print(f"\n{'retrieval / change':34}" + "".join(f"{name[:13]:>15}" for name in names))
    for name, row in table.items():
        cells = [row["attributes"][one] for one in names]
        texts = [
            "-" if cell["retrieval"] is None else f"{cell['retrieval']:.2f} /{cell['change']:5.2f}"
            for cell in cells
        ]
        print(f"{name:34}" + "".join(f"{text:>15}" for text in texts))
    write_json(Path(FLAGS.output), {"split": FLAGS.split, "n": FLAGS.photos, "rows": table})


if __name__ == "__main__":
    cli.run(main)
