"""The clips and the figure of `benchmarks.video`."""

import command_flags
import numpy as np
import pytest


@pytest.fixture(scope="module")
def video():
    return command_flags.benchmark("video")


def test_a_moved_photo_is_shifted_by_a_pixel_after_eight_frames(video):
    photo = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    frames = video.moved(photo, 9)
    assert frames.shape == (9, 16, 16, 3)
    one = video.moved(photo, 16)  # its middle frame is the photo itself
    np.testing.assert_array_equal(one[8], photo)
    np.testing.assert_array_equal(one[0, :-1, :-1], photo[1:, 1:])
    assert 0 < video.motion(one[:2]) < video.motion(one[[0, 4]])


def test_a_turning_face_passes_through_the_middle(video):
    frames = video.turning(3, 5, 32, 3)
    assert frames.shape == (3, 32, 32, 3) and frames.dtype == np.uint8
    assert (frames[0] != frames[1]).any() and (frames[1] != frames[2]).any()


def test_motion_is_the_mean_difference_of_neighbors(video):
    frames = np.zeros((3, 2, 2, 3), np.uint8)
    frames[1] = 6  # 6, then 6 back to 0 in unsigned bytes
    assert video.motion(frames) == pytest.approx(6.0)


def test_the_requests(video):
    rows = video.requests(("A", "B"))
    assert {name: row.tolist() for name, row in rows.items()} == {
        "reconstruction": [0, 0],
        "A +1": [1, 0],
        "B +1": [0, 1],
        "A +2": [2, 0],
        "B +2": [0, 2],
        "A +1, B +1": [1, 1],
    }
    assert list(video.requests(("A",))) == ["reconstruction", "A +1", "A +2"]
