"""Train, evaluate and export an attribute editor, stage by stage or all at once.

    cgan train --stage=all --run_dir=runs/faces --preset=demo
    cgan train --stage=gan --run_dir=runs/mine --data=folder --data_dir=photos

The same command again resumes where it stopped. A run folder remembers its options: later commands
need only --stage and --run_dir. `python train_main.py` in a checkout is the same command.
"""

import dataclasses
import json
import os
import sys
import textwrap
from typing import TYPE_CHECKING, Any

from absl import flags

from cgan_tf.core import config, options, presets, quiet, rules
from cgan_tf.core.cli import closest
from cgan_tf.core.config import OPTIONS, STAGES, Config
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
    """The command's flags: its own, and one for each option."""
    flags.DEFINE_string("stage", None, f"One of {', '.join(STAGES)}, or all.")
    flags.DEFINE_string("run_dir", None, "Folder of the run: options, models, figures, report.")
    flags.DEFINE_bool("dry_run", False, "Print the resolved options and stop.")
    flags.DEFINE_bool(
        "restart",
        False,
        "Move the folders of the stage and of those that depend on it aside, and start over.",
    )
    for flag, option in OPTIONS.items():
        flags.DEFINE_string(flag, None, _help(flag, option))


def _help(flag: str, option: config.Option) -> str:
    unit = f" [{option.metadata['unit']}]" if option.metadata["unit"] else ""
    choices = tuple(presets.PRESETS) if flag == "preset" else option.metadata["choices"]
    choices = f" One of {', '.join(choices)}." if choices else ""
    default = "auto" if option.auto else option.default
    default = "" if default in (None, "", ()) else f" Default: {presets.text(default)}."
    return f"{option.metadata['help']}{unit}.{choices}{default}"


def resolve(run: RunFolder) -> tuple[Config, dict[str, Any]]:
    """The resolved options of this command, and what was requested by flags, now and before.

    A new run gets the defaults, its preset and the flags; an existing one its stored options and
    the flags. Devices are not stored: without the flag each command uses what the machine has.

    Raises:
        UserError: a flag's value makes no sense, or the run folder is not one of this version.
    """
    given = {
        flag: options.parse(flag, getattr(FLAGS, flag))
        for flag in OPTIONS
        if flag != "preset" and getattr(FLAGS, flag) is not None
    }
    content = run.read()
    stored = config.from_dict(content["options"]) if content else None
    requested = dict(content["requested"]) if content else {}
    requested |= {flag: list(v) if isinstance(v, tuple) else v for flag, v in given.items()}
    if stored is not None and "devices" not in given:
        given["devices"] = tuple(requested.get("devices", OPTIONS["devices"].default))
    return options.resolve(options.make(FLAGS.preset, given, stored)), requested


def chosen_stages() -> tuple[str, ...]:
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


def check_ahead(
    resolved: Config,
    run: RunFolder,
    dataset: "ImageData",
    stages: tuple[str, ...],
    restarted: tuple[str, ...],
) -> None:
    """Refuses now what a later stage of this command would refuse hours later.

    Args:
        resolved: the options.
        run: the run folder, before anything is moved aside.
        dataset: the photos.
        stages: what this command does.
        restarted: stages that start over.

    Raises:
        UserError: the data has no labels, requested VGG16 weights are not available, or an
            attribute is unknown.
    """
    from cgan_tf.editing import models
    from cgan_tf.stages import regressor

    work = [name for name in stages if name in restarted or not run.stage(name).finished()]
    if "regressor" in work:
        resuming = "regressor" not in restarted and run.stage("regressor").has_work()
        regressor.check(resolved, dataset, resuming)
    if {"inversion", "directions"} & set(work):
        models.check_perceptual(resolved)


def prepare(
    resolved: Config, requested: dict[str, Any], run: RunFolder, stages: tuple[str, ...]
) -> tuple[Config, "ImageData"]:
    """Checks and records everything before the first stage; only the chief does it.

    Raises:
        UserError: the options fit neither the data nor what the run folder holds.
    """
    from cgan_tf import data
    from cgan_tf.stages import directions
    from cgan_tf.training import precision

    run.lock()
    # Recorded, so that a run resumes in the same precision on another machine.
    resolved = dataclasses.replace(resolved, precision=precision.compute_policy(resolved))
    dataset = data.open_data(resolved)
    edits = bool(set(stages) & {"directions", "evaluate", "export"})
    if dataset.attribute_names and (resolved.attributes or edits):
        chosen = directions.choose_attributes(resolved, dataset)
        resolved = dataclasses.replace(resolved, attributes=chosen)
        rules.check_attributes(resolved, chosen, dataset.attribute_names)
    # What was made from a stage that starts over is stale.
    restarted = config.with_dependents(stages) if FLAGS.restart else ()
    check_ahead(resolved, run, dataset, stages, restarted)
    run.check_options(resolved, restarted)
    for stage in restarted:
        run.restart(stage)
    if set(restarted) & set(CUSTOM_NEEDS):
        run.restart_custom()
    if resolved.preset and not run.read():
        print(f"preset {resolved.preset}: {presets.describe(resolved.preset)}")
    run.save_config(
        resolved,
        {
            "name": dataset.name,
            "size": len(dataset.files),
            "digest": dataset.digest,
            "attribute_names": list(dataset.attribute_names),
        },
        requested,
    )
    return resolved, dataset


def follow(run: RunFolder, message: str) -> tuple[Config, "ImageData"]:
    """What `prepare` returned on the chief, on another worker.

    Raises:
        UserError: this worker sees other photos than the chief.
    """
    from cgan_tf import data

    run.writes = False
    content = json.loads(message)
    resolved = config.from_dict(content["options"])
    dataset = data.open_data(resolved, say=lambda line: None)
    if dataset.digest != content["digest"]:
        raise UserError(
            f"--data_dir={resolved.data_dir}: this worker sees other photos or labels than the "
            "chief"
        )
    return resolved, dataset


def main() -> None:
    """Runs the stages of the command line."""
    stages = chosen_stages()
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
        return cluster.start(resolved.devices, workers)

    devices = quiet.import_tensorflow(start_devices)
    resolved = dataclasses.replace(resolved, devices=devices)
    from cgan_tf import export
    from cgan_tf.core import replicas
    from cgan_tf.stages import directions, evaluate, gan, inversion, regressor
    from cgan_tf.training import cluster

    rules.check_replicas(resolved, replicas.strategy().num_replicas_in_sync)
    with cluster.lost_workers_named():
        chief = replicas.is_chief()
        message = ""
        if chief:
            cluster.announce(resolved, run.read().get("options", {}))
            resolved, dataset = prepare(resolved, requested, run, stages)
            message = json.dumps({"options": config.to_dict(resolved), "digest": dataset.digest})
        message = cluster.from_chief(message)
        if not chief:
            resolved, dataset = follow(run, message)
        work = {
            "gan": gan.run,
            "regressor": regressor.run,
            "inversion": inversion.run,
            "directions": directions.run,
            "evaluate": evaluate.run,
            "export": export.run if chief else lambda *_: None,
        }
        for stage in stages:
            try:
                work[stage](resolved, run, dataset)
            except cluster.Done:
                pass
            finally:
                if chief:
                    path = write_report(run)
            cluster.wait_for_all()
    if chief and path:
        print(f"report: {path}")


def write_report(run: RunFolder) -> "os.PathLike | None":
    """Writes report.html; a failure is a note, so that it never hides the stage's own error."""
    try:
        from cgan_tf.report import page

        return page.write(run)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        print(f"note: report.html was not written ({reason})", file=sys.stderr)
        return None
