"""Kills the four training stages at random moments and compares what they end with.

    python -m benchmarks.kill_resume --kills=20

One tiny run on drawn faces is never killed. Others, with the same options, get SIGKILL at moments
that are drawn evenly over the time that a process works, from the stage's beginning to its own
end, and are started again by the same command until they have finished. Then every artifact must
hold the same bytes, and every last checkpoint (weights, optimizers, averages, random states) the
same bits. A stage that finishes before its moment has come leaves its kill to the next run. Exit
code 1 if anything differs.
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

import numpy as np
from absl import flags
from tqdm import tqdm

from cgan_tf.core import cli, run_folder
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_text
from cgan_tf.core.run_folder import RunFolder, StageFolder

ROOT = Path(__file__).parents[1]
STAGES = ("gan", "regressor", "inversion", "directions")
BATCH = 8  # of every stage
POLL = 0.005  # seconds between looks at a process
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
    "grid_kimg": 2,
    "regressor_vgg_weights": "none",
    "regressor_kimg": 0.4,
    "regressor_batch_size": BATCH,
    "inversion_kimg": 0.4,
    "inversion_batch_size": BATCH,
    "inversion_width": 8,
    "directions_kimg": 0.4,
    "directions_batch_size": BATCH,
}


@dataclasses.dataclass(frozen=True)
class Kill:
    """What one SIGKILL met."""

    stage: str
    run: int  # 1 is the first run that is killed
    seconds: float  # since the stage began in this process
    kimg: float  # done by then, as far as the statistics tell
    checkpoint_kimg: float  # kept: what the next process goes on from
    half_written: bool  # a temporary file was left behind


class Attempt:
    """One process that works on one stage.

    Args:
        folder: the run.
        stage: its name.
    """

    def __init__(self, folder: RunFolder, stage: str) -> None:
        self.stage = folder.stage(stage)
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by `wait`
        self._begun_before = self._began()
        self._process = subprocess.Popen(
            [sys.executable, "train_main.py", f"--stage={stage}", f"--run_dir={folder.path}"]
            + [f"--{name}={value}" for name, value in OPTIONS.items()],
            cwd=ROOT,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def _began(self) -> int:
        """Changes when a process begins its work in the stage."""
        try:
            return (self.stage.path / "metadata.json").stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def wait(self, delay: float | None = None) -> float | None:
        """Waits for the end, or kills `delay` seconds after the stage began.

        Returns:
            The seconds from the stage's beginning to the process's own end; None if it was killed.

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
    """Thousands of images behind the last line of the statistics."""
    return max((line["kimg"] for line in stage.read_stats()), default=0.0)


def checkpoint_kimg(stage: StageFolder) -> float:
    """Thousands of images behind the newest checkpoint."""
    steps = [int(path.stem.split("-")[1]) for path in stage.checkpoints.glob("step-*.npz")]
    return max(steps, default=0) * BATCH / 1000


def differences(one: RunFolder, two: RunFolder) -> dict[str, list[str]]:
    """What `two` does not share with `one`, by stage of `two`: model files, checkpoint arrays."""
    found = {}
    for name in (name for name in STAGES if two.stage(name).finished()):
        contents = [_artifacts(folder.stage(name)) for folder in (one, two)]
        names = sorted(set(contents[0]) | set(contents[1]))
        found[name] = [key for key in names if contents[0].get(key) != contents[1].get(key)]
    return found


def _artifacts(stage: StageFolder) -> dict[str, bytes]:
    """Every model file of the stage, and every array of its last checkpoint, as bytes."""
    files = [path for path in stage.path.rglob("*") if path.is_file()]
    content = {
        str(path.relative_to(stage.path)): path.read_bytes()
        for path in files
        if path.parent.name in ("model", "discriminator")
    }
    with np.load(max(stage.checkpoints.glob("step-*.npz"))) as arrays:
        for key in arrays.files:
            if key != "facts":  # holds the seconds
                content[f"checkpoints/{key}"] = arrays[key].tobytes()
    return content


def never_killed(folder: RunFolder) -> dict[str, float]:
    """Runs all stages; returns the seconds that each worked."""
    seconds = {}
    for stage in STAGES:
        taken = Attempt(folder, stage).wait()
        if taken is None:
            raise UserError(f"{stage}: another process sent SIGKILL; free some memory")
        seconds[stage] = taken
    return seconds


def killed(
    folder: RunFolder,
    number: int,
    left: dict[str, int],
    seconds: dict[str, float],
    draw: random.Random,
    bar: tqdm,
) -> list[Kill]:
    """Runs the stages, killing each as often as `left` says if it does not finish before.

    It ends with the last stage that has kills left.
    """
    kills = []
    last = max(index for index, name in enumerate(STAGES) if left[name])
    for name in STAGES[: last + 1]:
        stage = folder.stage(name)
        for _ in range(left[name]):
            delay = draw.uniform(0.0, seconds[name])
            taken = Attempt(folder, name).wait(delay)
            if taken is not None:  # faster than thought: the next moments come earlier
                seconds[name] = min(seconds[name], taken)
                break
            kills.append(
                Kill(
                    stage=name,
                    run=number,
                    seconds=delay,
                    kimg=last_kimg(stage),
                    checkpoint_kimg=checkpoint_kimg(stage),
                    half_written=any(stage.path.rglob(".*.tmp")),
                )
            )
            bar.update()
        if not stage.finished():
            Attempt(folder, name).wait()
    return kills


def measure(count: int, seed: int, parent: Path) -> dict:
    """The whole experiment.

    Args:
        count: kills, spread evenly over the stages.
        seed: of their moments.
        parent: an empty folder for the runs.
    """
    whole = RunFolder(parent / "whole")
    with tqdm(total=count, unit=" kills", disable=not sys.stderr.isatty()) as bar:
        alone = never_killed(whole)
        seconds = dict(alone)
        draw, kills, compared = random.Random(seed), [], []
        left = {name: (count + 3 - index) // 4 for index, name in enumerate(STAGES)}
        while any(left.values()):
            number = len(compared) + 1
            folder = RunFolder(parent / f"killed{number}")
            here = killed(folder, number, left, seconds, draw, bar)
            kills += here
            for kill in here:
                left[kill.stage] -= 1
            compared.append(differences(whole, folder))
    return {
        "kills": len(kills),
        "seed": seed,
        "runs": len(compared),
        "equal": not any(names for each in compared for names in each.values()),
        "versions": run_folder.versions(),
        "options": OPTIONS,
        "stages": {
            name: {
                "seconds_never_killed": alone[name],
                "compared": len(_artifacts(whole.stage(name))),
                "different": [each[name] for each in compared if name in each],
                "kills": [dataclasses.asdict(kill) for kill in kills if kill.stage == name],
            }
            for name in STAGES
        },
    }


def table(result: dict) -> str:
    """The result as text."""
    lines = [
        f"{'stage':12}{'kills':>7}{'before a':>12}{'half-written':>14}{'kimg done':>12}"
        f"{'artifacts and':>15}{'runs that':>11}",
        f"{'':12}{'':>7}{'checkpoint':>12}{'files left':>14}{'twice':>12}{'arrays':>15}"
        f"{'differ':>11}",
    ]
    for name, stage in result["stages"].items():
        kills = stage["kills"]
        early = sum(kill["checkpoint_kimg"] == 0 for kill in kills)
        torn = sum(kill["half_written"] for kill in kills)
        twice = sum(max(0.0, kill["kimg"] - kill["checkpoint_kimg"]) for kill in kills)
        differ = sum(bool(names) for names in stage["different"])
        lines.append(
            f"{name:12}{len(kills):7}{early:12}{torn:14}{twice:12.3f}{stage['compared']:15}"
            f"{differ:11}"
        )
    verdict = "equal, bit for bit" if result["equal"] else "NOT EQUAL"
    lines.append(
        f"{result['kills']} kills in {result['runs']} run(s), seed {result['seed']}: {verdict}"
    )
    return "\n".join(lines)


def main() -> int:
    """The command."""
    values = flags.FLAGS
    if values.work_dir:
        Path(values.work_dir).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kill_resume-", dir=values.work_dir) as parent:
        result = measure(values.kills, values.seed, Path(parent))
    write_text(Path(values.output), json.dumps(result, indent=1) + "\n")
    print(table(result))
    print(f"written: {values.output}")
    return 0 if result["equal"] else 1


if __name__ == "__main__":
    flags.DEFINE_integer("kills", 20, "SIGKILLs, spread over the four stages", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "of the moments")
    flags.DEFINE_string("output", "runs/kill_resume.json", "every kill, and what was compared")
    flags.DEFINE_string("work_dir", None, "where the runs lie meanwhile; they take 2 GB")
    cli.run(main)
