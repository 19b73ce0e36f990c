"""Writes a run's report.html again.

    cgan report --run_dir=RUN_DIR

Every stage writes the page when it ends; this command writes it from what is in the run folder now.
"""

from absl import flags

from cgan_tf.core import cli
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.report import page


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("run_dir", None, "run folder; the page is written into it")


def main() -> int:
    """Writes the page and prints its path; returns the exit code."""
    cli.require("run_dir")
    folder = RunFolder(flags.FLAGS.run_dir)
    folder.load_config()
    print(page.write(folder))
    return 0
