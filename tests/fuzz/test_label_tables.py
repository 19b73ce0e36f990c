"""Strange tables of labels: read, or refused in one line."""

import contextlib
import random

import fuzzing
import mutation
import numpy as np
import pytest

from cgan_tf.commands import attribute_labels
from cgan_tf.core.errors import UserError
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.data import celeba, class_folders, folder, framing

FILES = ("a.jpg", "b.png", "s/c.jpg", "e\u0301.png")
TABLES = (
    "file,Smiling,Glasses\na.jpg,1,-1\nb.png,-1,1\ns/c.jpg,1,1\ne\u0301.png,1,1\n",
    ',image_id,Smiling\n0,"a.jpg",0\n1,./b.png,1\n2,s\\c.jpg,1\n3,\u00e9.png,0\n',
    "sep=;\nfile;Smiling;Hat;\nA.JPG;1,0;0,0;\nb.png;true;false;\n/x/s/c.jpg;1;0;\n",
    "filename\tSmiling\na.jpg\tTRUE\nb.png\tFALSE\n",
)
PARTS = (
    *(",", ";", "\t", "\n", "\r", "\r\n", '"', "'", "\\", "/", "..", " ", "\0", "\u2212", "\ufeff"),
    *("1", "-1", "0", "2", "1e400", "nan", "true", "file", "a.jpg", "C:\\x\\a.jpg", "=", "+"),
    *("e\u0301", "\u00e9", "\ud800", "A" * 300, "x," * 300, '"' + "y" * 200_000, "sep=,\n"),
)
OFFICIAL = (
    "4\nSmiling Male Young \na.jpg  1 -1  1\nb.png -1 -1  1\ns/c.jpg  1  1 -1\nd.jpg -1 1 1\n",
    "image_id,Smiling,Male\na.jpg,1,-1\nb.png,-1,-1\n",
)
PARTITION = ("a.jpg 0\nb.png 1\ns/c.jpg 2\n", "image_id,partition\na.jpg,0\nb.png,1\ns/c.jpg,2\n")


def strange(draw, texts):
    """The bytes of a table: changed as text, in some encoding, at times damaged."""
    text = mutation.changed_text(draw, draw.choice(texts), PARTS)
    code = draw.choice(("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-be"))
    content = text.encode(code, "surrogatepass")
    return mutation.damaged(draw, content) if draw.random() < 0.2 else content


@fuzzing.budget(24, 400)
def test_a_table_is_read_or_refused(count, tmp_path):
    (tmp_path / "s").mkdir()
    for name in FILES:
        (tmp_path / name).touch()

    def check(seed):
        content = strange(random.Random(seed), TABLES)
        (tmp_path / "labels.csv").write_bytes(content)
        with contextlib.suppress(UserError):
            names, labels, note = folder.read_labels(tmp_path, FILES, str(tmp_path))
            assert labels.shape == (len(FILES), len(names)) and names
            assert np.isin(labels, (0, 1)).all() and "\n" not in note
            note.encode()
        assert (tmp_path / "labels.csv").read_bytes() == content

    fuzzing.run(check, count)


@fuzzing.budget(8, 200)
def test_the_labels_of_custom_attributes_are_read_or_refused(count, tmp_path, monkeypatch):
    monkeypatch.setattr(attribute_labels, "MIN_LABELS", 2)
    monkeypatch.setattr(attribute_labels, "FOLDS", 1)
    run = RunFolder(tmp_path / "run")
    path = tmp_path / "custom.csv"

    def check(seed):
        draw = random.Random(seed)
        path.write_bytes(strange(draw, TABLES))
        chosen = draw.choice(([], [], ["Smiling"], ["Hat", "Smiling"], [""], ["a\nb"]))
        with contextlib.suppress(UserError):
            labels = attribute_labels.read_labels(str(path), chosen, run)
            labels = attribute_labels.find_files(labels, FILES, "the photos", tmp_path)
            assert labels.values.shape == (len(labels.files), len(labels.names))
            assert set(labels.files) <= set(FILES)

    fuzzing.run(check, count)


@pytest.mark.parametrize("ending", [".txt", ".csv"])
@fuzzing.budget(4, 75)
def test_the_tables_of_celeba_are_read_or_refused(count, ending, tmp_path):
    def check(seed):
        draw = random.Random(seed)
        table, part = tmp_path / f"attributes{ending}", tmp_path / f"partition{ending}"
        table.write_bytes(strange(draw, OFFICIAL))
        part.write_bytes(strange(draw, PARTITION))
        with contextlib.suppress(UserError):
            names, files, labels = celeba._read_any_attributes(table)
            assert labels.shape == (len(files), len(names)) and np.isin(labels, (0, 1)).all()
        with contextlib.suppress(UserError):
            assert set(celeba.read_partition(part).values()) <= {0, 1, 2}

    fuzzing.run(check, count)


@fuzzing.budget(4, 50)
def test_what_lies_beside_the_photos_is_read_or_refused(count, tmp_path):
    """framing.json, and sub-folders of any names."""

    def check(seed):
        draw = random.Random(seed)
        (tmp_path / framing.FRAMING).write_bytes(mutation.json_text(draw, {"framing": "celeba"}))
        with contextlib.suppress(UserError):
            assert framing.read_framing(tmp_path) == framing.CELEBA
        files = [mutation.changed_text(draw, name, PARTS).strip("/") or "x" for name in FILES]
        with contextlib.suppress(UserError):
            classes = class_folders.read_classes(files, "photos")
            assert classes.labels.shape == (len(files), len(classes.names))

    fuzzing.run(check, count)
