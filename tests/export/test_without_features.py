"""The export of a run without detail features: its codes are latents."""

import json

import fake_run
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from cgan_tf.editing import backends
from cgan_tf.export import stage

pytestmark = pytest.mark.usefixtures("slim")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    config = fake_run.make_config(
        folder / "cache",
        features_side="none",
        export_formats=("saved_model", "tflite"),
        export_quantize=("none", "float16"),
    )
    with fake_run.slim():
        return fake_run.make_run(folder / "run", config)


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    output = tmp_path_factory.mktemp("plain") / "export"
    with fake_run.slim():
        stage.export_to(run.load_config(), run, output, say=lambda line: None)
    return output


def test_neither_signatures_nor_description_have_features(exported):
    about = json.loads((exported / "model.json").read_text())
    assert about["features_shape"] == [0] and about["latent_shape"] == [24]
    assert about["signatures"]["encode"] == {"inputs": ["image"], "outputs": ["latent"]}
    assert about["signatures"]["generate"]["inputs"] == ["latent", "strengths"]
    content = (exported / "translator_float32.tflite").read_bytes()
    assert Interpreter(model_content=content).get_signature_list() == {
        "encode": {"inputs": ["image"], "outputs": ["latent"]},
        "generate": {"inputs": ["latent", "strengths"], "outputs": ["image"]},
        "translate": {"inputs": ["image", "strengths"], "outputs": ["image"]},
    }


def test_all_forms_edit_alike(run, exported):
    image = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)
    steps = np.float32([[1, 0, 0], [0, -1, 0.5]])
    keras = backends.open_backend(run.path)
    expected = keras.translate(image, steps)
    for place in (run.path, exported / "saved_model", exported / "translator_float32.tflite"):
        backend = backends.open_backend(place)
        code = backend.encode(image)
        assert list(code) == ["latent"]
        for edited in (backend.translate(image, steps), backend.generate(code, steps)):
            np.testing.assert_allclose(edited, expected, atol=1e-4)
