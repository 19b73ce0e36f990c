"""The notebook docs/quickstart.ipynb runs, and shows what its file shows."""

import base64
import io

import nbformat
import notebook
import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.filterwarnings("default")  # Jupyter's own


def pictures(content):
    """The pictures of the outputs, in order."""
    for cell in content.cells:
        for output in cell.get("outputs", ()):
            if picture := output.get("data", {}).get("image/jpeg"):
                yield np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))), np.int16)


def texts(content):
    """What the cells without pictures show."""
    for cell in content.cells:
        for output in cell.get("outputs", ()):
            if "image/jpeg" not in output.get("data", {}):
                yield output["text"] if "text" in output else output["data"]["text/plain"]


@pytest.mark.slow
def test_the_notebook_shows_what_its_file_shows():
    stored, new = nbformat.read(notebook.PATH, nbformat.NO_CONVERT), notebook.execute()
    nbformat.validate(stored)
    assert len([cell for cell in stored.cells if cell.cell_type == "code"]) == 10
    shown = list(pictures(stored))
    assert [picture.shape[1] // 256 for picture in shown] == [1, 2, 5, 3, 3]
    for one, two in zip(shown, pictures(new), strict=True):
        assert np.abs(one - two).mean() < 2
    before, after = shown[0], shown[1][:, :256]
    assert np.abs(before - after).mean() > 4, "the edit is visible"
    assert list(texts(stored))[0] == list(texts(new))[0]
    assert len(list(texts(stored))) == len(list(texts(new))) == 5
