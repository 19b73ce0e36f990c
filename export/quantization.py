"""What makes the int8 variants: the quantizer of finished files, and the samples to calibrate with.

Beside the converter (`export.tflite`), which calls it; the gates (`export.parity`, `export.edits`)
decide on what comes of it:

    dynamic      int8 weights; activations are quantized as they come. The fastest on a CPU.
    weight_int8  int8 weights, computed in float32: a quarter of the size, all but exact.
    int8         int8 weights and activations, in ranges that training photos had, for accelerators
                 that compute in nothing else. By TensorFlow's converter: the ai-edge-quantizer
                 leaves the leaky rectifiers in float32.
"""

import contextlib
import io
from collections.abc import Iterator

import numpy as np
from ai_edge_quantizer import algorithm_manager, qtyping, quantizer

from cgan_tf.editing.backends import Editor
from cgan_tf.editing.network import EDIT

CALIBRATION = 200  # training photos behind the ranges of int8
STRONGEST = 2.0  # of one attribute at a time, that the ranges of int8 have room for


def quantize_weights(content: bytes, kind: str) -> bytes:
    """The "dynamic" or "weight_int8" form of a float32 .tflite file, with its signatures.

    The operators that move a latent by strengths x directions stay float32: they cost nothing, and
    "dynamic" would round the user's strengths.
    """
    operators, none = qtyping.TFLOperationName, algorithm_manager.AlgorithmName.NO_QUANTIZE
    work = quantizer.Quantizer(content)
    add = work.add_dynamic_config if kind == "dynamic" else work.add_weight_only_config
    add(".*", operators.ALL_SUPPORTED, num_bits=8)
    # An operator goes by the name of its result, and the later rule wins.
    work.update_quantization_recipe(f"^{EDIT}/", operators.ALL_SUPPORTED, algorithm_key=none)
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars
        result = work.quantize(enable_progress_bar=False, enable_progress_report=False)
    return bytes(result.quantized_model)


def draw_strengths(count: int, attributes: int, seed: int) -> np.ndarray:
    """Strengths to calibrate with, float32 `[count, attributes]`.

    Every other row edits all attributes, by U(-1, 1); the rest one each, by U(-2, 2).
    """
    draw = np.random.Generator(np.random.PCG64([seed, 0x18]))
    strengths = draw.uniform(-1, 1, (count, attributes))
    for row in range(1, count, 2):
        column, strength = draw.integers(attributes), draw.uniform(-STRONGEST, STRONGEST)
        strengths[row] = strength * (np.arange(attributes) == column)
    return np.float32(strengths)


class Samples:
    """Inputs to calibrate "int8" with, for every signature.

    Args:
        reference: the Keras editor, whose latents `generate` gets.
        image: training photos float32 `[N, R, R, 3]` in [-1, 1].
        seed: of the strengths.
    """

    def __init__(self, reference: Editor, image: np.ndarray, seed: int) -> None:
        self.image = np.float32(image)
        self.latent = reference.run("encode", image=self.image)
        self.strengths = draw_strengths(len(image), len(reference.attributes), seed)

    def __call__(self) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        """As the converter wants its representative data: a signature and its inputs, batch 1."""
        for row in range(len(self.image)):
            one = slice(row, row + 1)
            image, latent, strengths = self.image[one], self.latent[one], self.strengths[one]
            yield "translate", {"image": image, "strengths": strengths}
            yield "encode", {"image": image}
            yield "generate", {"latent": latent, "strengths": strengths}
