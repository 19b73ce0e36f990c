"""Retrieval of photos by their features."""

import numpy as np

from cgan_tf.evaluation.retrieval import Gallery


def test_the_nearest_photo_by_the_angle_around_the_mean():
    # Around the mean (5, 5): right, up, left, down.
    photos = np.float32([[6, 5], [5, 6], [4, 5], [5, 4]])
    gallery = Gallery(photos)
    images = np.float32([[5.2, 5.1], [5.2, 5.1], [9, 5.5], [3, 4]])
    np.testing.assert_array_equal(gallery.finds(images, [0, 1, 0, 2]), [1, 0, 1, 1])
    assert gallery.chance == 0.25


def test_features_that_say_nothing_find_no_more_than_chance():
    same = Gallery(np.ones((4, 3)))
    assert same.finds(np.ones((4, 3)), np.arange(4)).mean() == same.chance
