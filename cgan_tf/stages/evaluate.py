"""Stage 6: measures the run on photos that no stage trained on. Writes evaluate/report.json.

`cgan evaluate` prints the main figures, and compares the generators of two runs.

Layout of report.json. An undefined figure is null; a part that does not apply is absent:

    version, seed, seconds              seconds: without the training of the judge
    data         name, resolution, digest, n_train, n_validation, n_test
    judge        features (their number), parameters, kimg
    identity (with --evaluate_identity_model)  model: {file, hash, format}; thresholds, floor,
                 ceiling: {same_person_at_0.1, same_person_at_1}; pairs, n, seed. These two figures
                 are then wherever there is `retrieval` in inversion's encoder, hybrid and optimize,
                 in edits' learned and removed, in edits_mean and in keep_detail
    generation   features ("judge"), resolution (the generator's), fd, fd_floor, fd_over_floor,
                 fd_at_32, fd_floor_at_32, kid, kid_std, kid_floor, precision, recall,
                 n_real, n_fake, n_floor, seed
    regressor    n, seed; regressor, judge, majority: {accuracy, balanced_accuracy};
                 attributes: {NAME: {positive, accuracy, balanced_accuracy, judge_accuracy,
                 judge_balanced_accuracy}}
    separability (stylegan)  z, w, n, n_train, seed; attributes: {NAME: {positive, z, w}}
    inversion    encoder: {psnr, ssim, perceptual, retrieval, retrieval_floor, retrieval_ceiling,
                 seconds_per_image, closer_than_random, perceptual_random_best, n, n_random, seed};
                 hybrid, optimize (with --evaluate_projections): {psnr, ssim, perceptual,
                 perceptual_encoder, retrieval, seconds_per_image, n, seed}; hybrid also:
                 seconds_to_match_optimize
    edits        learned, random, removed: {NAME: {strength, target_change,
                 target_change_from_photo, success, n_success, leakage, ratio, retrieval, n, draws,
                 seed; interval: {target_change, success, leakage, retrieval}}}; learned also:
                 ratio_over_random, calibrated_change, achieved_change, achieved_change_judge,
                 calibration_error (in interval too), calibration_error_judge, n_calibration,
                 realism, realism_unedited
    edits_mean   learned, random, removed: means over the attributes
    keep_detail  attributes: {NAME: {keep_detail, plain: {target_change, leakage, retrieval,
                 interval}, n, seed}}; mean: {keep_detail, plain: {target_change, leakage,
                 retrieval}}
    set          error, error_judge, strength, hit_rate, n, seed; attributes: {NAME: for each value
                 {requested, reached, reached_judge, error, error_judge, strength, hit_rate, n,
                 seed}}
    strengths    n_photos, seed; attributes: {NAME: [{strength, target_change, success, leakage,
                 retrieval, interval: {target_change, success}, n, n_success}, ...]}
    preservation strengths: {learned, random}, n_photos, draws, seed; learned, random:
                 {all: [bin, ...], attributes: {NAME: [bin, ...]}} with bin {above, up_to, n,
                 n_photos, preserved, leakage, retrieval, interval: {preserved, leakage,
                 retrieval}}
    comparison   requested, n_photos; attributes: {NAME: {learned, random: {as in edits, reached,
                 length; learned also: random_leakage, random_target_change, leakage_over_random,
                 n_over_random, leakage_over_same_length}}}; mean: {learned, random:
                 {target_change, leakage, retrieval, length, leakage_over_random,
                 leakage_over_same_length, n_attributes, n_reached}}
    rescoring    n_photos, seed; matrix: {NAME: {every attribute: change}}
    cosines      {NAME: {NAME: cosine}}
    consistency  {NAME: {latent, step, psnr, retrieval, perceptual, unedited: {latent, psnr,
                 retrieval}, interval: {latent}, n, n_perceptual, seed}}
    counterfactual (synthetic data)  {NAME: {psnr, psnr_unedited, psnr_ceiling, judge_agreement,
                 judge_agreement_target, true_change, true_leakage, closer_to_truth,
                 closer_than_photo, closer_than_reconstruction, keep_detail_closer_than_photo (each
                 of these four also with the suffixes _judge and _psnr), n_perceptual, n, seed}}
    pictures     {file name in evaluate/: caption}

Figures:

- `fd` is the Frechet distance between the judge's features of samples and those of validation and
  test photos; its floor is that of as many training photos.
- `retrieval` is the share of images whose own photo is the most similar one of all measured test
  photos, by the cosine of the judge's features minus their mean over these. Its floor is chance,
  its ceiling the retrieval of the mirrored photos; both are in `inversion.encoder`.
- `same_person_at_0.1` and `same_person_at_1` are the shares of images that the face recognizer
  takes for the person of their photo, at thresholds that accept 0.1 % and 1 % of the pairs of
  different photos. Their floor is the share of pairs that is accepted, their ceiling that of the
  mirrored photos. They are null with fewer than 1,000 and 100 pairs.
- Edits move the latent, and the detail features along with it. They have strength +1 and are made
  on test photos with the label 0, those of `removed` strength -1 on photos with the label 1, where
  success means to fall to 0.5 or below. `target_change` is the judge's mean change of probability
  from the reconstruction to the edited image; `leakage` the mean |change| of all other attributes;
  `ratio` target_change / leakage; `success` the share of reconstructions at or below 0.5, n_success
  in number, that rise above it. A random direction has no sign: its target_change is the absolute
  value of its mean change, averaged over the directions.
- `calibrated_change` is the change of R's prediction in the direction's table, from validation
  photos; `achieved_change` the one on test photos; `calibration_error` their |difference|.
- hybrid and optimize find latents; the detail features are predicted for these as for the
  encoder's. `perceptual_encoder` is the encoder's distance on the photos of hybrid and optimize.
  `seconds_to_match_optimize` is hybrid's time per image until its mean distance is within 5 % of
  optimize's final one.
- `realism` is the Frechet distance between the judge's features of the edited images and those of
  validation and test photos with the attribute; `realism_unedited` that of the photos as they are.
  Both are null where one side has fewer than 50 images.
- An interval is [low, high]: 95 % of the figure's values over 1,000 bootstrap resamples of the
  photos.

Blocks:

- keep_detail: +1 with `cgan translate --keep_detail`, where the photo keeps its own detail,
  compared with plain translation. Here all changes count from the photo.
- set: --set requests each value for test photos of either label. error is the mean |reached -
  requested|, strength the mean |strength|, hit_rate the share of photos that reach the value.
- separability: balanced accuracy with which a hyperplane in z, and one in w, predicts the judge's
  labels of held-out samples.
- strengths: positive strengths on photos without the attribute, negative ones on photos with it,
  where success means to fall to 0.5 or below.
- preservation: all edits of `strengths`, and edits along `draws` random directions at 1 to 6 times
  the mean length, in bins of the judge's |target change|. preserved is the share of the other
  attributes whose predictions stay on the same side of 0.5, over n edits of n_photos photos. A
  random step with a small target change may still be long: see comparison.
- comparison: every method at the length at which the mean change is `requested`, within 1 %, or, if
  that is out of reach, at the length of the largest change. reached is whether it is reached (for
  random directions: by how many). leakage_over_random compares the direction with each random one
  that raises the attribute by at least 0.02 (n_over_random of them), at the largest change up to
  `requested` that both reach.
- rescoring: the judge's mean change of every attribute at +1 along each direction, on photos
  without its attribute.
- consistency: edit by +1, encode the edited image, and undo the edit. latent is the distance from
  the initial latent, step the length of the edit; psnr and perceptual compare the image with the
  reconstruction, retrieval with the photos; unedited is the same cycle without an edit.
- counterfactual: psnr compares the edited reconstruction with the true edited face, psnr_unedited
  with the unedited photo; psnr_ceiling is that of the true face's own reconstruction. Four shares
  of edits: closer_to_truth, the edited reconstruction is closer to the true edited face than to the
  unedited photo; closer_than_photo, it is closer to the true edited face than the unedited photo
  is; closer_than_reconstruction, closer than the photo's reconstruction, which has the same
  inversion error; keep_detail_closer_than_photo, as closer_than_photo with --keep_detail. Closer by
  the perceptual distance (on n_perceptual photos), by the judge's features (_judge), or by PSNR
  (_psnr). true_change and true_leakage are the judge's changes from the photo to the true edit.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cgan_tf.core.config import Config
from cgan_tf.core.errors import UserError
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.data import ImageData, images
from cgan_tf.editing import network, recognizer
from cgan_tf.editing.models import read_directions
from cgan_tf.evaluation import (
    comparison,
    counterfactual,
    edits,
    generation,
    inversion,
    realism,
    regressor,
    statistics,
    sweeps,
)
from cgan_tf.evaluation.batching import batched
from cgan_tf.evaluation.evaluated import EvaluatedModels, TestPhotos
from cgan_tf.evaluation.figures import CHANCE, SAME_PERSON, number
from cgan_tf.evaluation.identity import FALSE_ACCEPTS
from cgan_tf.evaluation.report import write_report
from cgan_tf.evaluation.statistics import Numbers
from cgan_tf.networks.judge import Judge
from cgan_tf.stages.judge import ensure_judge
from cgan_tf.training import precision

EDITED = 8  # photos in each edits_NAME.png, if they fit
STRENGTHS = (-1.0, -0.5, 0.5, 1.0)  # in each edits_NAME.png


def run(config: Config, folder: RunFolder, dataset: ImageData) -> None:
    """Trains or keeps the judge and measures the run in `folder`/evaluate, unless that is done.

    Args:
        config: the resolved options.
        folder: the run; its gan, regressor, inversion and directions stages have finished.
        dataset: labels and the three splits.

    Raises:
        UserError: a stage is missing, or the data has no labels.
        Interrupted: a signal during the judge's training; it has been saved.
        cluster.Done: the judge exists, on all workers but the chief.
    """
    stage = folder.stage("evaluate")
    if not stage.begin(config, dataset.digest):
        return
    precision.seed_everything(config)
    judge = ensure_judge(config, stage, dataset)
    editor = network.EditingNetwork.from_run(folder.path, scores=True)
    directions = read_directions(folder, editor.codec.latent_shape)
    write_report(stage, measure_all(config, dataset, stage.path, judge, editor, directions))
    stage.finish(kimg=config.evaluate.judge_kimg)


def measure_all(
    config: Config,
    dataset: ImageData,
    folder: Path,
    judge: Judge,
    editor: network.EditingNetwork,
    directions: Mapping[str, dict[str, Any]],
) -> Numbers:
    """The report without its version; saves the pictures in `folder`.

    Args:
        config: for the seed and the options of the evaluate stage.
        dataset: at the judge's resolution.
        folder: of the pictures.
        judge: trained.
        editor: with its regressor.
        directions: the direction files by attribute.
    """
    start, seed = time.perf_counter(), config.seed
    evaluated = EvaluatedModels(
        editor,
        judge,
        {name: calibrated_change(entry) for name, entry in directions.items()},
    )
    report: Numbers = {
        "seed": seed,
        "data": {
            "name": dataset.name,
            "resolution": dataset.resolution,
            "digest": dataset.digest,
            **{f"n_{name}": len(rows) for name, rows in dataset.splits.items()},
        },
        "judge": {
            "features": judge.head.kernel.shape[0],
            "parameters": judge.count_params(),
            "kimg": config.evaluate.judge_kimg,
        },
        "generation": generation.measure_generator(
            evaluated.generator, judge, dataset, config.evaluate.samples, seed
        ),
    }
    print_generation(report["generation"])
    if config.gan.arch == "stylegan":
        block = generation.measure_separability(evaluated.generator, judge, seed)
        report["separability"] = block
        print(
            f"evaluate: separability {number(block['z'], '.3f')} in z and "
            f"{number(block['w'], '.3f')} in w (floor {CHANCE:g})"
        )
    path = config.evaluate.identity_model
    known = recognizer.load(path, "evaluate_identity_model") if path else None
    photos = TestPhotos(evaluated, dataset, config.evaluate.photos, seed, recognizer=known)
    report["regressor"] = regressor.measure_regressor(evaluated, photos)
    print_regressor(report["regressor"])
    if photos.identity is not None:
        report["identity"] = photos.identity.block(photos.images, seed)
        print_identity(report["identity"])
    report["inversion"] = measure_inversion(evaluated, photos, config)
    report |= measure_edits(evaluated, photos, dataset)
    if dataset.name == "synthetic":
        report["counterfactual"] = counterfactual.measure_counterfactual(evaluated, photos)
    report["pictures"] = save_pictures(evaluated, photos, folder)
    report["seconds"] = time.perf_counter() - start
    return report


def measure_inversion(models: EvaluatedModels, photos: TestPhotos, config: Config) -> Numbers:
    """The `inversion` block; prints its main figures."""
    encoder = inversion.measure_encoder(models, photos)
    print(
        f"evaluate: encoder, PSNR {number(encoder['psnr'], '.1f')} dB, perceptual distance "
        f"{number(encoder['perceptual'])} (closest random sample "
        f"{number(encoder['perceptual_random_best'])}), retrieval "
        f"{number(encoder['retrieval'], '.3f')} (mirrored photos "
        f"{number(encoder['retrieval_ceiling'], '.3f')}){same_person_text(encoder)}"
    )
    block = {"encoder": encoder}
    if config.evaluate.projections:
        block |= inversion.measure_projections(models, photos, config)
        for mode in ("hybrid", "optimize"):
            entry = block[mode]
            share = statistics.ratio(entry["perceptual"], entry["perceptual_encoder"])
            print(
                f"evaluate: {mode}, {number(share, '.2f')} times the encoder's perceptual "
                f"distance, {entry['seconds_per_image']:.2f} s per image{same_person_text(entry)}"
            )
    return block


def measure_edits(models: EvaluatedModels, photos: TestPhotos, dataset: ImageData) -> Numbers:
    """All blocks on edits but `counterfactual`; prints their main figures."""
    report: Numbers = {"edits": edits.measure_edits(models, photos)}
    for name, distances in realism.measure_realism(models, photos, dataset).items():
        report["edits"]["learned"][name] |= distances
    report["edits_mean"] = edits.edits_mean(report["edits"])
    for name, entry in report["edits"]["learned"].items():
        random, removed = (report["edits"][method][name] for method in ("random", "removed"))
        print(
            f"evaluate: {name} +1, target change {number(entry['target_change'], '+.2f')}, leakage "
            f"{number(entry['leakage'], '.3f')} (random directions: "
            f"{number(random['target_change'], '.2f')}, {number(random['leakage'], '.3f')}), "
            f"realism {number(entry['realism'], '.1f')} (unedited photos: "
            f"{number(entry['realism_unedited'], '.1f')}){same_person_text(entry)}"
        )
        print(
            f"evaluate: {name} -1, target change {number(removed['target_change'], '+.2f')}, "
            f"leakage {number(removed['leakage'], '.3f')}{same_person_text(removed)}"
        )
    block = report["set"] = edits.measure_set(models, photos)
    print(
        f"evaluate: --set, mean error {number(block['error'], '.3f')}, by the judge "
        f"{number(block['error_judge'], '.3f')}"
    )
    report["keep_detail"] = edits.measure_keep_detail(models, photos)
    for method, entry in report["keep_detail"]["mean"].items():
        print(
            f"evaluate: +1 {'with' if method == 'keep_detail' else 'without'} --keep_detail, "
            f"retrieval {number(entry['retrieval'], '.3f')}, target change "
            f"{number(entry['target_change'], '+.2f')}, both from the photo"
            f"{same_person_text(entry)}"
        )
    few = photos.subset(sweeps.SWEPT_PHOTOS)
    learned = sweeps.sweep_learned(models, few)
    random = sweeps.sweep_random(models, few)
    compared = photos.subset(comparison.COMPARED_PHOTOS)
    families, _ = comparison.measure_families(
        models, compared, {"learned": models.directions}, comparison.COMPARED_CHANGE
    )
    return report | {
        "strengths": sweeps.measure_strengths(models, few, learned),
        "preservation": sweeps.measure_preservation(models, few, learned, random),
        "comparison": families | {"n_photos": len(compared.labels)},
        "rescoring": {
            "n_photos": len(few.labels),
            "seed": few.seed,
            "matrix": comparison.measure_rescoring(models, few, models.directions),
        },
        "cosines": comparison.measure_cosines(models.directions),
        "consistency": edits.measure_consistency(models, few),
    }


def print_generation(block: Numbers) -> None:
    """The line on the `generation` block."""
    print(
        f"evaluate: fd {block['fd']:.2f} (floor {block['fd_floor']:.2f}), kid {block['kid']:.4f} "
        f"(floor {block['kid_floor']:.4f}), precision {block['precision']:.2f}, recall "
        f"{block['recall']:.2f}"
    )


def print_identity(block: Numbers) -> None:
    """The lines on the `identity` block."""
    for key, limit in block["thresholds"].items():
        if limit is None:
            print(
                f"evaluate: {block['pairs']} pairs of photos are too few for the same person at "
                f"{SAME_PERSON[key]} false accepts, which needs {FALSE_ACCEPTS[key]}; raise "
                "--evaluate_photos"
            )
        else:
            print(
                f"evaluate: {block['model']['file']}, the same person at {SAME_PERSON[key]} false "
                f"accepts: distance below {limit:.4g}, mirrored photos {block['ceiling'][key]:.3f}"
            )


def same_person_text(entry: Numbers) -> str:
    """The shares of the same person of an entry, to end a line with; empty without them."""
    parts = [
        f"{number(entry[key], '.3f')} at {percent}"
        for key, percent in SAME_PERSON.items()
        if key in entry
    ]
    return f", same person {', '.join(parts)}" if parts else ""


def print_regressor(block: Numbers) -> None:
    """The line on the `regressor` block."""
    print(
        f"evaluate: accuracy of the regressor {block['regressor']['accuracy']:.3f}, of the judge "
        f"{block['judge']['accuracy']:.3f} (floor {block['majority']['accuracy']:.3f})"
    )


def calibrated_change(entry: Mapping[str, Any]) -> float:
    """The change at strength +1 in the calibration table of a direction file.

    Raises:
        UserError: the table has no such line.
    """
    for line in entry["calibration"]:
        if line["strength"] == 1.0:
            return line["change"]
    raise UserError(
        f"direction {entry['attribute']}: its calibration table has no line for strength +1; run "
        "--stage=directions --restart"
    )


def save_pictures(models: EvaluatedModels, photos: TestPhotos, folder: Path) -> dict[str, str]:
    """Saves the stage's grids of images; returns their captions by file name."""
    captions = {}

    def save(name: str, cells: np.ndarray, columns: int, caption: str) -> None:
        images.save_png(folder / name, images.grid(cells, columns))
        captions[name] = caption

    resolution = photos.images.shape[1]
    columns = images.columns(resolution)
    z = models.generator.sample_prior(columns**2, seed=photos.seed).numpy()
    save("samples.png", batched(models.sample, z), columns, "Samples of the generator")

    count = columns**2 // 2
    pairs = [photos.images[:count], photos.reconstructions[:count]]
    rows = [
        pad_row(part[start : start + columns], columns)
        for start in range(0, len(pairs[0]), columns)
        for part in pairs
    ]
    caption = "Test photos, and below each row their reconstructions"
    save("reconstructions.png", np.concatenate(rows), columns, caption)

    for name, direction in models.directions.items():
        rows = edits.rows_without(models, photos, name)[: images.examples(resolution, EDITED)]
        if not len(rows):
            continue
        cells = [photos.images[rows], photos.reconstructions[rows]] + [
            edits.edit(models, photos, rows, np.float32(strength) * direction)
            for strength in STRENGTHS
        ]
        columns = len(cells)
        cells = np.stack(cells, axis=1).reshape(-1, *photos.images.shape[1:])
        strengths = ", ".join(f"{strength:+g}" for strength in STRENGTHS)
        caption = f"{name}: photo, reconstruction, strengths {strengths}"
        save(f"edits_{name}.png", cells, columns, caption)
    return captions


def pad_row(row: np.ndarray, count: int) -> np.ndarray:
    """The images of a row, followed by white ones up to `count`."""
    return np.concatenate([row, np.ones((count - len(row), *row.shape[1:]), row.dtype)])
