"""The user's face recognizer, with networks whose vectors are mean colors."""

import json
import sys

import numpy as np
import pytest
from tiny_onnx import FORMAT, mean_network, write_recognizer

from cgan_tf.core.errors import UserError
from cgan_tf.data.images import to_float
from cgan_tf.editing import recognizer

GRAY, RED = np.full((32, 32, 3), 100, np.uint8), np.zeros((32, 32, 3), np.uint8)
RED[:, :, 0] = 200


def loaded(folder, **changes):
    """The recognizer of the tiny network with a changed description."""
    return recognizer.load(str(write_recognizer(folder / "tiny.onnx", **changes)), "flag")


def test_vectors_are_what_the_network_computes(tmp_path):
    faces = to_float(np.stack([GRAY, RED]))
    vectors = loaded(tmp_path).embed(faces)
    assert vectors.dtype == np.float64
    np.testing.assert_allclose(vectors, [[100, 100, 100], [200, 0, 0]], rtol=1e-6)
    scaled = loaded(tmp_path, scale=1 / 127.5, offset=-1.0)
    np.testing.assert_allclose(scaled.embed(faces)[1], [200 / 127.5 - 1, -1, -1], rtol=1e-6)
    assert loaded(tmp_path).embed(faces[:0]).shape == (0, 3)


def test_channels_and_layout_are_those_of_the_description(tmp_path):
    faces = to_float(RED[None])
    swapped = loaded(tmp_path, channels="BGR")
    np.testing.assert_allclose(swapped.embed(faces), [[0, 0, 200]], rtol=1e-6)
    last = loaded(tmp_path, shape=(1, 32, 32, 3), axes=(1, 2), layout="NHWC")
    np.testing.assert_allclose(last.embed(faces), [[200, 0, 0]], rtol=1e-6)


def test_the_square_is_the_part_of_the_crop_that_is_seen(tmp_path):
    face = np.zeros((32, 32, 3), np.uint8)
    face[8:24, 4:20] = 80
    face[:8, :, 1] = 160  # above the square
    inner = loaded(tmp_path, shape=(1, 3, 16, 16), size=16, square=[4 / 32, 8 / 32, 0.5])
    np.testing.assert_array_equal(inner.prepare(to_float(face)), np.full((1, 3, 16, 16), 80))
    # Beyond the crop its edge is repeated: the upper half of this square shows only the first row.
    face = np.zeros((32, 32, 3), np.uint8)
    face[0], face[:, 16:] = 90, 30
    above = loaded(tmp_path, shape=(1, 3, 32, 32), square=[0, -0.5, 1])
    seen = above.prepare(to_float(face))[0, 0]
    np.testing.assert_array_equal(seen[:17], np.tile([90] * 16 + [30] * 16, (17, 1)))
    np.testing.assert_array_equal(seen[17:], np.tile([0] * 16 + [30] * 16, (15, 1)))


def test_other_sizes_are_resampled(tmp_path):
    face = np.repeat(np.repeat(np.arange(16, dtype=np.uint8)[None] * 10, 16, 0)[..., None], 3, 2)
    seen = loaded(tmp_path, shape=(1, 3, 8, 8), size=8).prepare(to_float(face))
    assert seen.shape == (1, 3, 8, 8)
    np.testing.assert_allclose(seen[0, 0, 4, 1:-1], 20.0 * np.arange(1, 7) + 5, atol=1.0)


def test_distances_by_hand(tmp_path):
    some, others = np.float64([[3, 4, 0], [1, 0, 0]]), np.float64([[0, 0, 0], [0, 1, 0]])
    euclidean = loaded(tmp_path)
    np.testing.assert_allclose(euclidean.distances(some, others), [5, 2**0.5])
    cosine = loaded(tmp_path, metric="cosine")
    np.testing.assert_allclose(cosine.distances(some, 2 * some[::-1]), [0.4, 0.4])
    np.testing.assert_allclose(cosine.distances(some, others), [1, 1])


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_distances_of_all_pairs_are_those_of_each(tmp_path, metric):
    one = loaded(tmp_path, metric=metric)
    vectors = np.random.default_rng(1).standard_normal((5, 3))
    pairs = [(i, j) for i in range(5) for j in range(i + 1, 5)]
    expected = [one.distances(vectors[[i]], vectors[[j]])[0] for i, j in pairs]
    np.testing.assert_allclose(one.pair_distances(vectors), expected, rtol=1e-6)


def test_vectors_compare_if_the_description_is_equal(tmp_path):
    first, again = loaded(tmp_path).description, loaded(tmp_path).description
    assert first == again == json.loads(json.dumps(first))
    assert first["file"] == "tiny.onnx" and first["format"] == FORMAT
    assert loaded(tmp_path, scale=2.0).description != first
    other = loaded(tmp_path, shape=(1, 3, 32, 32))
    assert other.description["hash"] != first["hash"]


def test_a_vector_that_is_not_finite_is_refused(tmp_path):
    with np.errstate(over="ignore"):
        one = loaded(tmp_path, scale=3e38)
        with pytest.raises(UserError, match="tiny.onnx: the vector of a face is not finite; check"):
            one.embed(to_float(GRAY[None]))


def refusal(path):
    """The error of a recognizer, after the flag and its value."""
    with pytest.raises(UserError) as caught:
        recognizer.load(str(path), "identity_model")
    text = str(caught.value)
    assert text.startswith(f"--identity_model={path}: ") and "\n" not in text
    return text.removeprefix(f"--identity_model={path}: ")


def test_missing_and_damaged_files_are_refused(tmp_path):
    path = tmp_path / "face.onnx"
    assert refusal(path) == "no such file; give a face recognizer as an ONNX file"
    assert refusal(tmp_path).startswith("no such file")
    path.write_text("no network")
    assert refusal(path) == (
        f"{tmp_path / 'face.json'} is missing, which describes the network's input; see "
        "docs/evaluation.md"
    )
    path.with_suffix(".json").write_text("{")
    assert "face.json is not JSON (Expecting" in refusal(path)
    path.with_suffix(".json").write_bytes(b"\xff")
    assert "face.json is not JSON" in refusal(path)
    path.with_suffix(".json").write_text(json.dumps(FORMAT))
    assert refusal(path).startswith("not an ONNX network that onnxruntime can load (")


@pytest.mark.parametrize(
    "values, message",
    [
        ([], "not a JSON object; give one with the keys size, scale, offset, channels, layout, "),
        ({"size": 32}, "scale is missing; the keys are size, scale, offset, channels, layout, "),
        (FORMAT | {"scales": 1}, "unknown key scales (did you mean scale?); the keys are size, "),
        (FORMAT | {"size": 0}, "size=0: give a number of px"),
        (FORMAT | {"size": 1.5}, "size=1.5: give a number of px"),
        (FORMAT | {"size": True}, "size=true: give a number of px"),
        (FORMAT | {"scale": 0}, "scale=0: give a number other than 0"),
        (FORMAT | {"scale": "1/255"}, 'scale="1/255": give a number other than 0'),
        (FORMAT | {"offset": None}, "offset=null: give a number"),
        (FORMAT | {"offset": float("inf")}, "offset=Infinity: give a number"),
        (FORMAT | {"channels": "rgb"}, 'channels="rgb": give RGB or BGR'),
        (FORMAT | {"layout": "HWC"}, 'layout="HWC": give NCHW or NHWC'),
        (FORMAT | {"metric": ["cosine"]}, 'metric=["cosine"]: give cosine or euclidean'),
        (FORMAT | {"square": 1}, "square=1: give [left, top, side] in sides of the face crop, "),
        (FORMAT | {"square": [0, 0]}, "square=[0, 0]: give [left, top, side]"),
        (FORMAT | {"square": [0, 0, 0]}, "square=[0, 0, 0]: give [left, top, side]"),
        (FORMAT | {"square": [0, 1, 0.5]}, "square=[0, 1, 0.5]: give [left, top, side]"),
        (FORMAT | {"square": [0, 0, 112]}, "square=[0, 0, 112]: give [left, top, side]"),
    ],
)
def test_wrong_descriptions_are_refused(tmp_path, values, message):
    path = write_recognizer(tmp_path / "face.onnx")
    path.with_suffix(".json").write_text(json.dumps(values))
    assert refusal(path).startswith(f"{tmp_path / 'face.json'}: {message}")


@pytest.mark.parametrize(
    "shape, axes, message",
    [
        ((None, 3, 32), (2,), "its input is a tensor(float) of shape ['image0', 3, 32]; give"),
        ((None, 1, 32, 32), (2, 3), "its input has the shape ['image0', 1, 32, 32], but face.json"),
        (
            (1, 3, 112, 112),
            (2, 3),
            "its input has the shape [1, 3, 112, 112], but face.json says size=32 and "
            "layout=NCHW, [1, 3, 32, 32] for one face; correct the description",
        ),
        ((8, 3, 32, 32), (2, 3), "its input has the shape [8, 3, 32, 32], but face.json says"),
        ((1, 32, 32, 3), (1, 2), "its input has the shape [1, 32, 32, 3], but face.json says"),
        (
            (1, 3, 32, 32),
            (3,),
            "its output for one face has the shape [1, 3, 32]; give a network that returns one "
            "vector, [1, D]",
        ),
        ((1, 3, 32, 32), (0, 2, 3), "its output for one face has the shape [3]; give a network"),
        ((1, 3, 32, 32), (0, 3), "its output for one face has the shape [3, 32]; give a network"),
    ],
)
def test_networks_that_do_not_fit_are_refused(tmp_path, shape, axes, message):
    path = write_recognizer(tmp_path / "face.onnx", shape, axes)
    assert refusal(path).startswith(message)


def test_a_network_that_fails_on_a_face_is_refused(tmp_path):
    path = write_recognizer(tmp_path / "face.onnx", (None,) * 4, (2, 7))
    assert refusal(path).startswith(("it cannot be run on a face (", "not an ONNX network"))


def test_several_inputs_and_outputs_are_refused(tmp_path, monkeypatch):
    path = write_recognizer(tmp_path / "face.onnx")
    import onnxruntime

    class Two(onnxruntime.InferenceSession):
        def get_inputs(self):
            return super().get_inputs() * count["inputs"]

        def get_outputs(self):
            return super().get_outputs() * count["outputs"]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Two)
    count = {"inputs": 2, "outputs": 1}
    assert refusal(path) == "it has 2 inputs; give a network with one, the face's image"
    count = {"inputs": 1, "outputs": 2}
    assert refusal(path) == "it has 2 outputs; give a network with one, the face's vector"


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    path = write_recognizer(tmp_path / "face.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    text = refusal(path)
    assert text.startswith("onnxruntime, which runs it, cannot be imported (")
    assert text.endswith('; run pip install "cgan_tf[identity]"')


def test_the_tiny_network_is_small_and_keeps_axes_if_asked(tmp_path):
    assert len(mean_network((1, 3, 32, 32), (2, 3))) < 200
    path = write_recognizer(tmp_path / "face.onnx", keep=True)
    assert "has the shape [1, 3, 1, 1]" in refusal(path)
