"""The int8 variants: quantizes finished TFLite files, and samples the calibration data.

Called by the converter (`export.tflite`); `export.parity` and `export.gates` decide whether a
variant is good enough.

    dynamic      int8 weights; activations are quantized at run time. The fastest on a CPU.
    weight_int8  int8 weights, computed in float32: a quarter of the size, almost exact.
    int8         int8 weights and activations, with activation ranges from training photos, for
                 accelerators that only compute in int8. Made by TensorFlow's converter, because
                 the ai-edge-quantizer leaves leaky ReLUs in float32.
"""

import contextlib
import io
from collections.abc import Iterator

import numpy as np
from ai_edge_quantizer import algorithm_manager, qtyping, quantizer

from cgan_tf.editing.backends import Backend
from cgan_tf.networks.codec import EDIT

CALIBRATION = 200  # training photos that calibrate the ranges of int8
STRONGEST = 2.0  # maximum strength of a single attribute that the ranges of int8 cover


def quantize_weights(content: bytes, kind: str) -> bytes:
    """Quantizes a float32 .tflite file to "dynamic" or "weight_int8"; keeps its signatures.

    The operators that move a latent by strengths x directions stay float32: they cost almost
    nothing, and "dynamic" would round the user's strengths.
    """
    operators, none = qtyping.TFLOperationName, algorithm_manager.AlgorithmName.NO_QUANTIZE
    work = quantizer.Quantizer(content)
    add = work.add_dynamic_config if kind == "dynamic" else work.add_weight_only_config
    add(".*", operators.ALL_SUPPORTED, num_bits=8)
    # An operator is identified by the name of its output, and the last matching rule wins.
    work.update_quantization_recipe(
        rf"^{EDIT}(_\d+)?/", operators.ALL_SUPPORTED, algorithm_key=none
    )
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars
        result = work.quantize(enable_progress_bar=False, enable_progress_report=False)
    return bytes(result.quantized_model)


def sample_strengths(count: int, attributes: int, seed: int) -> np.ndarray:
    """Strengths for the calibration, float32 `[count, attributes]`.

    Every other row edits all attributes, by U(-1, 1); the rest edit one each, by U(-2, 2).
    """
    draw = np.random.Generator(np.random.PCG64([seed, 0x18]))
    strengths = draw.uniform(-1, 1, (count, attributes))
    for row in range(1, count, 2):
        column, strength = draw.integers(attributes), draw.uniform(-STRONGEST, STRONGEST)
        strengths[row] = strength * (np.arange(attributes) == column)
    return np.float32(strengths)


class Samples:
    """Calibration inputs for "int8", for every signature.

    Args:
        reference: the Keras backend, which computes the codes for `generate`.
        image: training photos float32 `[N, R, R, 3]` in [-1, 1].
        seed: seed of the strengths.
    """

    def __init__(self, reference: Backend, image: np.ndarray, seed: int) -> None:
        self.image = np.float32(image)
        self.code = reference.encode(self.image)
        self.strengths = sample_strengths(len(image), len(reference.attributes), seed)

    def __call__(self) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        """The converter's representative data: a signature and its inputs, batch 1."""
        for row in range(len(self.image)):
            one = slice(row, row + 1)
            image, strengths = self.image[one], self.strengths[one]
            code = {name: value[one] for name, value in self.code.items()}
            yield "translate", {"image": image, "strengths": strengths}
            yield "encode", {"image": image}
            yield "generate", code | {"strengths": strengths}
