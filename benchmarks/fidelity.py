"""Whether an edited photo still shows the same person: by means of keeping it, by the judge.

    python -m benchmarks.fidelity --run_dir=runs/celeba --split=validation --photos=50

Each photo is edited by +1 for every attribute that its label denies it. `identity` is the cosine of
the judge's features, original photo against edited photo; `change` how far the judge's probability
of the attribute rises from the photo on. The means are those of cgan_tf.translate: where the
latent comes from (--inversion), --tune and --keep_detail.
"""

import time
from pathlib import Path

import numpy as np
from absl import flags

from cgan_tf.core import cli, quiet
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_json
from cgan_tf.core.run_folder import RunFolder

FLAGS = flags.FLAGS
flags.DEFINE_string("run_dir", None, "run folder whose evaluate stage has a judge")
flags.DEFINE_enum("split", "validation", ["validation", "test"], "whose photos")
flags.DEFINE_integer("photos", 50, "number of photos", lower_bound=1)
flags.DEFINE_integer("tune", 100, "steps of --tune", lower_bound=1)
flags.DEFINE_string("output", "fidelity.json", "JSON file of the figures")


def measure_all(run: RunFolder, split: str, count: int, steps: int) -> dict[str, dict]:
    """The rows by name: seconds a photo, identity and change, overall and by attribute."""
    from cgan_tf import data
    from cgan_tf.core import artifact
    from cgan_tf.data import face_crop
    from cgan_tf.data.images import to_float, to_uint8
    from cgan_tf.editing import backends, projection, tuning
    from cgan_tf.editing.models import finished_stage
    from cgan_tf.evaluation import metrics, statistics, subject
    from cgan_tf.networks.judge import Judge
    from cgan_tf.stages import judge

    config = run.load_config()
    editor = backends.open_backend(str(run.path))
    translator = editor.network
    if editor.keep_detail is None:
        raise UserError(
            f"--run_dir={run.path}: its directions do not tell how far --keep_detail goes; run "
            "--stage=directions --restart"
        )
    keep = editor.keep_detail
    judge_model = artifact.load_model(Judge, finished_stage(run, "evaluate").path / judge.FOLDER)
    dataset = data.open_data(config)
    chosen = subject.choose(dataset.splits[split], count, config.seed)
    crops, labels = dataset.read(chosen), dataset.labels[chosen]
    columns = [dataset.attribute_names.index(name) for name in translator.attributes]
    see = subject.compiled(judge_model.features_and_probabilities, crops.shape[1:])
    features, probabilities = subject.batched(see, to_float(crops))
    projector = projection.load_projector(run.path, translator.generator)
    tuner = tuning.Tuner.of(projector)
    whole = face_crop.FaceBox(config.resolution / 2, config.resolution / 2, config.resolution)
    strengths = np.eye(len(columns), dtype=np.float32)

    def edits(index: int, latent: np.ndarray) -> dict[str, list[np.ndarray]]:
        """The edited photos by means, uint8, for every attribute that the photo lacks."""
        lacks = np.flatnonzero(labels[index, columns] < 0.5)
        rows = np.concatenate([np.zeros_like(strengths[:1]), strengths[lacks]])
        pictures = {}
        latents = np.repeat(latent[None], len(rows), 0)
        for means, moves in (("", rows), (" + keep_detail", keep.scaled(rows))):
            drawn = backends.run_on_cpu(translator.generate, latent=latents, strengths=moves)
            if not means:
                pictures[means] = [to_uint8(image) for image in drawn[1:]]
                continue
            pictures[means] = [
                face_crop.paste_face(crops[index], image, whole, drawn[0])
                for image in keep.confine(drawn[1:], drawn[:1], rows[1:])
            ]
        return pictures

    table: dict[str, dict] = {}
    for mode in ("encoder", "hybrid"):
        start = time.perf_counter()
        latents = backends.run_on_cpu(translator.encode, image=to_float(crops))
        if mode == "hybrid":
            found = projection.invert(projector, translator.encoder, to_float(crops), mode)
            latents = np.concatenate([part.latents for part in found])
        inverted = time.perf_counter() - start
        for tuned in (False, True):
            pictures: dict[str, list[np.ndarray]] = {}
            start = time.perf_counter()
            for index, latent in enumerate(latents):
                if tuned:
                    with tuner.tuned(to_float(crops[index]), latent, steps):
                        new = edits(index, latent)
                else:
                    new = edits(index, latent)
                for means, images in new.items():
                    pictures.setdefault(means, []).extend(images)
            seconds = (inverted + time.perf_counter() - start) / count
            owner, attribute = np.nonzero(labels[:, columns] < 0.5)
            for means, images in pictures.items():
                seen, judged = subject.batched(see, to_float(np.stack(images)))
                picked = np.arange(len(images)), np.array(columns)[attribute]
                identity = metrics.cosine(features[owner], seen)
                change = judged[picked] - probabilities[owner, picked[1]]
                name = mode + (f" + tune {steps}" if tuned else "") + means
                table[name] = {
                    "identity": statistics.mean(identity),
                    "change": statistics.mean(change),
                    "seconds_per_photo": seconds,
                    "attributes": {
                        one: {
                            "identity": statistics.mean(identity[attribute == k]),
                            "change": statistics.mean(change[attribute == k]),
                            "n": int(np.sum(attribute == k)),
                        }
                        for k, one in enumerate(translator.attributes)
                    },
                }
                # Every attribute weighs the same, however many photos lack it.
                for figure in ("identity", "change"):
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
    print(f"{'':34}{'identity':>10}{'change':>9}{'s/photo':>9}")
    for name, row in table.items():
        print(
            f"{name:34}{row['identity']:10.3f}{row['change']:9.3f}{row['seconds_per_photo']:9.2f}"
        )
    print(f"\n{'identity / change':34}" + "".join(f"{name[:13]:>15}" for name in names))
    for name, row in table.items():
        cells = [row["attributes"][one] for one in names]
        print(f"{name:34}" + "".join(
            f"{'-':>15}" if cell["identity"] is None
            else f"{cell['identity']:8.2f} /{cell['change']:5.2f}" for cell in cells
        ))  # fmt: skip
    write_json(Path(FLAGS.output), {"split": FLAGS.split, "n": FLAGS.photos, "rows": table})


if __name__ == "__main__":
    cli.run(main)
