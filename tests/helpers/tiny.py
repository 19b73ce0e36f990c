"""The tests' tiny run: its options, a narrow VGG16, and a way to die at a chosen step."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import shared
from keras import layers

from cgan_tf import data
from cgan_tf.core import artifact
from cgan_tf.core import config as config_module
from cgan_tf.core.config import Config
from cgan_tf.core.options import resolve
from cgan_tf.core.run_folder import RunFolder, StageFolder
from cgan_tf.stages import directions, gan, inversion, regressor
from cgan_tf.training import checkpoint as checkpoint_module

VGG16 = keras.applications.VGG16  # the real one, also where a test has replaced it
STAGES = {
    "gan": gan.run,
    "regressor": regressor.run,
    "inversion": inversion.run,
    "directions": directions.run,
}
OPTIONS = {
    "seed": 3,
    "precision": "float32",
    "jit": "false",
    "resolution": 32,
    "synthetic_size": 100,
    "attributes": ("Smiling", "Eyeglasses"),
    "gan_kimg": 0.064,  # 8 steps
    "gan_batch_size": 8,
    "gan_z_dim": 8,
    "gan_prior": "normal",
    "gan_width": 4,
    "gan_penalty_interval": 3,
    "gan_d_norm": "none",
    "gan_minibatch_std": True,
    "regressor_kimg": 0.032,  # 8 steps
    "regressor_batch_size": 4,
    "regressor_vgg_weights": "none",
    "inversion_perceptual": "regressor",
    "inversion_kimg": 0.032,
    "inversion_batch_size": 4,
    "inversion_width": 4,
    "directions_kimg": 0.032,
    "directions_batch_size": 4,
}


def make_config(cache: Path, **options: Any) -> Config:
    """Resolved options: 32 px, 100 synthetic faces, eight steps per stage; `options` by flag."""
    values = OPTIONS | {"cache_dir": str(cache)} | options
    return resolve(config_module.replace(Config(), **values))


def slim_vgg16(
    include_top: bool = True,
    weights: str | None = "imagenet",
    input_shape: tuple | None = None,
) -> keras.Model:
    """VGG16 with few channels, except in the layers that the regressor's head uses."""
    assert not include_top and weights is None
    x = inputs = keras.Input(input_shape or (None, None, 3))
    for block, widths in enumerate(
        ((4, 4), (4, 4), (8, 8, 256), (8, 8, 512), (8, 8, 512)), start=1
    ):
        for index, channels in enumerate(widths, start=1):
            x = layers.Conv2D(
                channels, 3, padding="same", activation="relu", name=f"block{block}_conv{index}"
            )(x)
        x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    return keras.Model(inputs, x)


class Chain(NamedTuple):
    """A finished run of the four training stages, made with `slim_vgg16`; read-only."""

    config: Config
    folder: RunFolder
    faces: data.ImageData


def shared_chain(config: Config, faces: data.ImageData) -> Chain:
    """Trains all four stages, unless another process of the tests has done it."""

    def make(path: Path) -> None:
        folder = RunFolder(path / "run")
        save_config(folder, config, faces)
        for work in STAGES.values():
            work(config, folder, faces)

    folder = RunFolder(shared.folder("chain", make) / "run")
    return Chain(folder.load_config(), folder, faces)


def save_config(folder: RunFolder, config: Config, faces: data.ImageData) -> None:
    """What the train command does before the first stage."""
    folder.save_config(
        config, {"name": faces.name, "size": len(faces.files), "digest": faces.digest}
    )


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


def interrupt(patch: pytest.MonkeyPatch, checkpoint: int, kill: int) -> None:
    """Lets training write one checkpoint, after `checkpoint` steps, and die after `kill` steps.

    The options must ask for a checkpoint after every step (checkpoint_minutes=1e-9).
    """
    save = checkpoint_module.save_checkpoint

    def save_or_die(folder: Path, parts: dict, facts: dict) -> Path:
        if facts["step"] == kill:
            raise Killed
        return save(folder, parts, facts) if facts["step"] == checkpoint else folder

    patch.setattr(checkpoint_module, "save_checkpoint", save_or_die)


def final_state(stage: StageFolder) -> dict[str, np.ndarray]:
    """Every array of the newest checkpoint: weights, optimizers, averages, random states."""
    path = max(stage.checkpoints.glob("step-*.npz"))
    with np.load(path) as arrays:
        state = {name: arrays[name] for name in arrays.files if name != "facts"}
        assert json.loads(arrays["facts"].tobytes())["step"] == int(path.stem.split("-")[1])
    return state


def assert_equal_state(one: dict[str, np.ndarray], two: dict[str, np.ndarray]) -> None:
    """Bit for bit."""
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert value.tobytes() == two[name].tobytes(), name


def listing(path: Path) -> list[str]:
    """Every file under a folder, including hidden ones, and every empty folder."""
    return sorted(
        str(entry.relative_to(path))
        for entry in path.rglob("*")
        if entry.is_file() or not any(entry.iterdir())
    )


def snapshot(path: Path) -> dict[str, tuple[int, bytes]]:
    """The modification time and the content of every file under a folder."""
    return {
        name: ((path / name).stat().st_mtime_ns, (path / name).read_bytes())
        for name in listing(path)
        if (path / name).is_file()
    }


def values(model: keras.Model) -> list[np.ndarray]:
    """Copies of all weights."""
    return [weight.numpy().copy() for weight in model.weights]


def same(one: list[np.ndarray], two: list[np.ndarray]) -> bool:
    """Whether all are equal, bit for bit."""
    return all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def artifact_weights(cls: Callable, folder: Path) -> list[np.ndarray]:
    """The weights of a saved model."""
    return values(artifact.load_model(cls, folder))
