"""Exports a finished run for servers, devices and browsers, or makes a named model of it.

    cgan export --run_dir=runs/faces [--formats=saved_model,tflite,page]
        [--quantize=none,float16,dynamic,weight_int8,int8] [--output=DIR] [--restart]
        [--data_dir=DIR]
    cgan export --run_dir=runs/faces --install=NAME [--install_dir=DIR] [--overwrite]
        [--data_dir=DIR]

Without --output this is the run's export stage, the same as `train_main.py --stage=export`. With
--install a folder NAME is written that `cgan translate` and `cgan label` take as --model=NAME, and
`load_editor` in Python: the smallest TFLite files that pass the checks, and how the model was made.
They are converted anew; an export of the run is neither needed nor changed. `cgan models` lists it.
"""

from absl import flags

from cgan_tf.core import cli, quiet
from cgan_tf.core.config import OPTIONS, Config
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import expand
from cgan_tf.core.options import absolute, make, parse
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.editing import named_models
from cgan_tf.editing.named_models import FACE


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
    flags.DEFINE_string("install", None, "make a named model of this name")
    flags.DEFINE_string(
        "install_dir",
        None,
        "folder to write it to; default: $XDG_DATA_HOME/cgan_tf/models, which --model searches",
    )
    flags.DEFINE_bool("overwrite", False, "move an existing model of the name aside")


def check_install() -> None:
    """Raises a UserError for flags that do not go with --install, or only go with it."""
    options = flags.FLAGS
    installing = options.install is not None
    others = ("formats", "quantize", "output", "restart")
    for name in others if installing else ("install_dir", "overwrite"):
        if options[name].present:
            remedy = "not with --install; leave it out" if installing else "only with --install"
            raise UserError(f"--{name}: {remedy}")


def install(config: Config, run: RunFolder) -> None:
    """Makes the named model of --install."""
    options = flags.FLAGS
    name = options.install
    folder = expand(options.install_dir, "--install_dir") if options.install_dir else None
    target = named_models.plan_target(name, folder, options.overwrite)
    quiet.import_tensorflow()
    from cgan_tf.export import install as installing

    installing.install(config, run, target)
    if line := named_models.note(name):
        print(line)
    model = name if target in named_models.locate(name) else target
    attribute = named_models.read(target).description["attributes"][0]
    print(
        f"{target}: installed; try cgan translate --model={model} --image={target / FACE} "
        f"--edit={attribute}=+1 --output=OUT.png"
    )


def main() -> int:
    """Runs the command; returns the exit code."""
    options = flags.FLAGS
    cli.require("run_dir")
    check_install()
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
    if options.install is not None:
        install(config, run)
        return 0

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
