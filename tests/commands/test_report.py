"""The report command."""

import shutil

import command_flags
import fake_run

from cgan_tf.core import cli


def test_the_report_is_written_again(tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(fake_run.slim_run().path, run)
    for _ in range(2):
        assert command_flags.run_line("report", f"--run_dir={run}") == 0
        assert capsys.readouterr() == (f"{run / 'report.html'}\n", "")
        assert "</html>" in (run / "report.html").read_text()
        (run / "report.html").unlink()


def test_no_run_folder(tmp_path, capsys):
    assert command_flags.run_line("report", f"--run_dir={tmp_path}") == cli.USER_ERROR_CODE
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith(f"error: {tmp_path}: no run folder")
    assert printed.err.count("\n") == 1
