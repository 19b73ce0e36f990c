"""Makes a named model of a finished run: a folder that every --model takes by its name.

The files are converted anew, and checked as those of an export are: the translator by `parity` and
`gates`, the scores of the regressor against Keras's. See `editing.named_models` for the files.
"""

import os
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cgan_tf import data
from cgan_tf.core import presets, run_folder
from cgan_tf.core.config import Config
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import file_hash, move_aside, write_bytes, write_json
from cgan_tf.core.folders import replacing_folder
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.data import images, synthetic
from cgan_tf.editing.backends import NamedBackend
from cgan_tf.editing.description import CELEBA_CROP, DESCRIPTION_NAME
from cgan_tf.editing.named_models import FACE, FILES, MODEL, SCORES
from cgan_tf.editing.tflite_file import TFLiteFile
from cgan_tf.evaluation import report
from cgan_tf.export import parity, saved_model, stage, tflite, variants

KINDS = ("dynamic", "float16")  # the smaller first; the first that passes is installed
SCORES_BOUND = 0.01  # maximum mean |difference| of the scores from Keras's
SYNTHETIC_FACE, SYNTHETIC_SIDE = (7, 16), 256  # seed and index, px; in no data set
SAMPLES = 64  # of which the best reconstructed one is the example photo
SAME_PERSON = "same_person_at_0.1"  # in report.json, if it was measured with a face recognizer


def install(
    config: Config,
    run: RunFolder,
    target: Path,
    dataset: data.ImageData | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Makes the named model `target`, completely or not at all; an existing one is moved aside.

    Args:
        config: the run's resolved options.
        run: the run folder, with its stages up to directions finished.
        target: the model's folder, from `named_models.plan_target`.
        dataset: Keras and the files are compared on its validation photos; opened if not given.
        say: prints a line for the user.

    Raises:
        UserError: a stage has not finished, no variant passed, the folder cannot be written, or
            another process is writing to it.
    """
    stage.require_finished(run)
    quality = measured(run, say)
    dataset = dataset or data.open_data(config, say)
    old = os.path.lexists(target)
    with replacing_folder(target, f"--install={target.name}: {target}") as new:
        source = variants.Source(config, run, dataset)
        _build(source, new, target.name, quality, say)
        NamedBackend(new)
        if old and os.path.lexists(target):  # one that has appeared meanwhile is kept
            say(f"install: the old model is now {move_aside(target)}")


def _build(
    source: variants.Source,
    output: Path,
    name: str,
    quality: dict[str, Any] | None,
    say: Callable[[str], None],
) -> None:
    """Writes the files of the model `name` into the empty folder `output`."""
    kinds = {MODEL: _write_translator(source, output, say), SCORES: _write_scores(source, output)}
    images.save_png(output / FACE, example_face(source))
    files = {
        file: {"bytes": (output / file).stat().st_size, "sha256": file_hash(output / file)}
        for file in FILES
    }
    for file, kind in kinds.items():
        files[file]["quantize"] = kind
        say(f"install: {file}: {files[file]['bytes'] / 1e6:.2f} MB, {kind}")
    made = {
        "name": name,
        "created": run_folder.now(),
        "command": command(source.folder, name),
        "seed": source.config.seed,
        "quality": quality,
        "files": files,
    }
    write_json(output / DESCRIPTION_NAME, source.description | made)


# ---- files -------------------------------------------------------------------------------------


def _write_translator(source: variants.Source, output: Path, say: Callable[[str], None]) -> str:
    """Writes the first variant of `KINDS` that passes the export's checks; returns its kind."""
    reasons = []
    for kind in KINDS:
        with tempfile.TemporaryDirectory(prefix="cgan_tf_install_") as temporary:
            ((name, entry),) = variants.build_tflite(source, [kind], Path(temporary))
            if entry["passed"]:
                write_bytes(output / MODEL, (Path(temporary) / entry["path"]).read_bytes())
                return kind
        reasons.append(f"{name}: {entry['reason']}")
        say(f"install: {reasons[-1]}")
    raise UserError(f"{source.folder.path}: not installed: {'; '.join(reasons)}")


def _write_scores(source: variants.Source, output: Path) -> str:
    """Writes the regressor in the first of `KINDS` whose scores are Keras's; returns its kind."""
    regressor = source.network.regressor
    shapes = [tuple(weight.shape) for weight in regressor.weights]
    expected = source.reference["attributes"]["scores"]
    reasons = []
    with tempfile.TemporaryDirectory(prefix="cgan_tf_install_") as temporary:
        batch1 = Path(temporary) / "batch1"
        saved_model.write(source.network, batch1, ("attributes",), batch=1)
        for kind in KINDS:
            try:
                content = tflite.convert(batch1, kind, source.text, signatures=("attributes",))
            except UserError as error:
                reasons.append(f"{kind}: {error}")
                continue
            reason = tflite.check_file(content, shapes, tflite.WEIGHT_ITEMSIZE[kind])
            reason = reason or scores_verdict(content, source.inputs.image, expected)
            if reason is None:
                write_bytes(output / SCORES, content)
                return kind
            reasons.append(f"{kind}: {reason}")
    raise UserError(f"{source.folder.path}: not installed: scores: {'; '.join(reasons)}")


def scores_verdict(content: bytes, image: np.ndarray, expected: np.ndarray) -> str | None:
    """None if a file's scores are close to Keras's, else the reason in words.

    Args:
        content: a .tflite file with the signature `attributes`.
        image: photos float32 `[N, R, R, 3]` in [-1, 1].
        expected: Keras's scores `[N, L]` of them.
    """
    scores = TFLiteFile(Path(SCORES), content).run("attributes", image=image)["scores"]
    difference = np.abs(scores - expected).mean()
    if difference <= SCORES_BOUND:  # not if it is NaN
        return None
    return f"differs from Keras by {difference:.2g} in the mean (at most {SCORES_BOUND:g})"


def example_face(source: variants.Source) -> np.ndarray:
    """The example photo, uint8 `[H, W, 3]`: a face of nobody, so that a model may be passed on.

    A synthetic face that is in no data set, or else a sample of the generator: the one whose
    reconstruction is best, in the frame of the training photos.
    """
    if source.config.data == "synthetic":
        return synthetic.render(synthetic.sample_face(*SYNTHETIC_FACE), SYNTHETIC_SIDE)
    samples = source.reference["sample"]["image"][:SAMPLES]
    strengths = np.zeros((len(samples), len(source.network.attributes)), np.float32)
    inputs = {"image": samples, "strengths": strengths}
    again = parity.run_batched(source.keras, "translate", inputs)["image"]
    best = np.square(again - samples).mean(axis=(1, 2, 3)).argmin()
    return framed(images.to_uint8(samples[best]), source.description["crop"])


def framed(square: np.ndarray, crop: str) -> np.ndarray:
    """A photo uint8 `[H, W, 3]` of which the commands crop this square uint8 `[R, R, 3]`.

    Models of CelebA's framing take photos of CelebA's proportions for aligned ones.
    """
    if crop != CELEBA_CROP:
        return square
    inside = images.center_square_resize(square, images.CELEBA_SQUARE)
    width, height = (
        (side - images.CELEBA_SQUARE) // 2 for side in (images.CELEBA_WIDTH, images.CELEBA_HEIGHT)
    )
    return np.pad(inside, ((height, height), (width, width), (0, 0)), mode="edge")


# ---- the description ---------------------------------------------------------------------------


def command(run: RunFolder, name: str) -> str:
    """The command that makes such a run again, with its seed, in runs/NAME.

    Of paths that only exist on this machine the last part is left.
    """
    config, requested = run.load_config(), run.read()["requested"]
    values = {"run_dir": f"runs/{name}"}
    values |= {"preset": config.preset} if config.preset else {}
    values |= {flag: presets.text(value) for flag, value in requested.items()}
    values |= {"seed": str(config.seed)}
    values.pop("cache_dir", None)
    words = [
        f"--{flag}={Path(value).name if '/' in value and flag != 'run_dir' else value}"
        for flag, value in values.items()
    ]
    return shlex.join(["cgan", "train", "--stage=all", *words])


def measured(run: RunFolder, say: Callable[[str], None]) -> dict[str, Any] | None:
    """The main figures of evaluate/report.json; None if nothing has been measured.

    Raises:
        UserError: the report is damaged, or of another version.
    """
    evaluated = run.stage("evaluate")
    if not evaluated.finished():
        say(f"note: the quality is not known, since {run.path} has not been evaluated")
        return None
    found = report.read_report(evaluated)
    encoder, generation = found["inversion"]["encoder"], found["generation"]
    identity = found.get("identity")
    inversion = ("psnr", "ssim", "retrieval", "retrieval_floor", "retrieval_ceiling", "n")
    floor = {f"{SAME_PERSON}_floor": identity["floor"][SAME_PERSON]} if identity else {}
    return {
        "fd": generation["fd"],
        "fd_floor": generation["fd_floor"],
        "inversion": {key: encoder[key] for key in inversion} | _same_person(encoder) | floor,
        "attributes": {
            name: {
                "change": one["target_change"],
                "leakage": one["leakage"],
                "retrieval": one["retrieval"],
                "n": one["n"],
            }
            | _same_person(one)
            for name, one in found["edits"]["learned"].items()
        },
        "seed": found["seed"],
    }


def _same_person(entry: dict[str, Any]) -> dict[str, float | None]:
    return {SAME_PERSON: entry[SAME_PERSON]} if SAME_PERSON in entry else {}
