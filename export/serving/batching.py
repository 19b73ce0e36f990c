"""Joins concurrent requests for one signature into one batch for the model.

Between the protocols and the model. The protocols' event loop puts checked requests into a queue;
one thread runs the model, and takes the next batch as soon as it is free. So a single request runs
at once, and the batches grow with the load.
"""

import asyncio
import collections
import concurrent.futures
import dataclasses
from collections.abc import Mapping

import grpc
import numpy as np

from cgan_tf.export.serving import model as served
from cgan_tf.export.serving.errors import RequestError
from cgan_tf.export.serving.metrics import Metrics
from cgan_tf.export.serving.model import Signature

Outputs = dict[str, np.ndarray]


@dataclasses.dataclass(eq=False)
class _Request:
    signature: Signature
    inputs: Mapping[str, np.ndarray]
    rows: int
    answer: asyncio.Future
    received: float  # by the loop's clock


class Batcher:
    """The queue in front of the model, and the thread that runs the model.

    Must be created and used on one event loop.

    Args:
        max_rows: maximum number of rows in a batch.
        wait_s: how long a request may wait for its batch to fill, in seconds; 0: not at all.
        max_queue: maximum number of waiting requests; further ones are refused.
        metrics: counts the batches and the length of the queue.
    """

    def __init__(self, max_rows: int, wait_s: float, max_queue: int, metrics: Metrics) -> None:
        self._max_rows = max_rows
        self._wait_s = wait_s
        self._max_queue = max_queue
        self._metrics = metrics
        self._queue: collections.deque[_Request] = collections.deque()
        self._changed = asyncio.Event()
        self._closed = False
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "model")
        self._worker = asyncio.get_running_loop().create_task(self._work())

    async def predict(
        self, signature: Signature, inputs: Mapping[str, np.ndarray], timeout_s: float
    ) -> Outputs:
        """The outputs for one request's inputs.

        Raises:
            RequestError: inputs that do not fit, a full queue or a stopped server (UNAVAILABLE),
                no result within `timeout_s` (DEADLINE_EXCEEDED), or the graph's own error.
        """
        rows = signature.check(inputs)
        if self._closed:
            raise _stopped()
        if len(self._queue) >= self._max_queue:
            raise RequestError(
                grpc.StatusCode.UNAVAILABLE,
                f"{len(self._queue)} requests are waiting already (--max_queue); try again later",
            )
        loop = asyncio.get_running_loop()
        request = _Request(signature, inputs, rows, loop.create_future(), loop.time())
        self._queue.append(request)
        self._queue_changed()
        try:
            return await asyncio.wait_for(request.answer, timeout_s)
        except asyncio.TimeoutError:
            raise RequestError(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                f"no result within {timeout_s:.3g} s; send smaller requests, or allow more time",
            ) from None
        finally:
            # Without a client it must neither run nor take a place in the queue.
            if request in self._queue:
                self._queue.remove(request)
                self._queue_changed()

    def drain(self) -> None:
        """From now on batches are not kept waiting to fill: no new requests will come."""
        self._wait_s = 0.0
        self._changed.set()

    def refuse(self) -> None:
        """Refuses the waiting requests (UNAVAILABLE), and all further ones."""
        self._closed = True
        for request in self._queue:
            if not request.answer.done():
                request.answer.set_exception(_stopped())
        self._queue.clear()
        self._queue_changed()

    async def close(self) -> None:
        """Answers the running batch, refuses all other requests, ends the thread."""
        self.refuse()
        await self._worker
        self._thread.shutdown()

    def _queue_changed(self) -> None:
        self._metrics.queue_length(len(self._queue))
        self._changed.set()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while (signature := await self._due()) is not None:
            batch = self._take(signature)
            if not batch:
                continue
            self._metrics.batch(sum(request.rows for request in batch))
            results = await loop.run_in_executor(self._thread, _run, batch)
            for request, result in zip(batch, results, strict=True):
                if request.answer.done():  # its client has gone
                    continue
                if isinstance(result, Exception):
                    request.answer.set_exception(result)
                else:
                    request.answer.set_result(result)

    async def _due(self) -> Signature | None:
        """Waits until a batch is due; its signature, or None once the batcher is closed.

        Decided again from the queue itself after every change: the event only wakes the worker, so
        requests that the last batch left behind need no event of their own.
        """
        loop = asyncio.get_running_loop()
        while not self._closed:
            self._changed.clear()
            now, left = loop.time(), None
            if self._queue:
                left = self._queue[0].received + self._wait_s - now
                signature = self._queue[0].signature if left <= 0 else self._full()
                if signature is not None:
                    return signature
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except asyncio.TimeoutError:
                pass
        return None

    def _full(self) -> Signature | None:
        """The first signature whose waiting requests fill a batch."""
        rows: collections.Counter[Signature] = collections.Counter()
        for request in self._queue:
            rows[request.signature] += request.rows
            if not request.signature.batched or rows[request.signature] >= self._max_rows:
                return request.signature
        return None

    def _take(self, signature: Signature) -> list[_Request]:
        """The oldest requests for a signature, in order, while their rows fit into a batch."""
        batch: list[_Request] = []
        left: collections.deque[_Request] = collections.deque()
        rows, full = 0, False
        for request in self._queue:
            if request.answer.done():  # timed out, or its client has gone
                continue
            if request.signature is not signature or full:
                left.append(request)
            elif batch and not (signature.batched and rows + request.rows <= self._max_rows):
                full = True  # a later, smaller one must not overtake it
                left.append(request)
            else:
                batch.append(request)
                rows += request.rows
        self._queue = left
        self._queue_changed()
        return batch


def _stopped() -> RequestError:
    return RequestError(grpc.StatusCode.UNAVAILABLE, "the server is stopping; try again later")


def _run(batch: list[_Request]) -> list[Outputs | Exception]:
    """The result of each request.

    A batch that the graph refuses is halved until the invalid request is alone, so that no request
    fails because of another's inputs.
    """
    try:
        return _run_together(batch)
    except Exception as error:  # a bug too must reach its request, and no other
        if len(batch) == 1:
            return [error]
    half = len(batch) // 2
    return [*_run(batch[:half]), *_run(batch[half:])]


def _run_together(batch: list[_Request]) -> list[Outputs | Exception]:
    signature = batch[0].signature
    if len(batch) == 1:
        parts = [served.run(signature, batch[0].inputs)]
    else:
        joined = {
            name: np.concatenate([request.inputs[name] for request in batch])
            for name in signature.inputs
        }
        outputs = served.run(signature, joined)
        ends = np.cumsum([request.rows for request in batch])
        parts = [
            {name: value[end - request.rows : end] for name, value in outputs.items()}
            for request, end in zip(batch, ends, strict=True)
        ]
    return [_checked(signature, part) for part in parts]


def _checked(signature: Signature, outputs: Outputs) -> Outputs | Exception:
    try:
        served.check_finite(signature, outputs)
    except RequestError as error:
        return error
    return outputs
