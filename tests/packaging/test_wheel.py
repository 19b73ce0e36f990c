"""The wheel in an empty environment and an empty folder, as a new user would try it."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The files of the checkout, which stays as it was."""
    source = tmp_path_factory.mktemp("source")
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    for name in filter(None, files):
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink():
            os.symlink(os.readlink(ROOT / name), target)
        elif (ROOT / name).exists():
            os.link(ROOT / name, target)
    return source


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    """The built wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, source],
        check=True,
    )
    (path,) = folder.glob("*.whl")
    return path


@pytest.mark.slow
def test_the_wheel_has_one_top_level_package_and_its_data(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"cgan_tf"}
    checkout = {
        f"cgan_tf/export/{path.relative_to(ROOT / 'export').as_posix()}"
        for path in (ROOT / "export").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    } | {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "cgan_tf").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert checkout <= set(names)


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """An environment with nothing but the wheel and what it depends on; gives its bin folder."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run(
        [folder / "bin" / "python", "-m", "pip", "install", "--quiet", wheel], check=True
    )
    return folder / "bin"


@pytest.mark.slow
def test_a_new_user_trains_edits_and_imports(environment, tmp_path):
    def run(*command, code=0):
        done = subprocess.run(
            [environment / command[0], *command[1:]],
            cwd=tmp_path,
            env={"PATH": f"{environment}:{os.environ['PATH']}", "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    assert "cgan train" in run("cgan", "train", "--help").stdout
    run("python", "-c", "from cgan_tf.export import litert; litert.files()['index.js']")
    wrong = run("cgan", "tranlsate", code=2)
    assert wrong.stderr.startswith("error: ") and "did you mean translate" in wrong.stderr
    options = "--resolution=32 --synthetic_size=100 --gan_kimg=0.1 --gan_width=8 --seed=1"
    options += " --regressor_kimg=0.1 --regressor_vgg_weights=none --inversion_kimg=0.1"
    options += " --features_kimg=0.1 --directions_kimg=0.1"
    for stage in ("gan", "regressor", "inversion", "features", "directions"):
        run("cgan", "train", f"--stage={stage}", "--run_dir=run", *options.split())
    assert (tmp_path / "run" / "report.html").exists()
    draw = (
        "from cgan_tf.data import images, synthetic; "
        "images.save_png('me.png', synthetic.render(synthetic.sample_face(7, 3), 64))"
    )
    run("python", "-c", draw)
    translate = ["cgan", "translate", "--model=run", "--image=me.png", "--output=edited.png"]
    run(*translate, "--edit=Eyeglasses=+1")
    assert (tmp_path / "edited.png").exists()
    unknown = run(*translate, "--edit=Eyeglases=+1", "--overwrite", code=2)
    assert "did you mean Eyeglasses" in unknown.stderr and len(unknown.stderr.splitlines()) == 1
    face = (
        "import cgan_tf, json; editor = cgan_tf.load_editor('run'); "
        "picture = editor.edit('me.png', Eyeglasses=+1); "
        "print(json.dumps([picture.size, editor.scores('me.png')]))"
    )
    size, scores = json.loads(run("python", "-c", face).stdout)
    assert size == [64, 64] and 0 <= scores["Eyeglasses"] <= 1


@pytest.mark.slow
def test_make_installs_the_command_without_a_warning(source, tmp_path):
    checkout, environment = tmp_path / "checkout", tmp_path / "environment"
    shutil.copytree(source, checkout, symlinks=True)
    (checkout / "requirements.txt").write_text("")  # the packages that it depends on print nothing
    done = subprocess.run(
        ["make", f"PYTHON={sys.executable}", f"VENV={environment}", environment / "installed"],
        cwd=checkout,
        env=os.environ | {"PIP_NO_DEPS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "BuildBackendWarning" not in done.stdout and "Editable installation." not in done.stdout
    assert "cgan_tf.__main__" in (environment / "bin" / "cgan").read_text()
