"""Exports a finished run for servers and devices.

    cgan export --run_dir=runs/faces [--formats=saved_model,tflite,page]
        [--quantize=none,float16,dynamic,weight_int8,int8] [--output=DIR] [--restart]

Without --output this is the export stage of the run: `train_main.py --stage=export`.
"""

from pathlib import Path

from absl import flags

from cgan_tf.core import cli, quiet
from cgan_tf.core import config as config_module
from cgan_tf.core.run_folder import RunFolder


def define_flags() -> None:
    """The command's flags; defaults of the options are the run's own."""
    flags.DEFINE_string("run_dir", None, "run folder whose stages up to directions have finished")
    for name in ("formats", "quantize"):
        field = config_module.FIELDS[name]
        flags.DEFINE_string(
            name, None, f"{field.metadata['help']}; by default {','.join(field.default)}"
        )
    flags.DEFINE_string("output", None, "folder to write; by default RUN_DIR/export")
    flags.DEFINE_bool("restart", False, "move an export that is already there aside")


def main() -> int:
    """The command behind the flags; returns the exit code."""
    options = flags.FLAGS
    cli.require("run_dir")
    run = RunFolder(options.run_dir)
    stored = run.load_config()
    given = {
        name: config_module.parse(name, options[name].value)
        for name in ("formats", "quantize")
        if options[name].value is not None
    }
    config = config_module.make(None, given, stored)
    output = Path(options.output).expanduser() if options.output else run.path / "export"

    quiet.import_tensorflow()
    from cgan_tf.export import stage

    if output.resolve() != (run.path / "export").resolve():
        stage.export_to(config, run, output, options.restart)
        return 0
    run.lock()
    run.check_options(config, ("export",) if options.restart else ())
    if options.restart:
        run.restart("export")
    run.save_config(config, run.read()["data"])
    stage.run(config, run)
    return 0
