"""The whole chain as one model: x' = G(E(x) + sum_k eps_k d_k).

Takes what the gan, inversion and directions stages left in a run folder and puts it together;
`editors` offers it to `cgan_tf.translate`, and `export` writes it as SavedModel and TFLite.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cgan_tf.core import artifact
from cgan_tf.core import config as config_module
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import file_hash
from cgan_tf.core.run_folder import RunFolder, StageFolder
from cgan_tf.networks import generators
from cgan_tf.networks.encoder import Encoder
from cgan_tf.networks.vgg import Regressor, widened

EDIT = "edit"  # scope of the operators that move latents: `export` must not quantize them


class Translator(keras.Model):
    """Encodes a photo, moves its latent along the attributes' directions, and draws the result.

    Args:
        generator: latent `[N, *latent_shape]` -> image, in the encoder's space.
        encoder: image -> latent.
        directions: one float32 vector of the latent's shape per attribute, in the order of the
            strengths; strength 1 moves by one vector.
        regressor: image -> scores `[N, all attributes]` in [0, 1], if the scores are wanted.
        truncation: psi of `sample`, of a `StyleGenerator`; see there.
    """

    def __init__(
        self,
        generator: keras.Model,
        encoder: keras.Model,
        directions: Mapping[str, np.ndarray],
        regressor: keras.Model | None = None,
        truncation: float = 1.0,
    ) -> None:
        super().__init__(name="translator")
        self.generator = generator
        self.encoder = encoder
        self.regressor = regressor
        self.truncation = truncation
        self.attributes = tuple(directions)
        vectors = np.stack([np.asarray(vector, np.float32) for vector in directions.values()])
        self.directions = self.add_weight(
            shape=vectors.shape, initializer="zeros", trainable=False, name="directions"
        )  # [K, *latent_shape]
        self.directions.assign(vectors)
        self.built = True

    @property
    def resolution(self) -> int:
        """Side of the images in px."""
        return self.generator.resolution

    def encode(self, image: tf.Tensor) -> tf.Tensor:
        """Latents float32 `[N, *latent_shape]` of images float32 `[N, R, R, 3]` in [-1, 1]."""
        return self.encoder(image, training=False)

    def generate(self, latent: tf.Tensor, strengths: tf.Tensor) -> tf.Tensor:
        """Images `[N, R, R, 3]` in [-1, 1] of latents moved by strengths float32 `[N, K]`."""
        with tf.name_scope(EDIT):
            moved = latent + self.step(strengths)
        return self.generator(moved, training=False)

    def step(self, strengths: tf.Tensor) -> tf.Tensor:
        """How far latents move, `[N, *latent_shape]`, for strengths float32 `[N, K]`."""
        rows = tf.reshape(self.directions, (len(self.attributes), -1))
        return tf.reshape(tf.matmul(strengths, rows), (-1, *self.directions.shape[1:]))

    def translate(self, image: tf.Tensor, strengths: tf.Tensor) -> tf.Tensor:
        """The edited images `[N, R, R, 3]`; strengths of 0 give the reconstruction."""
        return self.generate(self.encode(image), strengths)

    def sample(self, z: tf.Tensor) -> tf.Tensor:
        """Images `[N, R, R, 3]` of z `[N, z_dim]` drawn from the generator's prior."""
        return sample(self.generator, z, self.truncation)

    def score(self, image: tf.Tensor) -> tf.Tensor:
        """The regressor's scores `[N, all attributes]` in [0, 1]."""
        return self.regressor(image, training=False)

    def call(self, image: tf.Tensor, strengths: tf.Tensor) -> tf.Tensor:
        """Same as `translate`."""
        return self.translate(image, strengths)

    @classmethod
    def from_run(cls, path: str | Path, scores: bool = False, own: bool = False) -> "Translator":
        """Puts a run folder's models together, in float32.

        Args:
            path: the run folder.
            scores: load the regressor too.
            own: with the own attributes (`cgan_tf.attribute`), which the judge does not know.

        Raises:
            UserError: no run folder, a stage that has not finished (the message has its command),
                a damaged model, or directions of another generator.
        """
        run = RunFolder(path)
        config = run.load_config()
        names = ("gan", "inversion", "directions") + (("regressor",) if scores else ())
        stages = {name: finished_stage(run, name) for name in names}
        for name in ("inversion", "directions"):
            if stages[name].read_metadata()["parents"].get("gan") != stages["gan"].artifact_hash():
                raise UserError(
                    f"{run.path}: the {name} stage belongs to another generator than the gan stage "
                    f"left; run python train_main.py --stage={name} --restart --run_dir={run.path}"
                )
        generator = generators.load(stages["gan"].model, config_module.space(config))
        directions = read_directions(run, generator.latent_shape, own)
        return cls(
            generator,
            artifact.load_model(Encoder, stages["inversion"].model),
            {name: entry["vector"] for name, entry in directions.items()},
            load_regressor(run, run.own_attributes() if own else ()) if scores else None,
            config.truncation,
        )


def sample(generator: keras.Model, z: tf.Tensor, truncation: float) -> tf.Tensor:
    """Images `[N, R, R, 3]` of z `[N, z_dim]`, truncated as a run's options say."""
    if truncation == 1:  # only a StyleGenerator has another
        return generator.from_prior(z)
    return generator.from_prior(z, truncation)


def finished_stage(run: RunFolder, name: str) -> StageFolder:
    """The folder of a stage that has finished; UserError with the stage's command if it has not."""
    stage = run.stage(name)
    if not stage.finished():
        raise UserError(
            f"{run.path}: the {name} stage has not finished; run "
            f"python train_main.py --stage={name} --run_dir={run.path}"
        )
    return stage


def load_regressor(run: RunFolder, own: Iterable[str] = (), dtype: str = "float32") -> Regressor:
    """The regressor of a run whose regressor stage has finished.

    Args:
        run: the run folder.
        own: the own attributes whose heads it gets, after the attributes that it was trained on.
        dtype: dtype policy of the computation.

    Raises:
        UserError: it is missing or damaged, or an own attribute's file is.
    """
    regressor = artifact.load_model(Regressor, run.stage("regressor").model, dtype)
    names = tuple(own)
    if not names:
        return regressor
    weights = file_hash(run.stage("regressor").model / "weights.h5")
    size = regressor.head.kernel.shape[0]
    heads = {}
    for name in names:
        path = run.own_path(name)
        entry = _read_entry(path, _OWN_REMEDY)
        try:
            kernel = np.asarray(entry["head"]["kernel"], np.float32)
            bias, owner = float(entry["head"]["bias"]), entry["regressor"]
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{path} is damaged; {_OWN_REMEDY}") from None
        if owner != weights:
            raise UserError(
                f"{path} belongs to another regressor than {run.path}/regressor; {_OWN_REMEDY}"
            )
        if kernel.shape != (size,) or not np.isfinite([*kernel, bias]).all():
            raise UserError(
                f"{path} is damaged (its head is not {size} finite numbers); {_OWN_REMEDY}"
            )
        heads[name] = kernel, bias
    return widened(regressor, heads, dtype)


_OWN_REMEDY = "make it anew by python -m cgan_tf.attribute --restart"


def read_directions(
    run: RunFolder, shape: tuple[int, ...], own: bool = False
) -> dict[str, dict[str, Any]]:
    """The direction files of a run by attribute, in the order of the run's --attributes.

    Args:
        run: a run folder whose directions stage has finished.
        shape: that each vector must have, the latent's.
        own: the own attributes' too, after those.

    Raises:
        UserError: a file is missing or damaged, or belongs to another generator.
    """
    folder = run.stage("directions").model
    asked = run.load_config().attributes
    names = asked or sorted(path.stem for path in folder.glob("*.json"))
    generator = file_hash(run.stage("gan").model / "weights.h5")
    remedy = f"run python train_main.py --stage=directions --restart --run_dir={run.path}"
    if not names:
        raise UserError(f"{folder}: no directions there; {remedy}")
    places = {name: (folder / f"{name}.json", remedy) for name in names}
    if own:
        places |= {name: (run.own_path(name), _OWN_REMEDY) for name in run.own_attributes()}
    directions = {}
    for name, (path, remedy) in places.items():
        directions[name] = entry = _read_entry(path, remedy)
        try:
            vector, owner = np.asarray(entry["vector"], np.float32), entry["generator"]
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{path} is damaged; {remedy}") from None
        if owner != generator:
            raise UserError(f"{path} belongs to another generator than {run.path}/gan; {remedy}")
        if vector.shape != shape or not np.isfinite(vector).all():
            numbers = " x ".join(map(str, shape))
            raise UserError(f"{path} is damaged (not {numbers} finite numbers); {remedy}")
    return directions


def _read_entry(path: Path, remedy: str) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {remedy}") from None
    except ValueError:
        raise UserError(f"{path} is damaged; {remedy}") from None
