"""Stage 5: measures the chain on photos that no stage has trained on. Leaves evaluate/report.json.

    cgan evaluate --judge_run=RUN_DIR --generator_run=OTHER_RUN_DIR

judges the generators of two runs, of any resolution, by the judge and the photos of the first,
and leaves evaluate/against_NAME.json there; of a StyleGAN, also how well z and w separate.
The stage itself runs from train_main.py.

Layout of report.json; a figure that has no value is null, a part that does not apply is absent:

    version, seed, seconds              seconds: without the judge's training
    data         name, resolution, digest, n_train, n_validation, n_test
    judge        features (their number), parameters, kimg
    generation   features ("judge"), resolution (the generator's), fd, fd_floor, fd_over_floor,
                 fd_at_32, fd_floor_at_32, kid, kid_std, kid_floor, precision, recall,
                 n_real, n_fake, n_floor, seed
    regressor    n, seed; regressor, judge, majority: {accuracy, balanced_accuracy};
                 attributes: {NAME: {positive, accuracy, balanced_accuracy, judge_accuracy,
                 judge_balanced_accuracy}}
    separability (stylegan)  z, w, n, n_train, seed; attributes: {NAME: {positive, z, w}}
    inversion    encoder: {psnr, ssim, perceptual, identity, seconds_per_image,
                 nearer_than_random, perceptual_random_best, n, n_random, seed};
                 hybrid, optimize (with --evaluate_projections): {psnr, ssim, perceptual,
                 perceptual_encoder, identity, seconds_per_image, n, seed}; hybrid also:
                 seconds_to_optimize
    edits        learned, random: {NAME: {strength, target_change, target_change_from_photo,
                 success, n_success, leakage, ratio, identity, identity_from_photo, n, draws,
                 seed; interval: {target_change, success, leakage, identity}}}; learned also:
                 ratio_over_random, calibrated_change, achieved_change, achieved_change_judge,
                 calibration_error (in interval too), calibration_error_judge, n_calibration
    edits_mean   learned, random: means over the attributes
    keep_detail  (of directions that know where they act)  attributes: {NAME: {keep_detail, plain:
                 {target_change, leakage, identity, interval}, n, seed}}; mean: {keep_detail,
                 plain: {target_change, leakage, identity}}
    set          error, error_judge, strength, met, n, seed; attributes: {NAME: for each value
                 {asked, reached, reached_judge, error, error_judge, strength, met, n, seed}}
    strengths    n_photos, seed; attributes: {NAME: [{strength, target_change, success, leakage,
                 identity, interval: {target_change, success}, n, n_success}, ...]}
    preservation strengths: {learned, random}, n_photos, draws, seed; learned, random:
                 {all: [bin, ...], attributes: {NAME: [bin, ...]}} with bin {above, up_to, n,
                 n_photos, preserved, leakage, identity, interval: {preserved, leakage, identity}}
    comparison   asked, n_photos; attributes: {NAME: {learned, random: {as in edits, reached,
                 length; learned also: random_leakage, random_target_change, leakage_over_random,
                 n_over_random, leakage_over_same_length}}}; mean: {learned, random:
                 {target_change, leakage, identity, length, leakage_over_random,
                 leakage_over_same_length, n_attributes, n_reached}}
    rescoring    n_photos, seed; matrix: {NAME: {every attribute: change}}
    cosines      {NAME: {NAME: cosine}}
    consistency  {NAME: {latent, step, psnr, identity, perceptual, unedited: {latent, psnr,
                 identity}, interval: {latent}, n, n_perceptual, seed}}
    counterfactual (synthetic data)  {NAME: {psnr, psnr_unedited, psnr_ceiling, judge_agreement,
                 judge_agreement_target, true_change, true_leakage, nearer, beats_photo,
                 beats_reconstruction, detail_beats_photo (each also with _judge and _psnr),
                 n_nearer, n, seed}}
    pictures     {file name in evaluate/: caption}

fd is a Frechet distance on the judge's features: fakes against validation and test photos; its
floor puts as many training photos in the fakes' place. Identity is the cosine of the judge's
features: photo against reconstruction (inversion), reconstruction or photo against the edited
image (edits). Edits are +1 on test photos whose label is 0. target_change is the judge's mean
change of probability from reconstruction to edited image, leakage its mean |change| of all other
attributes, success the share of the n_success reconstructions at or below 0.5 that get above;
ratio is target_change / leakage. Random directions have no sign, so their target_change is the
mean size of each one's change. calibration_error is |what R sees on test photos - what the
direction's table, made on validation photos, promises|. perceptual_encoder is the encoder's
distance on the same photos, seconds_to_optimize the hybrid's per image until its mean distance is
within 5 % of optimize's last one. keep_detail is +1 on the photo itself, which gets only the
difference that the edit makes (translate's --keep_detail), beside plain translation; there all
figures count from the photo and not from its reconstruction. In set, --set gives each value to test
photos of either label; error is the mean |value - asked|, strength the mean |strength|, met the
share of the photos whose direction reaches the value. separability is the balanced accuracy with
which a hyperplane in z, and one in w, tells what the judge says of held-out samples. An interval is
[low, high]: 95 % of the figure's values over 1,000 bootstrap draws of the photos.

strengths: + on photos without the attribute, - on those with it, whose success is to get to 0.5 or
below.
preservation: all those edits, and those along `draws` random directions at 1 to 6 times the mean
length, in bins of the judge's |target change|; preserved is the share of the other attributes that
it sees on the same side of 0.5 as before, n edits of n_photos photos. A random step that hardly
moves its target may still be a long one: see comparison.
comparison: every method at the length at which the mean change is `asked` within 1 % or, where it
does not get there, largest; reached says whether it does (of random directions: how many).
leakage_over_random compares with each random direction that raises the attribute by 0.02 or more
(n_over_random of them) at the largest change that both reach, up to `asked`.
rescoring: the judge's mean change of every attribute at +1 along the direction of each, on photos
without it.
consistency: edit by +1, encode the edited image, take the edit back; latent is the distance to
where it began, step the length of the edit, psnr, identity and perceptual compare the images,
unedited is the same way without an edit.

In counterfactual, psnr is the edited reconstruction against the true edited face, psnr_unedited
against the unedited photo, psnr_ceiling the true face's own reconstruction against it. Four
questions to each edited reconstruction, as shares of yes: nearer, is it nearer to the true edited
face than to the unedited photo; beats_photo, is it nearer to the true edited face than the unedited
photo is; beats_reconstruction, than the photo's reconstruction is, which has the same error of
inversion; detail_beats_photo, as beats_photo, of the photo to which only the edit's difference is
added, as --keep_detail does it. By the perceptual distance on
n_nearer of them, by the judge's features (_judge), by psnr (_psnr). true_change and true_leakage
are what the judge sees of the true edit.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cgan_tf import data
from cgan_tf.core.config import Config
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_json
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.data import images

if TYPE_CHECKING:  # at run time they would import TensorFlow, with its start-up lines
    from cgan_tf.evaluation.statistics import Numbers
    from cgan_tf.evaluation.subject import Chain, Photos
    from cgan_tf.networks.judge import Judge

VERSION = 2  # of report.json's layout
SAMPLES = 64  # in samples.png
RECONSTRUCTIONS = 32  # photos in reconstructions.png
EDITED = 8  # photos in each edits_NAME.png
STRENGTHS = (-1.0, -0.5, 0.5, 1.0)  # of the columns of edits_NAME.png


def run(config: Config, folder: RunFolder, dataset: data.ImageData) -> None:
    """Trains the judge and measures the run in `folder`/evaluate, unless that is done.

    Args:
        config: the resolved options.
        folder: the run; its gan, regressor, inversion and directions stages have finished.
        dataset: labels and the three splits.

    Raises:
        UserError: a stage is missing, or the data has no labels.
        Interrupted: a signal during the judge's training; it has been saved.
    """
    from cgan_tf.editing import models, network
    from cgan_tf.stages import judge
    from cgan_tf.training import cluster, precision

    stage = folder.stage("evaluate")
    if not stage.begin(config, dataset.digest):
        return
    precision.seed_everything(config)
    judge_model = judge.ensure_judge(config, stage, dataset)
    cluster.leave_to_chief()
    editor = network.EditingNetwork.from_run(folder.path, scores=True)
    entries = models.read_directions(folder, editor.generator.latent_shape)
    report = measure_all(config, dataset, stage.path, judge_model, editor, entries)
    write_json(stage.path / "report.json", report)
    stage.finish(kimg=config.evaluate.judge_kimg)


def measure_all(
    config: Config,
    dataset: data.ImageData,
    folder: Path,
    judge: "Judge",
    translator,
    directions: dict[str, dict],
) -> "Numbers":
    """The whole report; draws the pictures into `folder`.

    Args:
        config: for seed, eval_fakes, eval_photos and judge_kimg.
        dataset: at the judge's resolution.
        folder: of the pictures.
        judge: trained.
        translator: a `EditingNetwork` with its regressor.
        directions: the direction files by attribute.
    """
    from cgan_tf.editing import detail
    from cgan_tf.evaluation import (
        counterfactual,
        edits,
        generation,
        inversion,
        statistics,
        subject,
    )

    start, seed = time.perf_counter(), config.seed
    chain = subject.Chain(
        translator,
        judge,
        {name: promised(entry) for name, entry in directions.items()},
        detail.KeepDetail.of(
            detail.entries(directions), translator.attributes, translator.resolution, folder
        ),
    )
    report: Numbers = {
        "version": VERSION,
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
    }
    fakes = config.evaluate.samples
    generation = generation.measure_generator(chain.generator, judge, dataset, fakes, seed)
    report["generation"] = generation
    print(
        f"evaluate: fd {generation['fd']:.2f} (floor {generation['fd_floor']:.2f}), "
        f"precision {generation['precision']:.2f}, recall {generation['recall']:.2f}"
    )
    if config.gan.arch == "stylegan":
        separability = report["separability"] = generation.measure_separability(
            chain.generator, judge, seed
        )
        print(
            "evaluate: hyperplanes tell attributes at "
            f"{_text(separability['z'], '.3f')} in z, {_text(separability['w'], '.3f')} in w"
        )
    photos = subject.Photos(chain, dataset, config.evaluate.photos, seed)
    regressor = report["regressor"] = inversion.measure_regressor(chain, photos)
    print(
        f"evaluate: accuracy of the regressor {regressor['regressor']['accuracy']:.3f}, "
        f"of the judge {regressor['judge']['accuracy']:.3f}"
    )
    inverted = report["inversion"] = inversion.measure_inversion(chain, photos)
    print(
        f"evaluate: reconstructions at {inverted['encoder']['psnr']:.1f} dB, nearer than the best "
        f"random sample {inverted['encoder']['nearer_than_random']:.1%}"
    )
    if config.evaluate.projections:
        found = inversion.measure_projections(chain, photos, config)
        inverted.update(found)
        for mode, entry in found.items():
            share = statistics.ratio(entry["perceptual"], entry["perceptual_encoder"])
            print(
                f"evaluate: {mode} at {_text(share, '.2f')} of the encoder's distance, "
                f"{entry['seconds_per_image']:.2f} s an image"
            )
    measured = report["edits"] = edits.measure_edits(chain, photos)
    report["edits_mean"] = edits.edits_mean(measured)
    for name, entry in measured["learned"].items():
        change, leakage = _text(entry["target_change"], "+.2f"), _text(entry["leakage"], ".3f")
        print(f"evaluate: {name} +1 changes its probability by {change}, the others by {leakage}")
    settings = report["set"] = edits.measure_set(chain, photos)
    print(
        f"evaluate: --set misses by {_text(settings['error'], '.3f')}, by the judge "
        f"{_text(settings['error_judge'], '.3f')}"
    )
    if chain.keep_detail is not None:
        kept = report["keep_detail"] = edits.measure_keep_detail(chain, photos)
        for method, words in (("keep_detail", "with --keep_detail"), ("plain", "without")):
            entry = kept["mean"][method]
            print(
                f"evaluate: +1 {words} keeps {_text(entry['identity'], '.3f')} of the photo's "
                f"identity and changes {_text(entry['target_change'], '+.2f')}"
            )
    report |= _measure_more_edits(chain, photos)
    if dataset.name == "synthetic":
        report["counterfactual"] = counterfactual.measure_counterfactual(chain, photos)
    report["pictures"] = draw_pictures(chain, photos, folder)
    report["seconds"] = time.perf_counter() - start
    return report


def _measure_more_edits(chain: "Chain", photos: "Photos") -> "Numbers":
    """The blocks on edits beside +1: over strengths, at equal change, between attributes."""
    from cgan_tf.evaluation import comparison, edits, sweeps

    some = photos.some(sweeps.SWEPT_PHOTOS)
    learned = sweeps.sweep_learned(chain, some)
    compared = photos.some(comparison.COMPARED_PHOTOS)
    families, _ = comparison.measure_families(
        chain, compared, {"learned": chain.directions}, comparison.COMPARED_CHANGE
    )
    return {
        "strengths": sweeps.measure_strengths(chain, some, learned),
        "preservation": sweeps.measure_preservation(
            chain, some, learned, sweeps.sweep_random(chain, some)
        ),
        "comparison": families | {"n_photos": len(compared.labels)},
        "rescoring": {
            "n_photos": len(some.labels),
            "seed": some.seed,
            "matrix": comparison.measure_rescoring(chain, some, chain.directions),
        },
        "cosines": comparison.measure_cosines(chain.directions),
        "consistency": edits.measure_consistency(chain, some),
    }


def promised(entry: dict) -> float:
    """The change that a direction's calibration table promises at strength +1.

    Raises:
        UserError: the table has no such line.
    """
    for line in entry["calibration"]:
        if line["strength"] == 1.0:
            return line["change"]
    raise UserError(
        f"direction {entry['attribute']}: its calibration has no line for strength +1; "
        "run --stage=directions --restart"
    )


def draw_pictures(chain: "Chain", photos: "Photos", folder: Path) -> dict[str, str]:
    """Saves the stage's pictures; returns their captions by file name."""
    from cgan_tf.evaluation import edits, subject

    captions = {}

    def save(name: str, cells: np.ndarray, columns: int, caption: str) -> None:
        images.save_png(folder / name, images.grid(cells, columns))
        captions[name] = caption

    z = chain.generator.sample_prior(SAMPLES, seed=photos.seed).numpy()
    save("samples.png", subject.batched(chain.sample, z), 8, "Samples of the generator")

    pairs = [photos.images[:RECONSTRUCTIONS], photos.reconstructions[:RECONSTRUCTIONS]]
    rows = [part[start : start + 8] for start in range(0, len(pairs[0]), 8) for part in pairs]
    whole = [_filled(row, 8) for row in rows]
    save("reconstructions.png", np.concatenate(whole), 8,
         "Test photos, and below each row their reconstructions")  # fmt: skip

    for name, direction in chain.directions.items():
        rows = edits.rows_without(chain, photos, name)[:EDITED]
        if not len(rows):
            continue
        columns = [photos.images[rows], photos.reconstructions[rows]] + [
            chain.generate(photos.latents[rows] + np.float32(strength) * direction)
            for strength in STRENGTHS
        ]
        cells = np.stack(columns, axis=1).reshape(-1, *photos.images.shape[1:])
        strengths = ", ".join(f"{strength:+g}" for strength in STRENGTHS)
        save(f"edits_{name}.png", cells, len(columns),
             f"{name}: photo, reconstruction, strengths {strengths}")  # fmt: skip
    return captions


def _filled(row: np.ndarray, count: int) -> np.ndarray:
    """The images of a row, made `count` by white ones."""
    return np.concatenate([row, np.ones((count - len(row), *row.shape[1:]), row.dtype)])


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)

