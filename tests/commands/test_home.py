"""A ~ in a path, for a user without a home: one line instead of a traceback."""

import os
import pwd

import command_flags
import pytest
from photos import save_photo

import cgan_tf
from cgan_tf.core import cli


@pytest.fixture(autouse=True)
def no_home(monkeypatch, tmp_path):
    """As in a container without HOME, whose user has no account."""

    def unknown(number):
        raise KeyError(number)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.chdir(tmp_path)
    save_photo(tmp_path / "a.jpg")
    (tmp_path / "a.csv").write_text("file,Smiling\n")


@pytest.mark.parametrize(
    "line",
    [
        "train --stage=gan --run_dir=~/x",
        "train --stage=gan --run_dir=run --data=folder --data_dir=~/x",
        "train --stage=gan --run_dir=run --cache_dir=~/x",
        "train --stage=gan --run_dir=run --init_from=~/x",
        "check --run_dir=~/x",
        "translate --image=a.jpg --edit=Smiling=1 --output=out.png --model=~/x",
        "translate --model=m --edit=Smiling=1 --output=out.png --image=~/x",
        "translate --model=m --image=a.jpg --edit=Smiling=1 --output=~/x",
        "align --output=out --image=~/x",
        "align --image=. --output=~/x",
        "label --image=a.jpg --output=out.csv --model=~/x",
        "label --model=m --output=out.csv --image=~/x",
        "label --model=m --samples=1 --output=~/x",
        "label --model=m --samples=1 --output=out.csv --samples_dir=~/x",
        "attribute --labels=a.csv --run_dir=~/x",
        "evaluate --run_dir=~/x",
        "report --run_dir=~/x",
        "export --run_dir=~/x",
        "serve --model=~/x",
    ],
)
def test_the_flag_is_named(capsys, line):
    verb, *flags = line.split()
    code = command_flags.run_line(verb, *flags)
    (flag,) = (flag for flag in flags if "~" in flag)
    printed = capsys.readouterr()
    assert (code, printed.out) == (cli.USER_ERROR_CODE, "")
    reason = "the home folder that ~ stands for is unknown; give the complete path"
    assert printed.err == f"error: {flag}: {reason}\n"
    assert not os.path.exists("~")


def test_the_editor_names_the_argument():
    with pytest.raises(cgan_tf.EditorError, match="^~/x: the home folder") as refusal:
        cgan_tf.load_editor("~/x")
    assert refusal.value.argument == "model"
