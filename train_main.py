"""Train, evaluate and export an attribute editor: the same as `cgan train`."""

from cgan_tf.commands import train
from cgan_tf.core import cli

if __name__ == "__main__":
    cli.run(
        train.main,
        train.define_flags,
        train.__doc__,
        groups=train.FLAG_GROUPS,
        epilogue=train.HELP_EPILOGUE,
    )
