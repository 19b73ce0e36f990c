"""Train, evaluate and export an attribute editor, stage by stage or all at once.

    cgan train --stage=all --run_dir=runs/faces --preset=demo
    cgan train --stage=gan --run_dir=runs/mine --data=folder --data_dir=photos

The same command again resumes training. A run folder stores its options: later commands need only
--stage and --run_dir. `python train_main.py` in a checkout is the same command.
"""

import dataclasses
import importlib.util
import json
import os
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from cgan_tf.core import config, options, presets, quiet, rules
from cgan_tf.core.cli import closest
from cgan_tf.core.config import AUTO, OPTIONS, STAGES, Config
from cgan_tf.core.errors import UserError
from cgan_tf.core.run_folder import CUSTOM_NEEDS, RunFolder

if TYPE_CHECKING:  # at run time it would import TensorFlow, with its start-up lines
    from cgan_tf.data import ImageData

FLAGS = flags.FLAGS
FLAG_GROUPS = {
    f"Stage {stage}": [flag for flag, option in OPTIONS.items() if option.section == stage]
    for stage in STAGES
}
HELP_EPILOGUE = "Presets:\n" + "\n".join(
    textwrap.fill(
        f"{name}  {presets.describe(name)}", 96, initial_indent="  ", subsequent_indent=" " * 6
    )
    for name in presets.PRESETS
)


def define_flags() -> None:
    """Defines the command's own flags and one for each option."""
    flags.DEFINE_string("stage", None, f"One of {', '.join(STAGES)}, or all.")
    flags.DEFINE_string("run_dir", None, "Folder of the run: options, models, statistics, report.")
    flags.DEFINE_bool("dry_run", False, "Print the resolved options and stop.")
    flags.DEFINE_bool(
        "restart",
        False,
        "Move the folders of the stage and its dependents aside and start over.",
    )
    for flag, option in OPTIONS.items():
        flags.DEFINE_string(flag, None, _help(flag, option))


def _help(flag: str, option: config.Option) -> str:
    unit = f" [{option.metadata['unit']}]" if option.metadata["unit"] else ""
    choices = tuple(presets.PRESETS) if flag == "preset" else option.metadata["choices"]
    choices = f" One of {', '.join(choices)}." if choices else ""
    default = "auto" if option.auto and option.default is None else option.default
    default = "" if default in (None, "", ()) else f" Default: {presets.text(default)}."
    return f"{option.metadata['help']}{unit}.{choices}{default}"


def resolve(run: RunFolder) -> tuple[Config, dict[str, Any]]:
    """The resolved options of this command, and the options given by flags, now and earlier.

    A new run takes the defaults, the preset and the flags; an existing one its stored options and
    the flags. The stored devices are those of the machine that trained last, so an existing run
    takes the requested ones, or again `auto`.

    Raises:
        UserError: a flag's value makes no sense, or the run folder is of another format.
    """
    given = {
        flag: options.parse(flag, getattr(FLAGS, flag))
        for flag in OPTIONS
        if flag != "preset" and getattr(FLAGS, flag) is not None
    }
    content = run.read()
    stored = config.from_dict(content["options"]) if content else None
    requested = content.get("requested", {}) | {
        flag: list(value) if isinstance(value, tuple) else value for flag, value in given.items()
    }
    if stored is not None:
        devices = tuple(requested.get("devices", OPTIONS["devices"].default))
        stored = dataclasses.replace(stored, devices=devices)
    made = options.make(FLAGS.preset, given, stored, content.get("requested", {}))
    return options.resolve(made), requested


def requested_stages() -> tuple[str, ...]:
    """The stages that --stage names, in order."""
    if FLAGS.stage == "all":
        return STAGES
    if not FLAGS.stage:
        raise UserError(f"--stage: not given; one of {', '.join(STAGES)}, or all")
    if FLAGS.stage not in STAGES:
        raise UserError(
            f"--stage={FLAGS.stage}: one of {', '.join(STAGES)}, or all"
            f"{closest(FLAGS.stage, (*STAGES, 'all'))}"
        )
    return (FLAGS.stage,)


def check_stages(
    resolved: Config,
    run: RunFolder,
    dataset: "ImageData",
    stages: tuple[str, ...],
    restarted: tuple[str, ...],
) -> None:
    """Checks before the first stage what a later one would refuse after hours of training.

    Args:
        resolved: the options.
        run: the run folder, before anything is moved aside.
        dataset: the photos.
        stages: the stages of this command.
        restarted: the stages that start over.

    Raises:
        UserError: the data has no labels, an attribute's photos are all of one class, the requested
            VGG16 weights are not available, or the face recognizer is unusable.
    """
    from cgan_tf.editing import models, recognizer
    from cgan_tf.stages import directions, regressor

    work = unfinished(run, stages, restarted)
    if "regressor" in work:
        resuming = "regressor" not in restarted and run.stage("regressor").has_progress()
        regressor.check(resolved, dataset, resuming)
    if "directions" in work:
        directions.check(resolved, dataset)
    if {"inversion", "directions"} & set(work):
        models.check_perceptual(resolved)
    if "evaluate" in work and resolved.evaluate.identity_model:
        recognizer.load(resolved.evaluate.identity_model, "evaluate_identity_model")


def unfinished(
    run: RunFolder, stages: tuple[str, ...], restarted: tuple[str, ...]
) -> tuple[str, ...]:
    """The stages of this command that have work to do."""
    return tuple(name for name in stages if name in restarted or not run.stage(name).finished())


def report_devices(resolved: Config, requested: dict[str, Any], stages: Sequence[str]) -> None:
    """Prints what the training runs on, and why not on a GPU that is there.

    Args:
        resolved: the options, precision included.
        requested: the options given by flags.
        stages: those that have work to do.

    Raises:
        UserError: a batch cannot fit into the devices' memory.
    """
    from cgan_tf.core import replicas
    from cgan_tf.training import devices, memory

    found, names = devices.find(), resolved.devices
    for line in devices.summary(found, names, resolved.precision, "devices" in requested):
        print(line)
    size = memory.available(found, names, resolved.gpu_memory_gib)
    memory.check(resolved, stages, replicas.strategy().num_replicas_in_sync, size)


def measure_batch(resolved: Config, photos: int, begins: bool) -> Config:
    """The options with the batch size that --gan_batch_size=auto finds.

    A GAN that has made progress keeps its batch size.

    Args:
        resolved: the options, with the batch size to begin with.
        photos: number of training photos, the largest batch.
        begins: whether this command starts the GAN from scratch.

    Raises:
        UserError: there are several workers.
    """
    from cgan_tf.core import replicas
    from cgan_tf.stages import speed
    from cgan_tf.training import memory

    if FLAGS.gan_batch_size != AUTO or not begins:
        return resolved
    if replicas.workers() > 1:
        raise UserError(
            "--gan_batch_size=auto: cannot be measured with several workers (TF_CONFIG); give a "
            "number"
        )
    with memory.exhaustion_reported("gan", resolved):
        batch = speed.largest_batch(resolved, min(speed.LARGEST_BATCH, photos), print)
    return config.replace(resolved, gan_batch_size=batch)


def prepare(
    resolved: Config, requested: dict[str, Any], run: RunFolder, stages: tuple[str, ...]
) -> tuple[Config, "ImageData"]:
    """Checks the options, moves restarted stages aside and writes config.json; on the chief only.

    Args:
        resolved: the options, but for the precision and the attributes.
        requested: the options given by flags.
        run: the run folder.
        stages: the stages of this command.

    Returns:
        The resolved options and the data set.

    Raises:
        UserError: the options do not fit the data, or a stage that the run folder contains.
    """
    from cgan_tf import data
    from cgan_tf.stages import directions, init_from
    from cgan_tf.training import precision

    if resolved.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise UserError(
            "--tensorboard=true: the package tensorboard is not installed; run pip install "
            "tensorboard, or take --tensorboard=false"
        )
    run.lock()
    resolved = precision.resolve(resolved)
    restarted = config.with_dependents(stages) if FLAGS.restart else ()
    init_from.check(resolved, run, stages, restarted)
    work = unfinished(run, stages, restarted)
    if work:
        report_devices(resolved, requested, work)
    dataset = data.open_data(resolved)
    edits = bool(set(stages) & {"features", "directions", "evaluate", "export"})
    if dataset.attribute_names and (resolved.attributes or edits):
        chosen = directions.choose_attributes(resolved, dataset)
        resolved = dataclasses.replace(resolved, attributes=chosen)
        rules.check_attributes(resolved, chosen, dataset.attribute_names)
    check_stages(resolved, run, dataset, stages, restarted)
    begins = "gan" in work and ("gan" in restarted or not run.stage("gan").has_progress())
    resolved = measure_batch(resolved, len(dataset.splits["train"]), begins)
    run.check_options(resolved, restarted)
    for stage in restarted:
        run.restart(stage)
    if set(restarted) & set(CUSTOM_NEEDS):
        run.restart_custom_attributes()
    if resolved.preset and not run.read():
        print(f"preset {resolved.preset}: {presets.describe(resolved.preset)}")
    run.save_config(
        resolved,
        {
            "name": dataset.name,
            "size": len(dataset.files),
            "digest": dataset.digest,
            "attribute_names": list(dataset.attribute_names),
            "notes": list(dataset.notes),
            "framing": dataset.framing,
        },
        requested,
    )
    return resolved, dataset


def prepare_workers(
    resolved: Config, requested: dict[str, Any], run: RunFolder, stages: tuple[str, ...]
) -> tuple[Config, "ImageData"]:
    """`prepare` on the chief; the other workers get its options and open the same data set.

    Raises:
        UserError: `prepare` raised it, on all workers; or this worker's data set differs from the
            chief's.
    """
    from cgan_tf import data
    from cgan_tf.core import replicas
    from cgan_tf.training import cluster

    dataset = None

    def prepare_on_chief() -> dict[str, Any]:
        nonlocal resolved, dataset
        cluster.announce(resolved, run.read().get("options", {}))
        resolved, dataset = prepare(resolved, requested, run, stages)
        return {"options": config.to_dict(resolved), "digest": dataset.digest}

    prepared = cluster.on_chief(prepare_on_chief)
    if replicas.is_chief():
        return resolved, dataset
    run.writes = False
    resolved = config.from_dict(prepared["options"])
    dataset = data.open_data(resolved, say=lambda line: None)
    if dataset.digest != prepared["digest"]:
        raise UserError(
            f"--data_dir={resolved.data_dir}: the photos or labels differ from the chief's; give "
            "every worker the same ones"
        )
    return resolved, dataset


def main() -> None:
    """Runs the stages of the command line."""
    options.check_preset(FLAGS.preset)  # a mistyped name comes before a flag that is missing
    stages = requested_stages()
    if not FLAGS.run_dir:
        raise UserError("--run_dir: give the folder of the run, e.g. --run_dir=runs/faces")
    run = RunFolder(FLAGS.run_dir)
    resolved, requested = resolve(run)
    run.check_order(stages)
    if FLAGS.dry_run:
        print(json.dumps(config.to_dict(resolved), indent=2))
        return

    def start_devices() -> tuple[str, ...]:
        from cgan_tf.training import cluster

        workers = cluster.parse_cluster(os.environ.get("TF_CONFIG"))
        return cluster.start(resolved.devices, workers, resolved.gpu_memory_gib)

    devices = quiet.import_tensorflow(start_devices)
    resolved = dataclasses.replace(resolved, devices=devices)
    from cgan_tf import export
    from cgan_tf.core import replicas
    from cgan_tf.stages import directions, evaluate, features, gan, inversion, regressor
    from cgan_tf.training import cluster, memory

    rules.check_replicas(resolved, replicas.strategy().num_replicas_in_sync)
    with cluster.report_lost_workers():
        chief = replicas.is_chief()
        resolved, dataset = prepare_workers(resolved, requested, run, stages)
        work = {
            "gan": gan.run,
            "regressor": regressor.run,
            "inversion": inversion.run,
            "features": features.run,
            "directions": directions.run,
            "evaluate": evaluate.run,
            "export": export.run if chief else lambda *_: None,
        }
        for stage in stages:
            failure = None
            try:
                with memory.exhaustion_reported(stage, resolved):
                    work[stage](resolved, run, dataset)
            except cluster.Done:
                pass
            except UserError as error:
                failure = error
            finally:
                if chief:
                    path = write_report(run)
            cluster.end_together(failure)
    if chief and path:
        print(f"report: {path}")


def write_report(run: RunFolder) -> "os.PathLike | None":
    """Writes report.html; None and a note if that fails, so that a stage's error is not hidden."""
    try:
        from cgan_tf.report import page

        return page.write(run)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        print(f"note: report.html was not written ({reason})", file=sys.stderr)
        return None
