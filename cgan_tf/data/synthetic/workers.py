"""Renders many faces in several processes.

The processes are fresh interpreters that communicate through pipes. Forking a process in which
TensorFlow runs threads can hang, and multiprocessing's spawn would run the caller's main module,
TensorFlow included, again in each process.
"""

import collections
import concurrent.futures
import contextlib
import itertools
import math
import os
import pathlib
import pickle
import queue
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from cgan_tf.data.synthetic.drawing import check_resolution, render
from cgan_tf.data.synthetic.face import Face

_CHUNK = 64  # faces that a process renders at a time


def render_many(faces: Sequence[Face], resolution: int, processes: int = 1) -> np.ndarray:
    """`render` of each face, in order: uint8 [N, R, R, 3].

    The result does not depend on the number of processes.

    Raises:
        UserError: see `render`.
    """
    check_resolution(resolution)
    out = np.empty((len(faces), resolution, resolution, 3), np.uint8)
    for i, image in enumerate(render_stream(faces, resolution, processes)):
        out[i] = image
    return out


def render_stream(
    faces: Iterable[Face], resolution: int, processes: int = 1
) -> Iterator[np.ndarray]:
    """Yields `render` of each face, in order; holds only a few chunks in memory.

    Raises:
        UserError: see `render`.
    """
    check_resolution(resolution)
    faces = iter(faces)
    chunks = iter(lambda: list(itertools.islice(faces, _CHUNK)), [])
    first = next(chunks, [])
    if processes <= 1 or len(first) < _CHUNK:  # too few to be worth starting processes
        for face in itertools.chain(first, itertools.chain.from_iterable(chunks)):
            yield render(face, resolution)
        return
    idle: queue.SimpleQueue[subprocess.Popen] = queue.SimpleQueue()

    def render_chunk(chunk: list[Face]) -> np.ndarray:
        worker = idle.get()
        try:
            return _request(worker, chunk, resolution)
        finally:
            idle.put(worker)

    workers = [_start_worker() for _ in range(processes)]
    pool = concurrent.futures.ThreadPoolExecutor(processes)
    try:
        for worker in workers:
            idle.put(worker)
        pending: collections.deque[concurrent.futures.Future] = collections.deque()
        for chunk in itertools.chain([first], chunks):
            pending.append(pool.submit(render_chunk, chunk))
            if len(pending) > 2 * processes:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        for worker in workers:
            with contextlib.suppress(BrokenPipeError):
                worker.stdin.close()
            worker.stdout.close()
            worker.wait()


def serve() -> None:
    """Runs in each process: reads faces, writes their pixels, returns when the pipe closes."""
    while True:
        try:
            faces, resolution = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        for face in faces:
            sys.stdout.buffer.write(render(face, resolution).data)
        sys.stdout.buffer.flush()


def _request(worker: subprocess.Popen, faces: list[Face], resolution: int) -> np.ndarray:
    """uint8 [n, R, R, 3]: the faces, rendered by one of the processes."""
    shape = (len(faces), resolution, resolution, 3)
    pixels = b""
    with contextlib.suppress(BrokenPipeError):
        pickle.dump((faces, resolution), worker.stdin)
        worker.stdin.flush()
        pixels = worker.stdout.read(math.prod(shape))
    if len(pixels) != math.prod(shape):
        raise RuntimeError("a process that renders faces ended early; its message is above")
    return np.frombuffer(pixels, np.uint8).reshape(shape)


def _start_worker() -> subprocess.Popen:
    root = str(pathlib.Path(__file__).resolve().parents[3])  # the folder that contains cgan_tf
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    # One BLAS thread: the matrix products are tiny, and the processes already use every core.
    environment = {
        **os.environ,
        "PYTHONPATH": path,
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-c", "from cgan_tf.data.synthetic.workers import serve; serve()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        start_new_session=True,  # only the parent handles Ctrl-C; it closes the pipe when it ends
    )
