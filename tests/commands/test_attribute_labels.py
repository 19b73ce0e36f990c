"""The labels of custom attributes: how the names in a table find their photos."""

from pathlib import Path

import numpy as np
import pytest

from cgan_tf.commands import attribute_labels
from cgan_tf.core.errors import UserError

FILES = [f"{number}.png" for number in range(20)]


def labels(*names):
    """Labels of 20 photos or more: 1 for every second."""
    values = np.float32([[number % 2] for number in range(len(names))])
    return attribute_labels.Labels(Path("labels.csv"), ("A",), names, values)


def test_photos_are_named_as_they_exist(capsys):
    written = ("./0.png", "/x/1.png", *FILES[2:])
    found = attribute_labels.find_files(labels(*written), FILES, "the photos", Path("/x"))
    assert found.files == tuple(FILES)
    np.testing.assert_array_equal(found.values, labels(*FILES).values)
    line = "labels: labels.csv: 2 names written in another way (./0.png is 0.png)\n"
    assert capsys.readouterr().out == line
    same = attribute_labels.find_files(labels(*FILES), FILES, "the photos", None)
    assert same.files == tuple(FILES) and capsys.readouterr().out == ""


def test_names_outside_the_data_are_refused():
    absolute = labels(*FILES[:19], "/x/19.png")
    with pytest.raises(UserError, match="/x/19.png is outside the data, which has no folder; give"):
        attribute_labels.find_files(absolute, FILES, "the photos", None)
    with pytest.raises(UserError, match="/x/19.png is outside /y; give names relative"):
        attribute_labels.find_files(absolute, FILES, "the photos", Path("/y"))


def test_names_of_one_photo_are_counted_once():
    repeated = labels(*FILES[:19], "./1.png")
    with pytest.raises(UserError, match="--labels=labels.csv: 19 label.s.; give at least 20"):
        attribute_labels.find_files(repeated, FILES, "the photos", None)


def test_names_of_one_photo_with_different_labels_are_refused():
    with pytest.raises(UserError, match="0.png and ./0.png are one file, 0.png, with different"):
        attribute_labels.find_files(labels(*FILES[:19], "./0.png"), FILES, "the photos", None)
