"""The rules for faces in photos, for the device page: numbers and cascades.

The page's scripts find, crop and paste faces as `cgan_tf.data` does. They read its numbers from
rules.js, and OpenCV's cascades from cascades.json.
"""

import json
import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np

from cgan_tf.core.errors import UserError
from cgan_tf.data import face_crop, face_detection, images

RULES, CASCADES = "rules.js", "cascades.json"  # names of the files

_NUMBERS = {
    face_detection: (
        *("CROP_SIDE", "CROP_BELOW", "MIN_SQUARE", "MAX_SEARCH_SIDE", "MIN_SEARCH_SIDE", "MARGIN"),
        *("TILTS", "MIN_NEIGHBORS", "SCALE", "EYE_SCALE", "MIN_DETECTIONS", "MAX_OVERLAP", "TURNS"),
        *("PATCH", "PATCH_SIDE", "MIN_PATCH_SQUARE", "MAX_PATCH_SHIFT", "EYE_DISTANCE"),
        *("EYE_RATIO", "MAX_EYE_TILT", "EYE_TOP", "EYE_BOTTOM", "EYE_LEFTS", "EYE_WIDTH"),
        "MIN_EYE",
    ),
    face_crop: ("SOLID", "SOLID_DIFFERENCE", "SMALL_CHANGE", "LARGE_CHANGE", "REACH"),
    images: ("CELEBA_WIDTH", "CELEBA_HEIGHT", "CELEBA_SQUARE", "MAX_PIXELS"),
}


def rules() -> str:
    """The script rules.js, which exports each number under its name in Python."""
    lines = ["// Written by the export; each number is explained where cgan_tf.data defines it."]
    for module, names in _NUMBERS.items():
        lines.append(f"\n// {module.__name__}")
        for name in names:
            lines.append(f"export const {name} = {json.dumps(getattr(module, name))};")
    return "\n".join(lines) + "\n"


def cascades() -> str:
    """The file cascades.json: OpenCV's cascades `frontal` and `eye`, each with its license.

    Raises:
        UserError: OpenCV is missing, or has no cascades.
    """
    content = {
        "frontal": _cascade(face_detection.FRONTAL),
        "eye": _cascade(face_detection.EYE),
    }
    return json.dumps(content, separators=(",", ":"))


def _cascade(name: str) -> dict[str, Any]:
    """One of OpenCV's cascades.

    Returns:
        `license`: its text, with the cascade's author; `side`: of its window, px; `stages`: number
        of trees and threshold; `trees`: number of nodes; `nodes`: feature, threshold, left and
        right child, of which a positive one is a node of the same tree, another minus its leaf;
        `leaves`: scores; `features`: 1 if turned by 45 degrees or 0, then for each rectangle left,
        top, width, height and weight.
    """
    file = face_detection.cascade_file(name)
    try:
        text = file.read_text(encoding="utf-8")
        (notice,) = re.findall(r"<!--(.*?)-->", text, re.DOTALL)
        root = ElementTree.fromstring(text)[0]
    except (OSError, ValueError, ElementTree.ParseError, IndexError) as error:
        raise UserError(
            f"{file}: not a cascade of OpenCV ({error}); install opencv-python-headless again"
        ) from None
    content: dict[str, Any] = {"license": notice.strip(), "side": int(root.findtext("width", ""))}
    content |= {"stages": [], "trees": [], "nodes": [], "leaves": [], "features": []}
    for stage in root.iterfind("stages/_"):
        trees = stage.findall("weakClassifiers/_")
        content["stages"].append([len(trees), _numbers(stage, "stageThreshold")[0]])
        for tree in trees:
            values = _numbers(tree, "internalNodes")
            nodes = [values[start : start + 4] for start in range(0, len(values), 4)]
            content["trees"].append(len(nodes))
            content["nodes"] += [[node[2], node[3], node[0], node[1]] for node in nodes]
            content["leaves"] += _numbers(tree, "leafValues")
    for feature in root.iterfind("features/_"):
        rectangles = [_numbers(one) for one in feature.iterfind("rects/_")]
        content["features"].append([int(feature.findtext("tilted", "0")), *rectangles])
    return content


def _numbers(element: ElementTree.Element, tag: str | None = None) -> list[float | int]:
    """The numbers in the element, or in its child of this name, as short as float32 allows."""
    text = element.text if tag is None else element.findtext(tag)
    values = [float(np.format_float_scientific(np.float32(one))) for one in (text or "").split()]
    return [int(value) if value.is_integer() else value for value in values]
