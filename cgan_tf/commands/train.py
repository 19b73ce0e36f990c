"""Train, evaluate and export an attribute editor, stage by stage or all at once.

    python train_main.py --stage=all --run_dir=runs/faces --preset=demo
    python train_main.py --stage=gan --run_dir=runs/mine --data=folder --data_dir=photos

The same command again goes on where it stopped. A run folder remembers its options: later
commands need only --stage and --run_dir.
"""

import dataclasses
import json
import os
import secrets

from absl import flags

from cgan_tf.core import config
from cgan_tf.core.config import FIELDS, STAGES, Config
from cgan_tf.core.errors import UserError
from cgan_tf.core.run_folder import OWN_NEEDS, RunFolder

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command's flags: its own, and one for each option."""
    flags.DEFINE_string("stage", None, f"One of {', '.join(STAGES)}, or all.")
    flags.DEFINE_string("run_dir", None, "Folder of this chain: options, figures, models, report.")
    flags.DEFINE_bool("dry_run", False, "Print the resolved options and stop.")
    flags.DEFINE_bool(
        "restart",
        False,
        "Move the folders of the stage and of those that need it aside, and begin it anew.",
    )
    for name, field in FIELDS.items():
        unit = f" [{field.metadata['unit']}]" if field.metadata["unit"] else ""
        choices = field.metadata["choices"] if name != "preset" else tuple(config.PRESETS)
        choices = f" One of {', '.join(choices)}." if choices else ""
        default = field.default
        if isinstance(default, tuple):
            default = ",".join(map(str, default))
        default = "" if default in (None, "") else f" Default: {default}."
        flags.DEFINE_string(name, None, f"{field.metadata['help']}{unit}.{choices}{default}")


def resolve(run: RunFolder) -> Config:
    """The options of this command: a new run's, or an existing run's with what was given.

    Raises:
        UserError: a flag's value makes no sense, or the run folder is not ours.
    """
    given = {
        name: config.parse(name, getattr(FLAGS, name))
        for name in FIELDS
        if name != "preset" and getattr(FLAGS, name) is not None
    }
    content = run.read()
    stored = config.from_dict(content["options"]) if content else None
    resolved = config.make(FLAGS.preset, given, stored)
    if resolved.seed is None:
        resolved = dataclasses.replace(resolved, seed=secrets.randbelow(2**31))
    if resolved.cache_dir is None:
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        resolved = dataclasses.replace(resolved, cache_dir=os.path.join(cache, "cgan_tf"))
    return resolved


def chosen_stages() -> tuple[str, ...]:
    """The stages that --stage names, in order."""
    if FLAGS.stage == "all":
        return STAGES
    if not FLAGS.stage:
        raise UserError(f"--stage: not given; one of {', '.join(STAGES)}, or all")
    if FLAGS.stage not in STAGES:
        raise UserError(
            f"--stage={FLAGS.stage}: one of {', '.join(STAGES)}, or all"
            f"{config.closest(FLAGS.stage, (*STAGES, 'all'))}"
        )
    return (FLAGS.stage,)


def check_ahead(
    options: Config, run: RunFolder, dataset, stages: tuple[str, ...], restarted: tuple[str, ...]
) -> None:
    """Refuses now what a later stage of this command would refuse hours later.

    Args:
        options: the resolved options.
        run: the run folder, as it is before anything is moved aside.
        dataset: the photos.
        stages: what is to be done.
        restarted: stages that begin anew.

    Raises:
        UserError: the data has no labels, VGG16's weights that are asked for cannot be had, or
            --hold does not fit.
    """
    from cgan_tf.stages import directions, inversion, regressor

    work = [name for name in stages if name in restarted or not run.stage(name).finished()]
    if "regressor" in work:
        began = "regressor" not in restarted and run.stage("regressor").has_work()
        regressor.check(options, dataset, began)
    if {"inversion", "directions"} & set(work):
        inversion.check(options)
    if "directions" in work:
        directions.check_hold(options, directions.choose_attributes(options, dataset), dataset)


def prepare(options: Config, run: RunFolder, stages: tuple[str, ...]) -> tuple:
    """All that the chief checks and writes before the first stage: (options, data set).

    Raises:
        UserError: the options fit neither the data nor what the run folder holds.
    """
    from cgan_tf import data
    from cgan_tf.stages import directions
    from cgan_tf.training import precision

    run.lock()
    # Recorded, so that a run goes on as it began on another machine too.
    options = dataclasses.replace(options, precision=precision.compute_policy(options))
    dataset = data.open_data(options)
    edits = bool(set(stages) & {"directions", "evaluate", "export"})
    if dataset.attribute_names and (options.attributes or edits):
        options = dataclasses.replace(
            options, attributes=directions.choose_attributes(options, dataset)
        )
    # What was made from a stage that begins anew is stale.
    restarted = config.with_dependents(stages) if FLAGS.restart else ()
    check_ahead(options, run, dataset, stages, restarted)
    run.check_options(options, restarted)
    for stage in restarted:
        run.restart(stage)
    if set(restarted) & set(OWN_NEEDS):
        run.restart_own()
    run.save_config(
        options,
        {
            "name": dataset.name,
            "size": len(dataset.files),
            "digest": dataset.digest,
            "attribute_names": list(dataset.attribute_names),
        },
    )
    return options, dataset


def follow(run: RunFolder, chief: str) -> tuple:
    """What `prepare` has made, on a worker that is not the chief: (options, data set).

    Raises:
        UserError: this worker sees other photos than the chief.
    """
    from cgan_tf import data

    run.writes = False
    content = json.loads(chief)
    options = config.from_dict(content["options"])
    dataset = data.open_data(options, say=lambda line: None)
    if dataset.digest != content["digest"]:
        raise UserError(
            f"--data_dir={options.data_dir}: this worker sees other photos or labels than the chief"
        )
    return options, dataset


def main() -> None:
    stages = chosen_stages()
    if not FLAGS.run_dir:
        raise UserError("--run_dir: give the folder of this chain, e.g. --run_dir=runs/faces")
    run = RunFolder(FLAGS.run_dir)
    options = resolve(run)
    run.check_order(stages)
    if FLAGS.dry_run:
        print(json.dumps(config.to_dict(options), indent=2))
        return
    from cgan_tf.core import quiet

    def start_devices() -> str:
        from cgan_tf.training import cluster

        return cluster.start(
            options, cluster.parse_cluster(os.environ.get("TF_CONFIG"))
        )

    # Recorded as it was resolved, as the precision is.
    options = dataclasses.replace(
        options, distribution=quiet.import_tensorflow(start_devices)
    )
    from cgan_tf import export
    from cgan_tf.core import replicas
    from cgan_tf.report import page
    from cgan_tf.stages import directions, evaluate, gan, inversion, regressor
    from cgan_tf.training import cluster

    cluster.check(options)
    with cluster.lost_workers_named():
        chief = replicas.is_chief()
        message = ""
        if chief:
            cluster.announce(options, run.read().get("options", {}))
            options, dataset = prepare(options, run, stages)
            message = json.dumps({"options": config.to_dict(options), "digest": dataset.digest})
        message = cluster.from_chief(message)
        if not chief:
            options, dataset = follow(run, message)
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
                work[stage](options, run, dataset)
            except cluster.Done:
                pass
            finally:
                if chief:
                    path = page.write(run)
            cluster.wait_for_all()
    if chief:
        print(f"report: {path}")

