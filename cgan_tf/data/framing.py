"""framing.json, which says how the faces in a folder of photos are framed.

`cgan align` writes it next to its results. The folder data set reads it, and a run records what it
says, so that the run's model looks for faces in photos and frames them as it has seen them.
"""

import json
import pathlib

from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_json

FRAMING = "framing.json"
CELEBA = "celeba"  # each image is the square that is CelebA's crop of an aligned photo
UNKNOWN = ""


def write_framing(folder: pathlib.Path) -> None:
    """Marks the images of a folder as squares in CelebA's framing."""
    write_json(folder / FRAMING, {"framing": CELEBA})


def read_framing(folder: pathlib.Path) -> str:
    """The framing of the images in a folder: `CELEBA`, or `UNKNOWN` without a framing.json.

    Raises:
        UserError: the file is damaged, or names another framing.
    """
    path = folder / FRAMING
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return UNKNOWN
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); change its permissions, or delete it"
        ) from None
    except ValueError:
        content = None
    if content != {"framing": CELEBA}:
        raise UserError(
            f"{path} is not as cgan align writes it; align the photos again, or delete it if their "
            "faces are not framed as cgan align frames them"
        )
    return CELEBA
