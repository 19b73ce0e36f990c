"""The exported SavedModel: its signatures, what it refuses, its weights."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import fake_run
import keras
import numpy as np
import pytest
import tensorflow as tf

from cgan_tf.editing import backends
from cgan_tf.editing.network import EditingNetwork
from cgan_tf.export import saved_model
from cgan_tf.export.serving import model

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def exported():
    return fake_run.shared_export()


@pytest.fixture(scope="module")
def network():
    return EditingNetwork.from_run(fake_run.shared_run().path, scores=True)


@pytest.fixture(scope="module")
def loaded(exported):
    return tf.saved_model.load(str(exported / "saved_model" / "1"))


def test_signatures(exported, loaded):
    image, latent, features = (None, 32, 32, 3), (None, 24), (None, 8, 8, 32)
    scores = len(json.loads((exported / "model.json").read_text())["scores"])
    expected = {
        "serving_default": ({"image": image, "strengths": (None, 3)}, {"image": image}),
        "translate": ({"image": image, "strengths": (None, 3)}, {"image": image}),
        "encode": ({"image": image}, {"latent": latent, "features": features}),
        "generate": (
            {"latent": latent, "features": features, "strengths": (None, 3)},
            {"image": image},
        ),
        "sample": ({"z": latent}, {"image": image}),
        "attributes": ({"image": image}, {"scores": (None, scores)}),
        "translate_bytes": (
            {"image_bytes": (None,), "strengths": (None, 3)},
            {"image_bytes": (None,)},
        ),
    }
    assert set(loaded.signatures) == set(expected)
    for name, (inputs, outputs) in expected.items():
        signature = loaded.signatures[name]
        specs = signature.structured_input_signature[1]
        assert {key: tuple(spec.shape) for key, spec in specs.items()} == inputs, name
        given = {key: tuple(s.shape) for key, s in signature.structured_outputs.items()}
        assert given == outputs, name
        for key, spec in [*specs.items(), *signature.structured_outputs.items()]:
            assert spec.dtype == (tf.string if key == "image_bytes" else tf.float32)


def test_the_documented_use_in_keras(exported, loaded, tmp_path, monkeypatch):
    (tmp_path / "editor").symlink_to(exported)
    monkeypatch.chdir(tmp_path)
    image = tf.random.stateless_uniform((2, 32, 32, 3), (1, 2), -1.0, 1.0)
    strengths = tf.constant([[1.0, 0.0, -1.0]] * 2)
    section = (ROOT / "docs" / "serve.md").read_text().split("## In Keras")[1].split("\n## ")[0]
    lines = [line[4:] for line in section.splitlines() if line.startswith("    ")]
    values = {"keras": keras, "tf": tf, "image": image, "strengths": strengths}
    exec("\n".join(lines), values)
    expected = loaded.signatures["translate"](image=image, strengths=strengths)["image"]
    np.testing.assert_allclose(values["edited"], expected, atol=1e-4)
    for name, given in {"attributes": image, "sample": tf.zeros((2, 24))}.items():
        layer = keras.layers.TFSMLayer("editor/saved_model/1", call_endpoint=name)
        (key,) = loaded.signatures[name].structured_input_signature[1]
        wanted = loaded.signatures[name](**{key: given})
        for output, value in layer(given).items():
            np.testing.assert_allclose(value, wanted[output], atol=1e-4)


def test_takes_any_batch(loaded):
    image = tf.random.stateless_uniform((5, 32, 32, 3), (1, 2), -1.0, 1.0)
    strengths = tf.random.stateless_uniform((5, 3), (3, 4), -1.0, 1.0)
    together = loaded.signatures["serving_default"](image=image, strengths=strengths)["image"]
    assert together.shape == (5, 32, 32, 3)
    for row in range(5):
        one = slice(row, row + 1)
        alone = loaded.signatures["translate"](image=image[one], strengths=strengths[one])
        np.testing.assert_allclose(alone["image"][0], together[row], atol=1e-4)


@pytest.mark.parametrize("wrong", [-255.0, -1.6, 1.6, 255.0])
def test_refuses_pixels_that_are_not_between_minus_one_and_one(loaded, wrong):
    """Levels of 0 to 255 would be answered with nonsense."""
    image = np.zeros((2, 32, 32, 3), np.float32)
    for name in ("translate", "encode", "attributes"):
        given = {"image": tf.constant(image)}
        if name == "translate":
            given["strengths"] = tf.zeros((2, 3))
        loaded.signatures[name](**given | {"image": tf.constant(image + 1.01)})
        image[1, 3, 4, 1] = wrong
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"floats in \[-1, 1\]"):
            loaded.signatures[name](**given | {"image": tf.constant(image)})
        image[:] = 0


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 3e38])
def test_refuses_values_that_are_not_finite(loaded, wrong):
    """Also values that overflow on the way; the next request works again."""
    good = {
        "image": tf.zeros((2, 32, 32, 3)),
        "latent": tf.zeros((2, 24)),
        "features": tf.zeros((2, 8, 8, 32)),
        "strengths": tf.zeros((2, 3)),
        "z": tf.zeros((2, 24)),
        "image_bytes": tf.io.encode_png(tf.zeros((2, 9, 9, 3), tf.uint8)),
    }
    for signature in loaded.signatures.values():
        given = {key: good[key] for key in signature.structured_input_signature[1]}
        before = {name: output.numpy() for name, output in signature(**given).items()}
        for key in given:
            if key == "image_bytes" or (key == "image" and wrong == 3e38):
                continue
            value = good[key].numpy()
            value[1] = wrong
            with pytest.raises(tf.errors.InvalidArgumentError, match="Tensor had"):
                signature(**given | {key: tf.constant(value)})
        after = signature(**given)
        for name, output in before.items():
            np.testing.assert_array_equal(output, after[name].numpy())


def saved_model_cli(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", *map(str, arguments)],
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_saved_model_cli_gives_no_warning(exported):
    done = saved_model_cli("scan", "--dir", exported / "saved_model" / "1")
    assert done.returncode == 0, done.stderr
    assert "does not contain the default denylisted ops" in done.stdout


@pytest.mark.slow
def test_saved_model_cli_shows_and_runs_it(exported, tmp_path):
    folder = exported / "saved_model" / "1"
    shown = saved_model_cli("show", "--dir", folder, "--all")
    assert shown.returncode == 0, shown.stderr
    for name in (*saved_model.SERVER_SIGNATURES, "serving_default"):
        assert f"signature_def['{name}']" in shown.stdout
    latent = np.linspace(-1, 1, 48, dtype=np.float32).reshape(2, 24)
    file = tmp_path / "inputs.npz"
    others = {"features": np.ones((2, 8, 8, 32), np.float32), "strengths": np.zeros((2, 3), "f4")}
    np.savez(file, latent=latent, **others)
    given = ";".join(f"{name}={file}[{name}]" for name in ("latent", *others))
    done = saved_model_cli(
        "run",
        "--dir",
        folder,
        "--tag_set",
        "serve",
        "--signature_def",
        "generate",
        "--inputs",
        given,
        "--outdir",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    loaded = tf.saved_model.load(str(folder))
    expected = loaded.signatures["generate"](latent=latent, **others)["image"]
    np.testing.assert_allclose(np.load(tmp_path / "image.npy"), expected, atol=1e-5)


def test_contains_each_weight_once(exported, network):
    expected = sum(4 * int(np.prod(weight.shape)) for weight in network.weights)
    assert saved_model.stored_bytes(exported / "saved_model" / "1") == expected
    data_file = exported / "saved_model" / "1" / "variables" / "variables.data-00000-of-00001"
    assert expected < data_file.stat().st_size < 1.01 * expected
    assert (exported / "saved_model" / "1" / "saved_model.pb").stat().st_size < 1_000_000


def test_weights_written_twice_are_noticed(tmp_path):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    assert saved_model.weight_bytes([model]) == 60
    archive = keras.export.ExportArchive()
    spec = tf.TensorSpec((None, 4), tf.float32, name="x")
    archive.add_endpoint("serve", lambda x: {"y": model(x)}, [spec])
    archive.write_out(str(tmp_path / "once"), verbose=False)
    assert saved_model.check_weights(tmp_path / "once", 60) is None
    assert saved_model.check_weights(tmp_path / "once", 64) == (
        "contains 60 bytes of weights instead of 64: not each weight once"
    )


def test_folders_whose_names_are_patterns(exported, network, tmp_path):
    """TensorFlow would look for files that match `faces [take 2]`, and find none."""
    folder = tmp_path / "faces [take 2]*" / "1"
    saved_model.write(network, folder, ("attributes",))
    assert saved_model.stored_bytes(folder) == saved_model.weight_bytes([network.regressor])
    shutil.rmtree(folder)
    shutil.copytree(exported / "saved_model" / "1", folder)
    image = np.zeros((1, 32, 32, 3), np.float32)
    expected = backends.SavedModelBackend(exported / "saved_model" / "1").run("encode", image=image)
    found = backends.SavedModelBackend(folder).run("encode", image=image)
    for name, output in expected.items():
        np.testing.assert_allclose(found[name], output, rtol=0, atol=1e-6)
    served = model.ServedModel(folder, "faces", 1, 8)
    assert set(served.signatures) >= set(saved_model.FLOAT_SIGNATURES)
