"""TensorFlow's C API loads and runs an exported SavedModel, without Python."""

import os
import subprocess
from pathlib import Path

import fake_run
import numpy as np
import pytest
import tensorflow as tf
from programs import find

from cgan_tf.editing.network import EditingNetwork
from cgan_tf.export.serving.model import serving_graph

pytestmark = pytest.mark.slow  # compiling takes seconds

SOURCE = Path(__file__).parents[1] / "helpers" / "c_loader.c"


@pytest.fixture(scope="module")
def loader(tmp_path_factory):
    """The compiled program."""
    compiler = find("gcc")
    program = tmp_path_factory.mktemp("c") / "c_loader"
    libraries = tf.sysconfig.get_lib()
    subprocess.run(
        [
            compiler,
            "-O1",
            "-Wall",
            "-Werror",
            f"-I{tf.sysconfig.get_include()}",
            str(SOURCE),
            "-o",
            str(program),
            f"-L{libraries}",
            f"-Wl,-rpath,{libraries}",
            "-l:libtensorflow_cc.so.2",
            "-l:libtensorflow_framework.so.2",
        ],
        check=True,
    )
    return program


@pytest.fixture(scope="module")
def exported():
    """The Keras network, and the folder of its SavedModel."""
    network = EditingNetwork.from_run(fake_run.shared_run().path, scores=True)
    return network, fake_run.shared_export() / "saved_model" / "1"


def run(loader, folder, output, *inputs):
    """Runs the program on tensor names with their arrays."""
    arguments, data = [], b""
    for name, value in inputs:
        arguments += [name, ",".join(map(str, value.shape))]
        data += value.tobytes()
    return subprocess.run(
        [loader, folder, output, *arguments],
        input=data,
        capture_output=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )


def test_the_c_loader_and_keras_agree(loader, exported):
    network, folder = exported
    draw = np.random.Generator(np.random.PCG64(8))
    image = np.float32(draw.uniform(-1, 1, (2, 32, 32, 3)))
    strengths = np.float32(draw.uniform(-1, 1, (2, 3)))
    names = tensor_names(folder, "translate")
    done = run(
        loader,
        folder,
        names["outputs"]["image"],
        (names["inputs"]["image"], image),
        (names["inputs"]["strengths"], strengths),
    )
    assert done.returncode == 0, done.stderr.decode()
    given = np.array(done.stdout.split(), np.float32).reshape(image.shape)
    expected = network.translate(tf.constant(image), tf.constant(strengths)).numpy()
    assert expected.std() > 0.01  # an image, not a constant
    np.testing.assert_allclose(given, expected, atol=1e-4, rtol=0)


def test_the_c_loader_refuses_another_shape(loader, exported):
    _, folder = exported
    names = tensor_names(folder, "generate")
    done = run(
        loader,
        folder,
        names["outputs"]["image"],
        (names["inputs"]["latent"], np.zeros((1, 24), np.float32)),
        (names["inputs"]["features"], np.zeros((1, 8, 8, 32), np.float32)),
        (names["inputs"]["strengths"], np.zeros((1, 2), np.float32)),
    )
    assert done.returncode == 1 and b"c_loader: " in done.stderr


def tensor_names(folder, signature):
    """The graph's tensor names of a signature's inputs and outputs."""
    definition = serving_graph(folder).signature_def[signature]
    return {
        side: {name: info.name for name, info in getattr(definition, side).items()}
        for side in ("inputs", "outputs")
    }
