"""Runs `cgan translate` in the test's process."""

import command_flags

from cgan_tf.commands import translate


def command(model, image, edit, output, *more):
    """Runs the command in this process."""
    arguments = [f"--model={model}", f"--image={image}", f"--edit={edit}", f"--output={output}"]
    return command_flags.run(translate.define_flags, translate.main, [*arguments, *more])
