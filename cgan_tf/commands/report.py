"""Writes the report.html of a run folder again.

    cgan report --run_dir=RUN_DIR

Every stage writes the report when it ends. This command updates it, for example after the run
folder was copied or cgan_tf was updated.
"""

from absl import flags

from cgan_tf.core import cli
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.report import page


def define_flags() -> None:
    """Defines the command's flags."""
    flags.DEFINE_string("run_dir", None, "run folder; report.html is written into it")


def main() -> int:
    """Writes the report and prints its path; returns the exit code."""
    cli.require("run_dir")
    folder = RunFolder(flags.FLAGS.run_dir)
    folder.load_config()
    print(page.write(folder))
    return 0
