"""A named model's folder without networks: its files are a few bytes, as model.json describes."""

import hashlib
import json
from pathlib import Path
from typing import Any

from cgan_tf.editing import named_models
from cgan_tf.editing.description import DESCRIPTION_FORMAT

CONTENT = {"model.tflite": b"translator", "scores.tflite": b"regressor", "face.png": b"face"}
QUALITY = {
    "fd": 5.96,
    "fd_floor": 0.96,
    "inversion": {"psnr": 25.25, "retrieval": 0.985, "retrieval_floor": 0.005},
    "attributes": {
        "Eyeglasses": {"change": 0.84, "leakage": 0.0123, "retrieval": 0.5, "n": 122},
        "Bangs": {"change": 0.91, "leakage": None, "retrieval": 0.25, "n": 130},
    },
}


def description(name: str, contents: dict[str, bytes] = CONTENT) -> dict[str, Any]:
    """The content of its model.json."""
    return {
        "format": DESCRIPTION_FORMAT,
        "attributes": ["Eyeglasses", "Bangs"],
        "scores": ["Smiling", "Eyeglasses", "Bangs"],
        "resolution": 64,
        "crop": "center_square",
        "prior": "normal",
        "z_dim": 8,
        "license": "Trained on synthetic faces.",
        "data": "synthetic",
        "name": name,
        "created": "2026-01-02T03:04:05+00:00",
        "command": f"cgan train --stage=all --run_dir=runs/{name} --seed=1",
        "seed": 1,
        "quality": QUALITY,
        "files": {
            file: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for file, content in contents.items()
        },
    }


def make(folder: Path, contents: dict[str, bytes] = CONTENT, **changes: Any) -> Path:
    """Writes the folder; `changes` replace entries of model.json."""
    folder.mkdir(parents=True)
    for file, content in contents.items():
        (folder / file).write_bytes(content)
    (folder / "model.json").write_text(json.dumps(description(folder.name, contents) | changes))
    return folder


def places(monkeypatch, tmp_path: Path) -> tuple[Path, Path]:
    """The user's and the shipped folder of named models, both empty, within `tmp_path`."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(named_models, "SHIPPED", tmp_path / "shipped")
    return tmp_path / "data" / "cgan_tf" / "models", tmp_path / "shipped"


def forget_home(monkeypatch) -> None:
    """As in a container without HOME, whose user has no account."""
    import pwd

    def unknown(number):
        raise KeyError(number)

    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
