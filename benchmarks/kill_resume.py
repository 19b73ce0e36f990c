"""Kills every stage, the export and an edit of a folder at random moments; compares the results.

    python -m benchmarks.kill_resume --kills=50

One tiny run on synthetic faces is never interrupted. Others, with the same options, get SIGKILL at
moments sampled uniformly over the working time of a stage, and are started again with the same
command until they have finished. Then every artifact, TFLite file and edited photo must have the
same bytes, every array of the last checkpoints (weights, optimizers, averages, random states) the
same bits, and the evaluation the same figures. No temporary file may be left, and an edited photo
that is there after a kill must be complete. If a stage finishes before its moment has come, its
kill is left to the next run. Exit code 1 if anything differs.
"""

import dataclasses
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from tqdm import tqdm

from cgan_tf.core import cli, quiet, run_folder
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_json
from cgan_tf.core.run_folder import RunFolder, StageFolder
from cgan_tf.data import images, synthetic

ROOT = Path(__file__).parents[1]
TRANSLATE = "translate"  # its results are in this folder of the run
STAGES = (
    "gan",
    "regressor",
    "inversion",
    "features",
    "directions",
    "evaluate",
    "export",
    TRANSLATE,
)
PHOTOS = 40  # edited
BATCH = 8  # batch size of every stage
POLL = 0.005  # seconds between checks of a process
OPTIONS = {
    "seed": 1,
    "precision": "float32",
    "resolution": 32,
    "synthetic_size": 200,
    "attributes": "Smiling,Eyeglasses",
    "checkpoint_minutes": 0.01,
    "gan_kimg": 12,
    "gan_batch_size": BATCH,
    "gan_width": 8,
    "gan_z_dim": 16,
    "regressor_vgg_weights": "none",
    "regressor_kimg": 0.4,
    "regressor_batch_size": BATCH,
    "inversion_kimg": 0.4,
    "inversion_batch_size": BATCH,
    "inversion_width": 8,
    "features_side": "8",
    "features_kimg": 0.4,
    "directions_kimg": 0.4,
    "directions_batch_size": BATCH,
    "evaluate_judge_kimg": 0.8,
    "evaluate_samples": 100,
    "evaluate_photos": 10,
    "evaluate_projections": 0,
    "export_quantize": "float16",
}

FLAGS = flags.FLAGS
flags.DEFINE_integer("kills", 50, "Number of SIGKILLs, spread over the stages.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Seed of the moments.")
flags.DEFINE_string("work_dir", None, "Folder for the runs, 2 GB; by default temporary.")
flags.DEFINE_string("output", "runs/kill_resume.json", "JSON file of the results.")


@dataclasses.dataclass(frozen=True)
class Kill:
    """The state of a stage when it received one SIGKILL."""

    stage: str
    run: int  # number of the interrupted run, from 1
    seconds: float  # since this process began the stage
    kimg: float  # trained by then, according to the statistics
    checkpoint_kimg: float  # of the newest checkpoint, from which the next process resumes
    half_written: bool  # whether a temporary file or folder was left behind


def command(folder: RunFolder, stage: str) -> list[str]:
    """The command line of a stage, or of the edit."""
    if stage == TRANSLATE:
        return [
            *(sys.executable, "-m", "cgan_tf", "translate", f"--model={folder.path}"),
            *(f"--image={folder.path.parent / 'photos'}", "--edit=Smiling=+1", "--overwrite"),
            f"--output={folder.stage(stage).path}",
        ]
    return [
        *(sys.executable, "train_main.py", f"--stage={stage}", f"--run_dir={folder.path}"),
        *(f"--{name}={value}" for name, value in OPTIONS.items()),
    ]


def finished(stage: StageFolder) -> bool:
    """Whether a stage is finished, or the table of the edited photos written."""
    if stage.name == TRANSLATE:
        return (stage.path / "translate.csv").exists()
    return stage.finished()


class Attempt:
    """One process that runs one stage.

    Args:
        folder: the run folder.
        stage: the stage's name.
    """

    def __init__(self, folder: RunFolder, stage: str) -> None:
        self.stage = folder.stage(stage)
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by `wait`
        self._begun_before = self._began()
        self._process = subprocess.Popen(
            command(folder, stage),
            cwd=ROOT,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def _began(self) -> int:
        """A value that changes when a process begins the stage."""
        # The edited photos have no metadata, but each changes the time of its folder.
        name = "." if self.stage.name == TRANSLATE else "metadata.json"
        try:
            return (self.stage.path / name).stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def wait(self, delay: float | None = None) -> float | None:
        """Waits for the end, or kills the process `delay` seconds after it began the stage.

        Returns:
            The seconds from the beginning of the stage to the end of the process; None if killed.

        Raises:
            UserError: the process failed.
        """
        try:
            while self._began() == self._begun_before and self._process.poll() is None:
                time.sleep(POLL)
            start = time.perf_counter()
            while self._process.poll() is None:
                if delay is not None and time.perf_counter() - start >= delay:
                    self._process.kill()
                time.sleep(POLL)
        finally:
            self._process.kill()  # it must not outlive this command
        seconds, code = time.perf_counter() - start, self._process.wait()
        with self._log as log:
            log.seek(0)
            text = log.read()
        if code not in (0, -signal.SIGKILL):
            raise UserError(f"{self.stage.name} ended with exit code {code}: {text[-300:]}")
        return seconds if code == 0 else None


def last_kimg(stage: StageFolder) -> float:
    """kimg in the last line of the statistics."""
    return max((line["kimg"] for line in stage.read_stats()), default=0.0)


def checkpoint_kimg(stage: StageFolder) -> float:
    """kimg of the newest checkpoint."""
    steps = [int(path.stem.split("-")[1]) for path in stage.checkpoints.glob("step-*.npz")]
    return max(steps, default=0) * BATCH / 1000


def differences(one: RunFolder, two: RunFolder) -> dict[str, list[str]]:
    """Files and checkpoint arrays in which `two` differs from `one`, by finished stage."""
    found = {}
    for name in (name for name in STAGES if finished(two.stage(name))):
        contents = [_artifacts(folder.stage(name)) for folder in (one, two)]
        names = sorted(set(contents[0]) | set(contents[1]))
        found[name] = [key for key in names if contents[0].get(key) != contents[1].get(key)]
    return found


def edited_photos(stage: StageFolder) -> dict[str, bytes]:
    """The edited photos by name; empty for a stage."""
    if stage.name != TRANSLATE:
        return {}
    return {path.name: path.read_bytes() for path in sorted(stage.path.glob("[!.]*.png"))}


def leftovers(folder: RunFolder) -> list[str]:
    """The hidden files and folders of a run, except for its lock."""
    hidden = [path for path in folder.path.rglob(".*") if path.name != ".lock"]
    return sorted(str(path.relative_to(folder.path)) for path in hidden)


def _artifacts(stage: StageFolder) -> dict[str, bytes]:
    """Every result of the stage, and every array of its last checkpoint, as bytes."""
    if stage.name == TRANSLATE:
        return edited_photos(stage) | {"table": (stage.path / "translate.csv").read_bytes()}
    files = [path for path in stage.path.rglob("*") if path.is_file()]
    content = {
        str(path.relative_to(stage.path)): path.read_bytes()
        for path in files
        if path.parent.name in ("model", "discriminator", "judge") or path.suffix == ".tflite"
    }
    if stage.name == "evaluate":
        report = json.loads((stage.path / "report.json").read_text())
        content["report.json"] = json.dumps(_without_times(report)).encode()
    if stage.name == "export":
        return content | _tensors(stage.path / "saved_model" / "1")
    with np.load(max(stage.checkpoints.glob("step-*.npz"))) as arrays:
        for key in arrays.files:
            if key != "facts":  # contains the elapsed seconds
                content[f"checkpoints/{key}"] = arrays[key].tobytes()
    return content


def _tensors(saved_model: Path) -> dict[str, bytes]:
    """The variables of a SavedModel, sorted: Keras numbers them in another order each time."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(saved_model / "variables" / "variables"))
    names = reader.get_variable_to_shape_map().keys() - {"_CHECKPOINTABLE_OBJECT_GRAPH"}
    values = sorted(np.asarray(reader.get_tensor(name)).tobytes() for name in names)
    return {f"variables/{number}": value for number, value in enumerate(values)}


def _without_times(report: Any) -> Any:
    """A report without what `seconds` begins the name of: it is never equal."""
    if not isinstance(report, dict):
        return report
    return {k: _without_times(v) for k, v in report.items() if not k.startswith("seconds")}


def run_uninterrupted(folder: RunFolder) -> dict[str, float]:
    """Runs all stages; returns the working time of each, in seconds."""
    seconds = {}
    for stage in STAGES:
        taken = Attempt(folder, stage).wait()
        if taken is None:
            raise UserError(f"{stage}: something else sent SIGKILL; free some memory")
        seconds[stage] = taken
    return seconds


def run_interrupted(
    folder: RunFolder,
    complete: dict[str, bytes],
    number: int,
    left: dict[str, int],
    seconds: dict[str, float],
    rng: random.Random,
    bar: tqdm,
) -> tuple[list[Kill], list[str]]:
    """Runs the stages up to the last one with kills left.

    Returns:
        The kills, and the edited photos that were not complete after one.

    Args:
        folder: the run folder.
        complete: the edited photos of the uninterrupted run.
        number: the run's number.
        left: remaining kills of each stage; a stage may finish before it has had all of them.
        seconds: estimated working time of each stage; lowered when a stage is faster.
        rng: samples the moments.
        bar: progress.
    """
    kills: list[Kill] = []
    broken: list[str] = []
    last = max(index for index, name in enumerate(STAGES) if left[name])
    for name in STAGES[: last + 1]:
        stage = folder.stage(name)
        for _ in range(left[name]):
            delay = rng.uniform(0.0, seconds[name])
            taken = Attempt(folder, name).wait(delay)
            if taken is not None:  # faster than estimated: the next moments come earlier
                seconds[name] = min(seconds[name], taken)
                break
            kills.append(
                Kill(
                    stage=name,
                    run=number,
                    seconds=delay,
                    kimg=last_kimg(stage),
                    checkpoint_kimg=checkpoint_kimg(stage),
                    half_written=bool(leftovers(folder)),
                )
            )
            photos = edited_photos(stage)
            broken += [photo for photo in photos if photos[photo] != complete[photo]]
            bar.update()
        if not finished(stage):
            Attempt(folder, name).wait()
    return kills, broken


def measure(count: int, seed: int, parent: Path) -> dict:
    """The whole experiment.

    Args:
        count: number of kills, spread evenly over the stages.
        seed: of the moments.
        parent: an empty folder for the runs.
    """
    baseline = RunFolder(parent / "baseline")
    for number in range(PHOTOS):
        face = synthetic.render(synthetic.sample_face(seed, number), 96)
        images.save_png(parent / "photos" / f"{number:02d}.png", face)
    with tqdm(total=count, unit=" kills", disable=not sys.stderr.isatty()) as bar:
        working = run_uninterrupted(baseline)
        seconds = dict(working)
        complete = edited_photos(baseline.stage(TRANSLATE))
        rng, kills, compared, faults = random.Random(seed), [], [], []
        left = {
            name: (count + len(STAGES) - 1 - index) // len(STAGES)
            for index, name in enumerate(STAGES)
        }
        while any(left.values()):
            number = len(compared) + 1
            folder = RunFolder(parent / f"interrupted{number}")
            here, broken = run_interrupted(folder, complete, number, left, seconds, rng, bar)
            faults += [f"{folder.path.name}: {photo} incomplete" for photo in broken]
            faults += [f"{folder.path.name}: {name} left" for name in leftovers(folder)]
            kills += here
            for kill in here:
                left[kill.stage] -= 1
            compared.append(differences(baseline, folder))
    return {
        "kills": len(kills),
        "seed": seed,
        "runs": len(compared),
        "equal": not any(names for each in compared for names in each.values()),
        "faults": faults,
        "versions": run_folder.versions(),
        "options": OPTIONS,
        "stages": {
            name: {
                "seconds_uninterrupted": working[name],
                "compared": len(_artifacts(baseline.stage(name))),
                "different": [each[name] for each in compared if name in each],
                "kills": [dataclasses.asdict(kill) for kill in kills if kill.stage == name],
            }
            for name in STAGES
        },
    }


def table(result: dict) -> str:
    """The result as text."""
    lines = [
        f"{'stage':12}{'kills':>7}{'before a':>12}{'temporary':>14}{'kimg':>12}"
        f"{'artifacts and':>15}{'runs that':>11}",
        f"{'':12}{'':>7}{'checkpoint':>12}{'files left':>14}{'repeated':>12}{'arrays':>15}"
        f"{'differ':>11}",
    ]
    for name, stage in result["stages"].items():
        kills = stage["kills"]
        early = sum(kill["checkpoint_kimg"] == 0 for kill in kills)
        unfinished = sum(kill["half_written"] for kill in kills)
        repeated = sum(max(0.0, kill["kimg"] - kill["checkpoint_kimg"]) for kill in kills)
        differ = sum(bool(names) for names in stage["different"])
        lines.append(
            f"{name:12}{len(kills):7}{early:12}{unfinished:14}{repeated:12.3f}{stage['compared']:15}"
            f"{differ:11}"
        )
    verdict = "equal, bit for bit" if result["equal"] else "NOT EQUAL"
    lines.append(
        f"{result['kills']} kills in {result['runs']} run(s), seed {result['seed']}: {verdict}"
    )
    lines += [f"fault: {fault}" for fault in result["faults"]]
    return "\n".join(lines)


def main() -> int:
    """Runs the benchmark; returns the exit code."""
    quiet.import_tensorflow()
    if FLAGS.work_dir:
        Path(FLAGS.work_dir).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kill_resume-", dir=FLAGS.work_dir) as parent:
        result = measure(FLAGS.kills, FLAGS.seed, Path(parent))
    write_json(Path(FLAGS.output), result)
    print(table(result))
    print(f"written: {FLAGS.output}")
    return 0 if result["equal"] and not result["faults"] else 1


if __name__ == "__main__":
    cli.run(main)
