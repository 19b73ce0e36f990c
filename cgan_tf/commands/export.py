"""Exports a finished run for servers, devices and browsers.

    cgan export --run_dir=runs/faces [--formats=saved_model,tflite,page]
        [--quantize=none,float16,dynamic,weight_int8,int8] [--output=DIR] [--restart]
        [--data_dir=DIR]

Without --output this is the run's export stage, the same as `train_main.py --stage=export`.
"""

from absl import flags

from cgan_tf.core import cli, quiet
from cgan_tf.core.config import OPTIONS
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import expand
from cgan_tf.core.options import absolute, make, parse
from cgan_tf.core.run_folder import RunFolder


def define_flags() -> None:
    """The command's flags; options that are not given keep the run's own values."""
    flags.DEFINE_string("run_dir", None, "run folder whose stages up to directions are finished")
    for name in ("formats", "quantize"):
        option = OPTIONS[f"export_{name}"]
        flags.DEFINE_string(
            name, None, f"{option.metadata['help']}; default: {','.join(option.default)}"
        )
    flags.DEFINE_string("data_dir", None, "folder of the run's photos, if they have moved")
    flags.DEFINE_string("output", None, "folder to write; default: RUN_DIR/export")
    flags.DEFINE_bool("restart", False, "move an existing export aside first")


def main() -> int:
    """Runs the command; returns the exit code."""
    options = flags.FLAGS
    cli.require("run_dir")
    run = RunFolder(options.run_dir)
    stored = run.load_config()
    given = {
        f"export_{name}": parse(f"export_{name}", options[name].value)
        for name in ("formats", "quantize")
        if options[name].value is not None
    }
    if options.data_dir:
        given["data_dir"] = absolute(options.data_dir, "--data_dir")
    try:
        config = make(None, given, stored)
    except UserError as error:  # this command's flags have no prefix
        raise UserError(str(error).replace("--export_", "--")) from None
    output = expand(options.output, "--output") if options.output else run.path / "export"

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
