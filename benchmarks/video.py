"""Whether an edited video flickers more than its input.

    python -m benchmarks.video --run_dir=runs/celeba --clips=20

A clip is one person in `--frames` frames: a synthetic face that turns its head, or, of photos, the
validation photo moved by an eighth of a pixel of the model each frame. All frames of a clip are
edited with the same strengths. `flicker` is the mean absolute difference of neighboring edited
frames, divided by the input's; at most 1 is as steady as the input.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags
from PIL import Image

from cgan_tf.core import cli, quiet
from cgan_tf.core.files import write_json
from cgan_tf.core.run_folder import RunFolder

FLAGS = flags.FLAGS
flags.DEFINE_string("run_dir", None, "Run folder whose directions stage has finished.")
flags.DEFINE_integer("clips", 20, "Number of clips.", lower_bound=1)
flags.DEFINE_integer("frames", 12, "Frames of a clip.", lower_bound=3)
flags.DEFINE_string("output", "video.json", "JSON file of the figures.")

STEP = 1 / 8  # px of the model from frame to frame
TURN = 0.06  # of a synthetic face's yaw from frame to frame; yaw is in [-1, 1]


def moved(photo: np.ndarray, frames: int) -> np.ndarray:
    """uint8 `[frames, R, R, 3]`: the photo `[R, R, 3]`, moving right and down, edges repeated."""
    side, margin = len(photo), int(np.ceil(STEP * frames)) + 1
    padded = Image.fromarray(np.pad(photo, ((margin, margin), (margin, margin), (0, 0)), "edge"))
    boxes = [margin - STEP * (frame - frames / 2) for frame in range(frames)]
    crops = [
        padded.resize((side, side), Image.Resampling.BICUBIC, (low, low, low + side, low + side))
        for low in boxes
    ]
    return np.stack([np.asarray(crop) for crop in crops])


def turning(seed: int, index: int, resolution: int, frames: int) -> np.ndarray:
    """uint8 `[frames, R, R, 3]`: a synthetic face that turns its head through the middle."""
    from cgan_tf.data import synthetic

    face = synthetic.sample_face(seed, index)
    yaws = TURN * (np.arange(frames) - (frames - 1) / 2)
    return np.stack(
        [synthetic.render(dataclasses.replace(face, yaw=float(yaw)), resolution) for yaw in yaws]
    )


def motion(frames: np.ndarray) -> float:
    """Mean absolute difference of neighboring frames `[frames, R, R, 3]`."""
    return float(np.mean(np.abs(np.diff(np.float32(frames), axis=0))))


def requests(attributes: Sequence[str]) -> dict[str, np.ndarray]:
    """The strengths `[K]` that are measured, by name: none, each alone at +1 and +2, two at +1."""
    unit = np.eye(len(attributes), dtype=np.float32)
    rows = {"reconstruction": np.zeros_like(unit[0])}
    rows |= {f"{name} +1": row for name, row in zip(attributes, unit, strict=True)}
    rows |= {f"{name} +2": 2 * row for name, row in zip(attributes, unit, strict=True)}
    if len(attributes) > 1:
        rows[f"{attributes[0]} +1, {attributes[1]} +1"] = unit[0] + unit[1]
    return rows


def measure(run: RunFolder, clips: int, frames: int) -> dict[str, float]:
    """Flicker by name of the request, the ratio of the means over all clips."""
    from cgan_tf import data
    from cgan_tf.data.images import to_float
    from cgan_tf.editing import backends
    from cgan_tf.evaluation.batching import choose

    config = run.load_config()
    editor = backends.open_backend(str(run.path))
    if config.data == "synthetic":
        shots = [turning(config.seed, 10**6 + i, config.resolution, frames) for i in range(clips)]
    else:
        dataset = data.open_data(config)
        chosen = choose(dataset.splits["validation"], clips, config.seed)
        shots = [moved(photo, frames) for photo in dataset.read(chosen)]
    rows = requests(editor.attributes)
    before, after = [], {name: [] for name in rows}
    for shot in shots:
        code = editor.encode(to_float(shot))
        before.append(motion(to_float(shot)))
        for name, strengths in rows.items():
            after[name].append(motion(editor.generate(code, np.tile(strengths, (frames, 1)))))
    return {name: float(np.mean(values) / np.mean(before)) for name, values in after.items()}


def main() -> None:
    cli.require("run_dir")
    cli.require_writable(f"--output={FLAGS.output}", Path(FLAGS.output).absolute().parent)
    quiet.import_tensorflow()
    flicker = measure(RunFolder(FLAGS.run_dir), FLAGS.clips, FLAGS.frames)
    print(f"{FLAGS.clips} clips of {FLAGS.frames} frames\n{'':34}{'flicker':>9}")
    for name, value in flicker.items():
        print(f"{name:34}{value:9.2f}")
    write_json(
        Path(FLAGS.output), {"clips": FLAGS.clips, "frames": FLAGS.frames, "flicker": flicker}
    )


if __name__ == "__main__":
    cli.run(main)
