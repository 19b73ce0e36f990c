"""The comparison of an exported model with Keras, on models with known differences."""

import dataclasses

import numpy as np
import pytest

from cgan_tf.editing import backends, description
from cgan_tf.export import parity


class Line(backends.Backend):
    """encode: the image's mean; translate: mean plus strength, and `error` on the last row.

    `encode` also has features, the negative mean, with `error` on the last row.
    """

    def __init__(self, error=0.0, scale=1.0):
        super().__init__(("A",), 2, description.SQUARE_CROP)
        self.error = error
        self.scale = scale
        self.batches = []

    def run(self, signature, image, strengths=None):
        self.batches.append(len(image))
        mean = self.scale * image.mean(axis=(1, 2, 3))[:, None]
        last = image[:, 0, 0, 0] == 1.0  # by its value, since its position in the batch varies
        if signature == "encode":
            return {"latent": mean, "features": np.where(last, self.error, 0.0)[:, None] - mean}
        output = mean + strengths
        output[last] += self.error
        return {"image": output}


@pytest.fixture
def inputs():
    image = np.zeros((19, 2, 2, 3), np.float32)
    image[-1] = 1.0
    return parity.make_inputs(Line(), image, 5, "normal", seed=1)


def compare(candidate, inputs, signatures=("translate", "encode"), reference=None):
    reference = reference or Line()
    outputs = {n: parity.run_batched(reference, n, inputs.of(n)) for n in signatures}
    return parity.compare(outputs, candidate, inputs, signatures)


def test_inputs_depend_only_on_the_seed(inputs):
    again = parity.make_inputs(Line(), inputs.image, 5, "normal", seed=1)
    other = parity.make_inputs(Line(), inputs.image, 5, "uniform", seed=2)
    np.testing.assert_array_equal(inputs.strengths, again.strengths)
    np.testing.assert_array_equal(inputs.z, again.z)
    assert inputs.strengths.shape == (19, 1) and inputs.z.shape == (19, 5)
    assert -1 <= inputs.strengths.min() < -0.5 and 0.5 < inputs.strengths.max() <= 1
    assert np.abs(inputs.z).max() > 1 >= np.abs(other.z).max()
    assert not np.array_equal(inputs.strengths, other.strengths)
    np.testing.assert_array_equal(inputs.code["latent"][:, 0], [0.0] * 18 + [1.0])
    assert list(inputs.of("generate")) == ["latent", "features", "strengths"]
    bare = dataclasses.replace(inputs, code={"latent": inputs.code["latent"]})
    assert list(bare.of("generate")) == ["latent", "strengths"]


def test_all_rows_are_compared_in_batches(inputs):
    candidate = Line(error=0.38)
    figures = compare(candidate, inputs)
    assert candidate.batches == [16, 3, 16, 3]
    assert figures["translate"]["n"] == 19
    scale = figures["translate"]["scale"]
    assert 1.0 <= scale <= 2.0
    np.testing.assert_allclose(figures["translate"]["max_difference"] * scale, 0.38, rtol=1e-6)
    np.testing.assert_allclose(figures["translate"]["mean_difference"] * scale, 0.02, rtol=1e-6)
    expected = {"output": "features", "n": 19, "finite": True, "scale": 1.0, "psnr": None}
    assert expected.items() <= figures["encode"].items()
    np.testing.assert_allclose(figures["encode"]["max_difference"], 0.38, rtol=1e-6)
    np.testing.assert_allclose(figures["encode"]["mean_difference"], 0.02, rtol=1e-6)
    assert compare(Line(), inputs)["encode"]["max_difference"] == 0.0


def test_differences_are_relative_to_a_large_latent(inputs):
    figures = compare(Line(scale=101.0), inputs, ["encode"], Line(scale=100.0))
    assert figures["encode"]["scale"] == 100.0
    np.testing.assert_allclose(figures["encode"]["max_difference"], 0.01, rtol=1e-6)


class Gray(Line):
    """translate returns a gray image of the strength plus `error`."""

    def run(self, signature, image, strengths=None):
        gray = np.broadcast_to((strengths + self.error)[:, :, None, None], image.shape)
        return {"image": gray}


def test_images_have_a_psnr(inputs):
    figures = compare(Gray(error=0.02), inputs, ["translate"], Gray())
    np.testing.assert_allclose(figures["translate"]["psnr"], 40.0, atol=1e-4)  # 20 log10(2 / 0.02)
    assert compare(Gray(), inputs, ["translate"], Gray())["translate"]["psnr"] > 200


def test_verdict(inputs):
    good = {
        "n": 1,
        "finite": True,
        "scale": 1.0,
        "max_difference": 1e-4,
        "mean_difference": 0.0,
        "psnr": 30.0,
    }
    bad = good | {"max_difference": 0.2, "psnr": None}
    bounds = parity.Bounds(max_difference=1e-4)
    assert parity.verdict({"translate": good}, bounds) is None
    assert parity.verdict({"translate": good, "encode": bad}, bounds) == (
        "encode differs from Keras by 0.2 (at most 0.0001)"
    )
    noise = parity.Bounds(psnr=30.0)
    assert parity.verdict({"translate": good, "encode": bad}, noise) is None
    assert parity.verdict({"generate": good | {"psnr": 29.94}}, noise) == (
        "generate has a PSNR of 29.9 dB to Keras's images (at least 30)"
    )
    broken = compare(Line(error=np.nan), inputs)
    assert broken["translate"]["max_difference"] is None
    assert parity.verdict(broken, parity.Bounds(1.0)) == "translate returns NaN or infinite values"


def test_every_signature_is_timed(inputs):
    candidate = Line()
    times = parity.latency(candidate, inputs, ("translate", "encode"))
    assert list(times) == ["translate", "encode"] and all(value > 0 for value in times.values())
    assert candidate.batches == [1] * 2 * (parity.WARM_UP + parity.TIMED)
