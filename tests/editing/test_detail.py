"""Footprints and factors of keep_detail: closed-form values, and edits confined to footprints."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from cgan_tf.core.errors import UserError
from cgan_tf.editing import detail


def bands():
    """Faces before and after an edit whose energies in four bands are in the ratio 20:10:4:1."""
    amplitudes = np.repeat(np.sqrt([10.0, 5.0, 2.0, 0.5]), 16)
    before = np.random.default_rng(0).uniform(-1, 0, (3, 64, 64, 3))
    signs = np.array([1, -1, 1]).reshape(3, 1, 1, 1)  # the sign does not matter
    return np.float32(before), np.float32(before + 0.1 * signs * amplitudes[:, None])


def test_the_footprint_of_bands(monkeypatch):
    """The first band makes up half of the energy, the first three more than nine tenths.

    Between the amplitudes of the first and the third band the footprint falls smoothly.
    """
    monkeypatch.setattr(detail, "BLUR", 1e-3)
    mask = detail.footprint(*bands(), (0.5, 0.9))
    assert mask.shape == (64, 64) and mask.dtype == np.float32
    rise = (np.sqrt(5) - np.sqrt(2)) / (np.sqrt(10) - np.sqrt(2))
    expected = np.repeat([1, rise**2 * (3 - 2 * rise), 0, 0], 16)
    np.testing.assert_allclose(mask, np.tile(expected, (64, 1)), atol=1e-4)


def test_a_footprint_has_no_hard_edge():
    row = detail.footprint(*bands(), (0.5, 0.9))[32]
    assert row[4] == 1 and row[40] < 0.01 and (np.diff(row) <= 1e-6).all()
    assert -np.diff(row).min() < 0.2


def test_an_edit_that_is_the_same_everywhere_acts_everywhere():
    before = np.zeros((2, 16, 16, 3), np.float32)
    assert (detail.footprint(before, before + 0.3, (0.5, 0.9)) > 0.999).all()
    assert (detail.footprint(before, before, (0.5, 0.9)) == 1).all()


def test_blur_of_an_impulse_is_the_gaussian():
    image = np.zeros((31, 31), np.float32)
    image[15, 15] = 1
    x = np.arange(-15, 16)
    inside = np.abs(x) <= 7  # the kernel has round(8 * 1.6 + 1) | 1 = 15 taps
    row = np.where(inside, np.exp(-(x**2) / (2 * 1.6**2)), 0)
    row /= row.sum()
    blurred = detail.gaussian_blur(image, 1.6)
    assert blurred.dtype == np.float32
    np.testing.assert_allclose(blurred, np.outer(row, row), atol=1e-7)


def test_blur_reflects_the_image_without_repeating_its_border():
    image = np.zeros((9, 9), np.float32)
    image[0, 1] = 1
    # Sigma 0.5 has 5 taps, exp(-2 x^2). The column to the left is a copy of the impulse's.
    center, side, far = np.exp([0, -2, -8]) / (1 + 2 * np.exp(-2) + 2 * np.exp(-8))
    expected = np.outer([center, side], [2 * side, center + far, side])
    np.testing.assert_allclose(detail.gaussian_blur(image, 0.5)[:2, :3], expected, atol=1e-7)


def test_blur_keeps_a_constant_image():
    image = np.full((8, 8), 0.3, np.float32)
    np.testing.assert_allclose(detail.gaussian_blur(image, 0.2), image, atol=1e-7)


@pytest.mark.parametrize("sigma", [0.2, 0.8, 1.6])
def test_blur_equals_that_of_opencv(sigma):
    image = np.random.default_rng(0).random((32, 32), np.float32)
    expected = cv2.GaussianBlur(image, (0, 0), sigma)
    np.testing.assert_allclose(detail.gaussian_blur(image, sigma), expected, atol=1e-6)


@pytest.mark.parametrize(
    "effects, chosen",
    [
        ({(0.3, 0.7): 0.491, None: 0.5}, (0.3, 0.7)),  # 0.49 is enough
        ({(0.3, 0.7): 0.4, (0.5, 0.8): 0.489, (0.5, 0.9): 0.52, None: 0.5}, (0.5, 0.9)),
        (dict.fromkeys(detail.SHARES, 0.4) | {None: 0.5}, None),
        ({None: -0.1}, None),  # a direction that lowers its attribute
    ],
)
def test_the_narrowest_footprint_that_keeps_the_effect_is_chosen(effects, chosen):
    before, after = bands()
    texts = {detail.encode(detail.footprint(before, after, one)): one for one in detail.SHARES}
    texts[detail.encode(np.ones((64, 64), np.float32))] = None
    assert len(texts) == len(detail.SHARES) + 1
    requested = []

    def change(text):
        requested.append(texts[text])
        return effects[texts[text]]

    assert texts[detail.choose_footprint(before, after, change)] == chosen
    assert set(requested) == set(effects)


def test_a_footprint_as_text():
    mask = np.random.default_rng(0).uniform(0, 1, (8, 8)).astype(np.float32)
    text = detail.encode(mask)
    np.testing.assert_allclose(detail.decode(text, 8), mask, atol=0.5 / 255 + 1e-6)
    assert detail.encode(detail.decode(text, 8)) == text
    assert detail.encode(np.float32([[0, 1], [1, 0]])) == "AP//AA=="


A, B = np.float32([[1, 0], [0, 0]]), np.float32([[0.2, 0.4], [0, 0]])
KEEP = detail.KeepDetail(np.float32([2.0, 0.5]), np.stack([A, B]))


@pytest.mark.parametrize(
    "strengths, shares",
    [
        ([0.7, 0.0], A),
        ([0.0, -0.1], B),
        ([-1.0, 0.3], np.float32([[1, 0.4], [0, 0]])),
        ([0.0, 0.0], np.zeros((2, 2))),
    ],
)
def test_an_edit_is_confined_to_the_footprints_of_active_directions(strengths, shares):
    draw = np.random.default_rng(1)
    before, images = draw.uniform(-1, 1, (2, 3, 2, 2, 3)).astype(np.float32)
    found = KEEP.confine(images, before, np.float32([strengths] * 3))
    expected = before + shares[..., None] * (images - before)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_strengths_are_multiplied_by_the_factors():
    scaled = KEEP.scaled(np.float32([[1.0, 1.0], [0.5, -2.0]]))
    np.testing.assert_allclose(scaled, [[2.0, 0.5], [1.0, -1.0]])


ENTRY = {"factor": 1.2, "footprint": detail.encode(A), "change": 0.5}


def test_the_entries_of_a_run_and_an_export():
    made = {"A": {"keep_detail": ENTRY}, "B": {"keep_detail": {"factor": 1.0}}, "C": {}}
    known = detail.entries(made)
    assert known == {"A": {"factor": 1.2, "footprint": ENTRY["footprint"]}}
    keep = detail.KeepDetail.of(known, ("A",), 2, Path("run"))
    np.testing.assert_array_equal(keep.footprints, A[None])
    np.testing.assert_array_equal(keep.factors, np.float32([1.2]))
    for older in (None, {}, {"A": 1.5, "B": 1.5}, known):  # B is missing
        assert detail.KeepDetail.of(older, ("A", "B"), 2, Path("run")) is None


@pytest.mark.parametrize(
    "change",
    [
        {"footprint": "AP//AA"},
        {"footprint": "AP//"},
        {"footprint": 3},
        {"factor": "x"},
        {"factor": float("nan")},
        {"factor": None},
    ],
)
def test_damaged_entries_are_refused(change):
    with pytest.raises(UserError, match="^run: its data for keep_detail is damaged"):
        detail.KeepDetail.of({"A": ENTRY | change}, ("A",), 2, Path("run"))
