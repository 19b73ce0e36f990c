"""What the gRPC and the HTTP service share: the model, its queue, the counters and the limits."""

import dataclasses

from cgan_tf.export.serving.batching import Batcher
from cgan_tf.export.serving.metrics import Metrics
from cgan_tf.export.serving.model import ServedModel


@dataclasses.dataclass(frozen=True)
class Engine:
    """Everything that a request handler needs.

    Attributes:
        model: the served model.
        batcher: the queue in front of it.
        metrics: counts every request.
        timeout_s: maximum time from a complete request to its answer; reading an HTTP body may
            take as long again. A client's own deadline may be shorter.
        max_bytes: maximum size of an input's tensor (gRPC), or of a body after decompression
            (HTTP).
    """

    model: ServedModel
    batcher: Batcher
    metrics: Metrics
    timeout_s: float
    max_bytes: int
