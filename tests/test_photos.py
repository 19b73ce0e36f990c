"""cgan_tf.photos: which files are photos, and what the model sees of them."""

import numpy as np
import pytest

from cgan_tf import photos
from cgan_tf.data import images
from cgan_tf.errors import UserError


def test_find_photos(tmp_path):
    for name in ("b.PNG", "a.jpeg", ".hidden.png", "notes.txt", "c.webp"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    found = photos.find_photos(str(tmp_path))
    assert [path.name for path in found] == ["a.jpeg", "b.PNG", "c.webp"]
    assert photos.find_photos(str(tmp_path / "notes.txt")) == [tmp_path / "notes.txt"]
    with pytest.raises(UserError, match="no photos in this folder"):
        photos.find_photos(str(tmp_path / "folder.png"))
    with pytest.raises(UserError, match="gone.png: no such file or folder"):
        photos.find_photos(str(tmp_path / "gone.png"))


def test_crops():
    draw = np.random.default_rng(0)
    wide = draw.integers(0, 256, (40, 60, 3), np.uint8)
    crop, words = photos.crop_photo(wide, 32, aligned=True)
    np.testing.assert_array_equal(crop, images.center_square_resize(wide, 32))
    assert words == "60x40, center square of 40 px"
    aligned = draw.integers(0, 256, (109, 89, 3), np.uint8)
    crop, words = photos.crop_photo(aligned, 32, aligned=True)
    np.testing.assert_array_equal(crop, images.celeba_crop_resize(aligned, 32))
    assert words == "89x109, CelebA's crop"
    crop, words = photos.crop_photo(aligned, 32, aligned=False)
    np.testing.assert_array_equal(crop, images.center_square_resize(aligned, 32))
    assert words == "89x109, center square of 89 px"
