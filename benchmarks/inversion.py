"""Quality and speed of the inversion modes on a run's validation photos.

    python -m benchmarks.inversion --run_dir=RUN_DIR --photos=16 --output=inversion.json

Compares hybrid and optimize with an optimization of pixels alone and one of features alone, both
from the mean latent, by the perceptual distance. Writes one JSON file and, next to it, an SVG file
with the curves over steps and over seconds. Exit code 1 unless pixels alone end at a larger
perceptual distance than features alone.
"""

import dataclasses
import sys
from pathlib import Path

import numpy as np
from absl import flags
from matplotlib.figure import Figure

from cgan_tf.core import cli, quiet
from cgan_tf.core.files import replacing, write_json
from cgan_tf.core.run_folder import RunFolder

FLAGS = flags.FLAGS
flags.DEFINE_string("run_dir", None, "Run folder whose features stage has finished.")
flags.DEFINE_integer("photos", 16, "Validation photos.", lower_bound=1)
flags.DEFINE_integer("steps", None, "Steps per start; the run's own by default.", lower_bound=1)
flags.DEFINE_string(
    "output", "inversion.json", "JSON file of the results, next to an SVG of the curves."
)


def variants(hybrid, optimize) -> dict[str, tuple[str, object]]:
    """(mode, settings) by the row's name, from the run's settings of hybrid and of optimize."""
    alone = dataclasses.replace(optimize, starts=1, offset_weight=0.0)
    features = dataclasses.replace(alone, pixel_weight=0.0, feature_weight=1.0)
    pixels = dataclasses.replace(alone, pixel_weight=1.0, feature_weight=0.0)
    return {
        "hybrid": ("hybrid", hybrid),
        "optimize": ("optimize", optimize),
        "features alone": ("optimize", features),
        "pixels alone": ("optimize", pixels),
    }


def measure_all(run: RunFolder, count: int, steps: int | None) -> dict[str, dict]:
    """Perceptual distance, mean squared pixel error, seconds and curve of each row."""
    from cgan_tf import data
    from cgan_tf.core import artifact
    from cgan_tf.data.images import to_float
    from cgan_tf.editing import models, projection
    from cgan_tf.editing.models import finished_stage
    from cgan_tf.evaluation import statistics
    from cgan_tf.evaluation.batching import batched, choose, compiled
    from cgan_tf.evaluation.inversion import mean_curve
    from cgan_tf.networks.codec import Code
    from cgan_tf.networks.vgg import Regressor

    config = run.load_config()
    finished_stage(run, "features")
    codec = models.load_codec(run, config)
    regressor = artifact.load_model(Regressor, finished_stage(run, "regressor").model)
    perceptual = models.load_perceptual(config, regressor)
    dataset = data.open_data(config)
    chosen = choose(dataset.splits["validation"], count, config.seed)
    photos = to_float(dataset.read(chosen))
    generate = compiled(
        lambda *code: codec.generate(Code(*code)), codec.latent_shape, codec.features_shape
    )
    distance = compiled(perceptual, photos.shape[1:], photos.shape[1:])

    def row(*code: np.ndarray) -> dict:
        images = batched(generate, *code)
        return {
            "perceptual": statistics.mean(batched(distance, photos, images)),
            "pixels": statistics.mean(np.square(images - photos)),
        }

    both = [projection.Settings.of(config, mode) for mode in ("hybrid", "optimize")]
    if steps is not None:
        both = [dataclasses.replace(settings, steps=steps) for settings in both]
    rows = {"encoder": row(*batched(compiled(codec.encode, photos.shape[1:]), photos))}
    for name, (mode, options) in variants(*both).items():
        projector = projection.Projector(codec, perceptual, options)
        parts = projection.invert(projector, photos, mode)
        number, seconds, curve = mean_curve(generate, distance, photos, parts)
        code = map(np.concatenate, zip(*(part.path[-1] for part in parts), strict=True))
        rows[name] = row(*code) | {
            "seconds_per_image": float(seconds[-1] / len(photos)),
            "settings": dataclasses.asdict(options),
            "curve": {
                "steps": number.tolist(),
                "seconds_per_image": (seconds / len(photos)).tolist(),
                "perceptual": curve.tolist(),
            },
        }
        print(line(name, rows), flush=True)
    print(line("encoder", rows))
    return rows


def line(name: str, rows: dict[str, dict]) -> str:
    """A line of the table."""
    row, encoder = rows[name], rows["encoder"]
    seconds = row.get("seconds_per_image")
    return (
        f"{name:16s}{row['perceptual']:12.4f}{row['perceptual'] / encoder['perceptual']:11.3f}"
        f"{row['pixels']:9.4f}" + ("" if seconds is None else f"{seconds:11.2f}")
    )


def save_curves(rows: dict[str, dict], path: Path) -> None:
    """Writes the distance over steps and over seconds, one curve per row, as one SVG file."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    labels = {"steps": "steps", "seconds_per_image": "seconds per image"}
    for axes, (key, label) in zip(figure.subplots(1, 2, sharey=True), labels.items(), strict=True):
        for name, row in rows.items():
            if "curve" in row:
                axes.plot(row["curve"][key], row["curve"]["perceptual"], label=name)
        axes.axhline(rows["encoder"]["perceptual"], color="gray", linestyle="--", label="encoder")
        axes.set(xlabel=label, ylabel="perceptual distance")
        axes.legend()
    with replacing(path) as file:
        figure.savefig(file, format="svg")


def main() -> None:
    cli.require("run_dir")
    quiet.import_tensorflow()
    print(f"{'':16s}{'perceptual':>12s}{'/ encoder':>11s}{'pixels':>9s}{'s / image':>11s}")
    rows = measure_all(RunFolder(FLAGS.run_dir), FLAGS.photos, FLAGS.steps)
    output = Path(FLAGS.output)
    write_json(output, {"photos": FLAGS.photos, "rows": rows})
    save_curves(rows, output.with_suffix(".svg"))
    print(f"written: {output}, {output.with_suffix('.svg')}")
    if rows["pixels alone"]["perceptual"] <= rows["features alone"]["perceptual"]:
        print("pixels alone end no farther than features alone")
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main)
