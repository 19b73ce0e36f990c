"""Inversion by optimization: the code of a photo by gradient descent, the generator being fixed.

`optimize` starts from the mean latent and from samples of the prior (Abdal et al. 2019; Karras et
al. 2020, appendix D), without detail features, and `hybrid` from the encoder's code (Zhu et al.
2016). The latent and the detail features, if there are any, descend together.
`cgan translate --inversion` and the evaluate stage use them.

The distance between a photo x and an image y is

    pixel_weight * mean (x - y)^2 + feature_weight * perceptual(x, y) + offset_weight * mean |o|,

where o is the latent's offset from the mean latent. `hybrid` with detail features compares pixels
only: the encoder has the face, the features lack its fine detail, and VGG16 would take ten times as
long for a worse reconstruction. Adam minimizes it; the learning rate is constant for the first half
of the steps and then follows a half cosine to 0. Each photo has its own Adam moments, best latent
and early stopping, so its result does not depend on its batch.
"""

import dataclasses
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from cgan_tf.core import artifact
from cgan_tf.core.config import Config, features_side
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import expand
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.data import images
from cgan_tf.editing import models
from cgan_tf.editing.models import finished_stage
from cgan_tf.networks.codec import Code, Codec
from cgan_tf.networks.generators import AnyGenerator
from cgan_tf.networks.stylegan import StyleGenerator
from cgan_tf.networks.vgg import Perceptual, Regressor

BATCH = 16  # photos; VGG16 needs about 30 MB for each at 128 px
CHUNK = 10  # steps per call, and between two points of the curve
HYBRID_STEPS, OPTIMIZE_STEPS = 50, 100  # per start; more change the PSNR by less than 0.1 dB
FEATURES_STEPS = 20  # of `hybrid` with detail features; 40 add 3 dB and take 8 % off edits
RAMP_DOWN = 0.5  # last fraction of the steps, in which the learning rate falls
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # of Adam
IMPROVEMENT = 0.005  # smallest relative improvement that early stopping counts
ELLIPSE = "ellipse"  # name of the built-in mask
CENTER, AXES = (0.5, 0.54), (0.36, 0.46)  # of the ellipse, x and y, as fractions of the side


@dataclasses.dataclass(frozen=True)
class Settings:
    """Hyperparameters."""

    steps: int  # per start
    seed: int
    learning_rate: float = 0.1  # initial, on the latent
    features_rate: float = 0.1  # of the detail features, relative to the latent's
    starts: int = 2  # number of starts of `optimize`: the mean latent, then random samples
    patience: int = 30  # early-stopping patience per photo, in steps; 0: no early stopping
    pixel_weight: float = 1.0
    feature_weight: float = 1.0  # of the perceptual distance
    offset_weight: float = 0.0  # of the latent's L1 distance from the mean latent

    @classmethod
    def of(cls, config: Config, mode: str) -> "Settings":
        """The settings of a run; the mode is "hybrid" or "optimize"."""
        if mode == "optimize":
            return cls(OPTIMIZE_STEPS, config.seed)
        if features_side(config) is None:
            return cls(HYBRID_STEPS, config.seed)
        # The latent moves little, so that an edit does what it does to the encoder's code.
        return cls(
            FEATURES_STEPS,
            config.seed,
            learning_rate=0.02,
            features_rate=0.5,
            feature_weight=0.0,
        )


@dataclasses.dataclass(frozen=True)
class Projection:
    """The codes of N photos, and the convergence curve with T points.

    The first point is the start itself; the others are `CHUNK` steps apart, through all starts in
    turn. Each point gives the best so far.
    """

    latents: np.ndarray  # float32 [N, *latent_shape]
    features: np.ndarray  # float32 [N, *features_shape]
    distances: np.ndarray  # float32 [N]
    steps: np.ndarray  # int [T]
    seconds: np.ndarray  # float [T], for the complete batch, without tracing
    curve: np.ndarray  # float32 [T, N]: distances
    path: list[Code]  # T, with rows for the N photos

    def codes(self) -> list[dict[str, np.ndarray]]:
        """The code of each photo."""
        pairs = zip(self.latents, self.features, strict=True)
        return [{"latent": latent, "features": features} for latent, features in pairs]


class Projector:
    """Optimizes codes of a generator.

    Args:
        codec: stays fixed; its encoder gives the start of `hybrid`.
        perceptual: the perceptual distance.
        settings: the hyperparameters.
        mask: float32 `[R, R]` in [0, 1], the weight of each pixel. Where it is 0 the photo has no
            influence: both images are blanked there before VGG16, whose receptive fields cross the
            border of the mask, and the feature maps are weighted by the downsampled mask.
    """

    def __init__(
        self,
        codec: Codec,
        perceptual: Perceptual,
        settings: Settings,
        mask: np.ndarray | None = None,
    ) -> None:
        self.codec = codec
        self.generator = generator = codec.generator
        self.perceptual = perceptual
        self.settings = settings
        self.mask = None if mask is None else tf.constant(mask[None, :, :, None], tf.float32)
        self.mean = mean_latent(generator)  # [*latent_shape]
        image = tf.TensorSpec((None, generator.resolution, generator.resolution, 3), tf.float32)
        self._extract = tf.function(self._features, input_signature=[image], autograph=False)
        self._advance = tf.function(self._chunk, autograph=False, reduce_retracing=True)
        self._traced: set[int] = set()

    def starts(self, count: int) -> list[Code]:
        """The starts of `optimize`, `count` codes each: the mean latent, then samples.

        All photos have the same starts, so that the result does not depend on the place in the
        batch. StyleGAN normalizes z, so z = 0 is not a valid start: there all starts are samples.
        """
        normalized = self.generator.space == "z" and isinstance(self.generator, StyleGenerator)
        points = [] if normalized else [self.mean]
        others = self.settings.starts - len(points)
        if others:
            points += tf.unstack(self.generator.sample_latent(others, seed=self.settings.seed))
        none = tf.zeros((count, *self.codec.features_shape))
        return [Code(tf.repeat(point[None], count, axis=0), none) for point in points]

    def project(self, photos: np.ndarray, starts: Sequence[Code]) -> Projection:
        """The best codes of photos, over all starts.

        Args:
            photos: one batch, float32 `[N, R, R, 3]` in [-1, 1]; see `invert` for more.
            starts: codes of N photos each.
        """
        target = tf.constant(photos, tf.float32)
        features = self._extract(target) if self.settings.feature_weight else []
        if len(photos) not in self._traced:  # keeps the tracing out of the seconds
            self._run_chunk(self._begin(starts[0]), target, features, stop=0)
            self._traced.add(len(photos))
        began = time.perf_counter()
        best, codes = np.full(len(photos), np.inf, np.float32), starts[0]
        points: list[tuple] = []
        for index, start in enumerate(starts):
            state = self._begin(start)
            # The first chunk is one step: it gives the point of the curve for the start itself.
            for stop in (1, *range(CHUNK, self.settings.steps, CHUNK), self.settings.steps):
                before = int(state[0])
                state = self._run_chunk(state, target, features, stop)
                found = state[5].numpy()
                better = found < best
                distances = np.where(better, found, best)
                closest = _chosen(better, state[4], codes)
                if int(state[0]) > before:
                    steps = index * self.settings.steps + int(state[0])
                    seconds = time.perf_counter() - began
                    point = Code(*(part.numpy() for part in closest))
                    points.append((steps, seconds, distances, point))
            best, codes = distances, closest
        steps, seconds, curve = (np.stack([point[i] for point in points]) for i in range(3))
        path = [point[3] for point in points]
        return Projection(*path[-1], best, steps, seconds, curve, path)

    def distance(self, photos: tf.Tensor, code: Code) -> tf.Tensor:
        """The distances `[N]` of photos `[N, R, R, 3]` and their codes."""
        features = self._features(photos) if self.settings.feature_weight else []
        return self._losses(code, photos, features)

    # The state: step, code, Adam's two moments, best code and its distance, the distance at the
    # last improvement that counted, steps since then.

    def _begin(self, start: Code) -> tuple:
        count = start.latent.shape[0]
        zeros = Code(*map(tf.zeros_like, start))
        none = tf.fill((count,), np.float32(np.inf))
        return tf.constant(0), start, zeros, zeros, start, none, none, tf.zeros((count,), tf.int32)

    def _run_chunk(
        self, state: tuple, target: tf.Tensor, features: list[tf.Tensor], stop: int
    ) -> tuple:
        return self._advance(state, target, features, tf.constant(stop))

    def _chunk(
        self, state: tuple, target: tf.Tensor, features: list[tf.Tensor], stop: tf.Tensor
    ) -> tuple:
        """Steps until number `stop`, or until all photos have stopped."""

        def unfinished(step: tf.Tensor, *rest: Any) -> tf.Tensor:
            return (step < stop) & tf.reduce_any(self._active(rest[-1]))

        def body(*state: Any) -> tuple:
            return self._step(state, target, features)

        return tf.while_loop(unfinished, body, state)

    def _active(self, stale: tf.Tensor) -> tf.Tensor:
        patience = self.settings.patience
        return stale < patience if patience else tf.ones_like(stale, tf.bool)

    def _step(self, state: tuple, target: tf.Tensor, features: list[tf.Tensor]) -> tuple:
        step, code, moment, square, best, best_loss, mark, stale = state
        active = self._active(stale)
        with tf.GradientTape() as tape:
            tape.watch(list(code))
            losses = self._losses(code, target, features)  # [N]
            total = tf.reduce_sum(losses)
        unconnected = tf.UnconnectedGradients.ZERO  # a model without features has empty ones
        gradient = tape.gradient(total, list(code), unconnected_gradients=unconnected)

        better = active & (losses < best_loss)
        counts = active & (losses < mark * (1 - IMPROVEMENT))
        # Adam without variables, since its moments start from 0 in every batch.
        number = tf.cast(step + 1, tf.float32)
        moment = Code(
            *(BETA1 * old + (1 - BETA1) * new for old, new in zip(moment, gradient, strict=True))
        )
        square = Code(
            *(
                BETA2 * old + (1 - BETA2) * tf.square(new)
                for old, new in zip(square, gradient, strict=True)
            )
        )
        rate = self._rate(step)
        moved = Code(
            *(
                value
                - scale
                * rate
                * (m / (1 - BETA1**number))
                / (tf.sqrt(s / (1 - BETA2**number)) + EPSILON)
                for value, m, s, scale in zip(
                    code, moment, square, (1.0, self.settings.features_rate), strict=True
                )
            )
        )
        return (
            step + 1,
            _chosen(active, moved, code),
            moment,
            square,
            _chosen(better, code, best),
            tf.where(better, losses, best_loss),
            tf.where(counts, losses, mark),
            tf.where(counts, 0, stale + 1),
        )

    def _rate(self, step: tf.Tensor) -> tf.Tensor:
        """The learning rate at a step."""
        left = 1 - tf.cast(step, tf.float32) / self.settings.steps
        falling = tf.minimum(1.0, left / RAMP_DOWN)
        return self.settings.learning_rate * (0.5 - 0.5 * tf.cos(math.pi * falling))

    def _losses(self, code: Code, target: tf.Tensor, features: list[tf.Tensor]) -> tf.Tensor:
        settings, latent = self.settings, code.latent
        output = self.codec.generate(code)
        losses = tf.zeros(tf.shape(latent)[:1])  # [N]
        if settings.pixel_weight:
            errors = tf.reduce_mean(tf.square(output - target), axis=-1, keepdims=True)
            losses += settings.pixel_weight * self._masked_mean(errors)
        if settings.feature_weight:
            for ours, theirs in zip(self._features(output), features, strict=True):
                errors = tf.reduce_sum(tf.square(ours - theirs), axis=-1, keepdims=True)
                losses += settings.feature_weight * self._masked_mean(errors)
        if settings.offset_weight:
            axes = tuple(range(1, len(latent.shape)))
            losses += settings.offset_weight * tf.reduce_mean(tf.abs(latent - self.mean), axes)
        return losses

    def _features(self, photos: tf.Tensor) -> list[tf.Tensor]:
        """The perceptual feature maps of the masked photos."""
        return self.perceptual.features(photos if self.mask is None else photos * self.mask)

    def _masked_mean(self, errors: tf.Tensor) -> tf.Tensor:
        """The mean `[N]` of errors `[N, h, w, 1]` over positions, weighted by the mask."""
        if self.mask is None:
            return tf.reduce_mean(errors, axis=(1, 2, 3))
        factor = self.mask.shape[1] // errors.shape[1]
        weights = tf.nn.avg_pool2d(self.mask, factor, factor, "VALID")  # [1, h, w, 1]
        return tf.reduce_sum(errors * weights, axis=(1, 2, 3)) / tf.reduce_sum(weights)


def _chosen(rows: tf.Tensor | np.ndarray, ours: Code, others: Code) -> Code:
    """The codes of `ours` where `rows`, bool `[N]`, and those of `others` elsewhere."""
    return Code(
        *(
            tf.where(tf.reshape(rows, (-1, *[1] * (len(one.shape) - 1))), one, other)
            for one, other in zip(ours, others, strict=True)
        )
    )


def mean_latent(generator: AnyGenerator) -> tf.Tensor:
    """The mean latent, float32 `[*latent_shape]`: 0 in z, the moving average of w in w and ws."""
    mean = tf.zeros(generator.latent_shape, tf.float32)
    if generator.space == "z":
        return mean
    return mean + tf.convert_to_tensor(generator.w_mean, tf.float32)


def invert(projector: Projector, photos: np.ndarray, mode: str) -> list[Projection]:
    """Projects photos float32 `[N, R, R, 3]` in [-1, 1], `BATCH` at a time.

    Args:
        projector: see `Projector`.
        photos: any number.
        mode: "hybrid" or "optimize".

    Returns:
        One projection per batch.
    """
    results = []
    for first in range(0, len(photos), BATCH):
        batch = photos[first : first + BATCH]
        if mode == "hybrid":
            starts = [projector.codec.encode(tf.constant(batch, tf.float32))]
        else:
            starts = projector.starts(len(batch))
        results.append(projector.project(batch, starts))
    return results


def load_projector(
    path: str | Path,
    codec: Codec,
    mode: str = "hybrid",
    steps: int | None = None,
    mask: np.ndarray | None = None,
) -> Projector:
    """The projector of a run, with the run's options and perceptual distance.

    Args:
        path: the run folder.
        codec: of that run.
        mode: "hybrid" or "optimize".
        steps: number of steps; None for the run's.
        mask: see `Projector`.

    Raises:
        UserError: the regressor stage has not finished, its model is damaged, or the perceptual
            distance needs ImageNet weights that are not available.
    """
    run = RunFolder(path)
    config = run.load_config()
    regressor = artifact.load_model(Regressor, finished_stage(run, "regressor").model)
    settings = Settings.of(config, mode)
    if steps is not None:
        settings = dataclasses.replace(settings, steps=steps)
    return Projector(codec, models.load_perceptual(config, regressor), settings, mask)


# ---- masks -------------------------------------------------------------------------------------


def ellipse(resolution: int) -> np.ndarray:
    """The built-in mask, float32 `[R, R]`: 1 on the face of an aligned photo, 0 elsewhere."""
    center = (np.arange(resolution, dtype=np.float32) + 0.5) / resolution
    across = (center[None, :] - CENTER[0]) / AXES[0]
    down = (center[:, None] - CENTER[1]) / AXES[1]
    return (across**2 + down**2 <= 1).astype(np.float32)


def load_mask(text: str, resolution: int) -> tuple[np.ndarray, str]:
    """The mask of --mask, float32 `[R, R]` in [0, 1], and a note for the user if it was resized.

    Args:
        text: `ellipse`, or the path of an image: white pixels count, black ones do not.
        resolution: R, of the model.

    Raises:
        UserError: the image is unreadable, not square, or completely black.
    """
    if text == ELLIPSE:
        return ellipse(resolution), ""
    place = expand(text, "--mask")
    try:
        pixels = images.decode_file(place)
    except UserError as error:
        raise UserError(f"--mask: {error}; give an image file, or {ELLIPSE}") from None
    height, width = pixels.shape[:2]
    if height != width:
        raise UserError(
            f"--mask={text}: {width}x{height} px; it must be square, like the model's input "
            f"({resolution}x{resolution})"
        )
    gray, note = Image.fromarray(pixels).convert("L"), ""
    if width != resolution:
        gray = gray.resize((resolution, resolution), Image.Resampling.BOX)
        note = f"--mask: resized from {width} to {resolution} px"
    mask = np.asarray(gray, np.float32) / 255
    if not mask.any():
        raise UserError(f"--mask={text}: completely black, so no pixel counts; make the face white")
    return mask, note
