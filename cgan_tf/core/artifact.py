"""A model's artifact: config.json and weights.h5, all that is needed to build and run it."""

import json
import os
from pathlib import Path
from typing import Any, TypeVar

import h5py
import keras

from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_json
from cgan_tf.core.folders import replacing_folder

Model = TypeVar("Model", bound=keras.Model)
_LARGEST_SIZE = 2**16  # of anything in a network's config: resolutions, widths, lengths of latents


def save_model(model: keras.Model, folder: str | Path) -> None:
    """Writes an artifact, completely or not at all; an existing one is replaced.

    Args:
        model: a built model whose `get_config` returns its constructor's arguments.
        folder: the artifact's folder.
    """
    folder = Path(folder)
    with replacing_folder(folder, str(folder), overwrite=True) as new:
        config = {"class": type(model).__name__, "arguments": model.get_config()}
        write_json(new / "config.json", config)
        with h5py.File(new / "weights.h5", "w") as file:
            for name, value in _named(model).items():
                file.create_dataset(name, data=value)
        with open(new / "weights.h5", "rb") as file:
            os.fsync(file.fileno())


def load_model(
    cls: type[Model] | tuple[type[Model], ...], folder: str | Path, dtype: str = "float32"
) -> Model:
    """Builds the model of an artifact and loads its weights.

    Args:
        cls: the model's class, or the classes that are allowed.
        folder: the artifact's folder.
        dtype: dtype policy of the computation; the weights are always float32.

    Raises:
        UserError: the artifact is missing, damaged, or of another class.
    """
    folder = Path(folder)
    try:
        config = json.loads((folder / "config.json").read_text(), parse_int=_size)
        known = {c.__name__: c for c in (cls if isinstance(cls, tuple) else (cls,))}
        if config["class"] not in known:
            raise UserError(f"{folder}: contains a {config['class']}, not a {' or '.join(known)}")
        model = known[config["class"]](**config["arguments"], dtype=dtype)
        with h5py.File(folder / "weights.h5") as file:
            values = {name: file[name][()] for name in _named(model)}
    except FileNotFoundError:
        raise UserError(f"{folder}: no model there; {_remedy(folder)}") from None
    except UserError:
        raise
    except Exception as error:  # Keras, TensorFlow and HDF5 raise errors of many types
        raise UserError(f"{folder}: damaged model ({error}); {_remedy(folder)}") from None
    for variable, value in zip(model.weights, values.values(), strict=True):
        if tuple(variable.shape) != value.shape:
            raise UserError(
                f"{folder}: damaged model ({variable.path} has shape {value.shape}); "
                f"{_remedy(folder)}"
            )
        variable.assign(value)
    return model


def _size(digits: str) -> int:
    """An integer of a network's config, which is refused before it takes all memory."""
    value = int(digits)
    if abs(value) > _LARGEST_SIZE:
        raise ValueError(f"a size of {digits[:20]}")
    return value


def _remedy(folder: Path) -> str:
    """An artifact lies in its stage's folder."""
    return f"--stage={folder.parent.name} --restart trains it again"


def _named(model: keras.Model) -> dict[str, Any]:
    """The weights by position, since Keras's paths depend on the models that were built before."""
    return {
        f"{index:04d}_{weight.name}": weight.numpy() for index, weight in enumerate(model.weights)
    }
