"""What an app must know to use an exported editor: the content of model.json.

Written beside every exported file and inside it (a SavedModel's extra asset, a TFLite file's
metadata), and read back by `cgan_tf.editors`.
"""

from typing import Any

from cgan_tf.core import config as config_module
from cgan_tf.core.config import Config
from cgan_tf.core.files import file_hash
from cgan_tf.core.run_folder import RunFolder, versions
from cgan_tf.editing import detail
from cgan_tf.editing.description import DESCRIPTION_FORMAT, training_crop, usual_psnr
from cgan_tf.editing.models import read_directions
from cgan_tf.editing.network import Translator

LICENSE_NOTES = {
    "synthetic": "Trained on faces that cgan_tf draws itself; no third-party photo was used.",
    "celeba": "Trained on CelebA, which may be used for non-commercial research only; whether that "
    "binds this model is for its user to judge.",
    "folder": "Trained on the photos of its maker's own folder; ask the maker what they allow.",
}
SIGNATURES = {
    "translate": {"inputs": ["image", "strengths"], "output": "image"},
    "encode": {"inputs": ["image"], "output": "latent"},
    "generate": {"inputs": ["latent", "strengths"], "output": "image"},
    "sample": {"inputs": ["z"], "output": "image"},
    "attributes": {"inputs": ["image"], "output": "scores"},
    "translate_bytes": {"inputs": ["image_bytes", "strengths"], "output": "image_bytes"},
}


def describe(run: RunFolder, config: Config, translator: Translator) -> dict[str, Any]:
    """The description of a run's editor, as plain JSON values.

    Args:
        run: the run folder that the translator came from.
        config: its resolved options.
        translator: with its regressor.
    """
    generator = translator.generator
    directions = read_directions(run, generator.latent_shape, own=True)
    source = "celeba" if config.data.startswith("celeba") else config.data
    return {
        "format": DESCRIPTION_FORMAT,
        "attributes": list(translator.attributes),
        "scores": list(translator.regressor.attribute_names),
        "calibration": {name: entry.get("calibration", []) for name, entry in directions.items()},
        "keep_detail": detail.entries(directions),
        "image": {"layout": "NHWC", "dtype": "float32", "range": [-1.0, 1.0]},
        "resolution": translator.resolution,
        "crop": training_crop(config),
        "usual_psnr": usual_psnr(run),
        "space": generator.space,
        "latent_shape": list(generator.latent_shape),
        "truncation": config.truncation,
        "z_dim": generator.z_dim,
        "prior": generator.prior,
        "signatures": SIGNATURES,
        "hashes": model_hashes(run),
        "license": LICENSE_NOTES[source],
        "data": config_module.to_dict(config)["data"],
        "versions": versions(),
    }


def model_hashes(run: RunFolder) -> dict[str, str]:
    """SHA-256 of each artifact that an export is made of, by its path in the run folder."""
    paths = [run.stage(name).model / "weights.h5" for name in ("gan", "inversion", "regressor")]
    paths += sorted(run.stage("directions").model.glob("*.json"))
    paths += [run.own_path(name) for name in run.own_attributes()]
    return {path.relative_to(run.path).as_posix(): file_hash(path) for path in paths}
