"""Executes docs/quickstart.ipynb. As a script it writes the outputs into the file:

python tests/helpers/notebook.py
"""

import os
import sys
from pathlib import Path

import nbclient
import nbformat

PATH = Path(__file__).parents[2] / "docs" / "quickstart.ipynb"


def execute() -> nbformat.NotebookNode:
    """The executed notebook; pictures as JPEG only, which is small.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails.
    """
    notebook = nbformat.read(PATH, nbformat.NO_CONVERT)
    programs = str(Path(sys.executable).parent)  # the command cgan
    code = str(PATH.parents[1])
    client = nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": code}}
    )
    path = os.pathsep.join([programs, os.environ.get("PATH", "")])
    client.execute(env=os.environ | {"PATH": path, "PYTHONPATH": code})
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when it ran
        for output in cell.get("outputs", ()):
            if "image/jpeg" in output.get("data", {}):
                output.data.pop("image/png", None)
    return notebook


if __name__ == "__main__":
    nbformat.write(execute(), PATH)
