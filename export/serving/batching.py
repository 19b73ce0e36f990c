"""Joins concurrent requests of one signature into one run of the model.

Between the protocols and the model. The protocols' event loop puts checked requests into a queue;
one thread runs the model, and takes what waits as soon as it is free. So a request that comes
alone runs at once, and under load the batches grow by themselves.
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
    came: float


class Batcher:
    """The queue in front of the model, and the thread that runs it.

    Must be made and used on one event loop.

    Args:
        max_rows: of a batch.
        wait_s: how long the oldest request may wait for its batch to fill; 0: not at all.
        max_queue: requests that may wait; more are refused.
        metrics: told of batches and of the queue's length.
    """

    def __init__(self, max_rows: int, wait_s: float, max_queue: int, metrics: Metrics) -> None:
        self._max_rows = max_rows
        self._wait_s = wait_s
        self._max_queue = max_queue
        self._metrics = metrics
        self._queue: collections.deque[_Request] = collections.deque()
        self._came = asyncio.Event()
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "model")
        self._worker = asyncio.get_running_loop().create_task(self._work())

    async def predict(
        self, signature: Signature, inputs: Mapping[str, np.ndarray], timeout_s: float
    ) -> Outputs:
        """The outputs for one request's inputs.

        Raises:
            RequestError: inputs that do not fit, a full queue (UNAVAILABLE), no result within
                `timeout_s` (DEADLINE_EXCEEDED), or the graph's own error.
        """
        rows = signature.check(inputs)
        if len(self._queue) >= self._max_queue:
            raise RequestError(
                grpc.StatusCode.UNAVAILABLE,
                f"{len(self._queue)} requests are waiting already (--max_queue); try again later",
            )
        loop = asyncio.get_running_loop()
        request = _Request(signature, inputs, rows, loop.create_future(), loop.time())
        self._queue.append(request)
        self._metrics.queued(len(self._queue))
        self._came.set()
        try:
            return await asyncio.wait_for(request.answer, timeout_s)
        except asyncio.TimeoutError:
            raise RequestError(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                f"no result within {timeout_s:.3g} s; send less at a time, or allow more",
            ) from None

    async def close(self) -> None:
        """Ends the thread after its run; requests that still wait are cancelled."""
        self._worker.cancel()
        for request in self._queue:
            request.answer.cancel()
        self._thread.shutdown()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._came.wait()
            await self._fill()
            batch = self._take()
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

    async def _fill(self) -> None:
        """Waits until the first request's batch is full or it has waited long enough."""
        end = self._queue[0].came + self._wait_s
        while self._queue_rows() < self._max_rows:
            left = end - asyncio.get_running_loop().time()
            if left <= 0:
                return
            self._came.clear()
            try:
                await asyncio.wait_for(self._came.wait(), left)
            except asyncio.TimeoutError:
                return

    def _queue_rows(self) -> int:
        return sum(request.rows for request in self._queue)

    def _take(self) -> list[_Request]:
        """The first request and those of its signature behind it, in order, while rows fit."""
        batch: list[_Request] = []
        left: collections.deque[_Request] = collections.deque()
        rows, full = 0, False
        for request in self._queue:
            if request.answer.done():  # timed out, or its client has gone
                continue
            if batch and (full or request.signature is not batch[0].signature):
                left.append(request)
            elif batch and not (
                request.signature.batched and rows + request.rows <= self._max_rows
            ):
                full = True  # a later, smaller one must not overtake it
                left.append(request)
            else:
                batch.append(request)
                rows += request.rows
        self._queue = left
        self._metrics.queued(len(left))
        if not left:
            self._came.clear()
        return batch


def _run(batch: list[_Request]) -> list[Outputs | Exception]:
    """The result of each request. A batch that the graph refuses is halved until the culprit
    is alone, so that nobody fails for another's input.
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
