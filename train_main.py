"""Train, evaluate and export an attribute editor; see `cgan_tf/commands/train.py`."""

from cgan_tf.commands import train
from cgan_tf.core import cli

if __name__ == "__main__":
    cli.run(train.main, train.define_flags, train.__doc__)
