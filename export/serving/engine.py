"""What the gRPC and the HTTP service share: the model, its queue, the counters and the limits."""

import dataclasses

from tensorflow_serving.apis import get_model_status_pb2

from cgan_tf.export.serving.batching import Batcher
from cgan_tf.export.serving.metrics import Metrics
from cgan_tf.export.serving.model import ServedModel


@dataclasses.dataclass
class Engine:
    """Everything that a request handler needs.

    Attributes:
        model: the served version. `reloading` replaces it, so a request reads it once.
        batcher: the queue in front of it.
        metrics: counts every request.
        timeout_s: maximum time from a complete request to its answer; reading an HTTP body may
            take as long again. A client's own deadline may be shorter.
        max_bytes: maximum size of an input's tensor (gRPC), or of a body after decompression
            (HTTP).
        others: state of the versions that are being loaded, or could not be, by number.
    """

    model: ServedModel
    batcher: Batcher
    metrics: Metrics
    timeout_s: float
    max_bytes: int
    others: dict[int, get_model_status_pb2.ModelVersionStatus] = dataclasses.field(
        default_factory=dict
    )
