"""Servers of the tests' model, in this process or in one of their own, and requests to them."""

import asyncio
import http.client
import io
import json
import logging
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import predict_pb2

from cgan_tf.export.serving import model as served
from cgan_tf.export.serving import server as service

ROOT = Path(__file__).parents[2]
# Addresses of another server to test, host:port; see served_model.py.
ADDRESSES = [os.environ.get(f"CGAN_SERVE_{name}") for name in ("REST", "GRPC")]
ours = pytest.mark.skipif(any(ADDRESSES), reason="a limit or an addition of our own server")
MODEL = "translator"
PREDICT = f"/v1/models/{MODEL}:predict"
MIB = 2**20
LIMIT = 4 * MIB  # --max_request_mb of the servers here
LINE = re.compile(
    r"serving translator version 1 at http://(127\.0\.0\.1:\d+) and grpc (127\.0\.0\.1:\d+) "
    r"\(for development; TensorFlow Serving is for production, see --help\)"
)


class Addresses(NamedTuple):
    """Where a server listens, host:port."""

    rest: str
    grpc: str


class ServerProcess:
    """`cgan serve` on free ports.

    Attributes:
        addresses: of the server.
        process: its process.
    """

    def __init__(self, model, *flags):
        self._errors = model / "stderr.txt"
        with self._errors.open("w") as file:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "cgan_tf",
                    "serve",
                    f"--model={model}",
                    "--rest_port=0",
                    "--grpc_port=0",
                    f"--max_request_mb={LIMIT // MIB}",
                    *flags,
                ],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )
        line = self.process.stdout.readline().rstrip("\n")
        found = LINE.fullmatch(line)
        if not found:
            self.process.kill()
            raise AssertionError(line + self._errors.read_text())
        self.addresses = Addresses(*found.groups())

    def check_end(self):
        """It ends with one line, nothing on stderr and exit code 0."""
        out, _ = self.process.communicate(timeout=120)
        assert (self.process.returncode, out, self._errors.read_text()) == (0, "stopped\n", "")

    def stop(self):
        self.process.terminate()
        self.check_end()

    def kill(self):
        self.process.kill()


class ServerThread(logging.Handler):
    """The same service on an event loop in a thread: it starts in a fraction of the time.

    Args:
        model: folder of the model's versions; version 1 is served.
        options: further ones of the server.

    Attributes:
        addresses: of the server.
        lines: what it has printed.
    """

    def __init__(self, model, **options):
        super().__init__()
        self._options = options
        self._records, self.lines = [], []
        self._started = threading.Event()
        self._model = served.ServedModel(model / "1", MODEL, 1, 32)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        logging.getLogger().addHandler(self)
        self._thread.start()
        assert self._started.wait(60)
        self.addresses = Addresses(*LINE.fullmatch(self.lines[0]).groups())

    def emit(self, record):
        self._records.append(record.getMessage())

    async def _serve(self):
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        options = service.Options(
            host="127.0.0.1",
            grpc_port=0,
            max_batch_size=32,
            batch_timeout_ms=0,
            max_queue=256,
            max_request_mb=LIMIT // MIB,
            timeout_s=30,
            grace_s=30,
            **self._options,
        )
        with service.listen("--rest_port", options.host, 0) as rest:
            await service.serve(self._model, options, rest, self._say, self._stop)

    def _say(self, line):
        self.lines.append(line)
        self._started.set()

    def stop(self, *said):
        """It has printed these lines, ends with one line, and has logged nothing."""
        self.kill()
        self._thread.join(60)
        assert (self.lines[1:], self._records) == ([*said, "stopped"], [])

    def kill(self):
        logging.getLogger().removeHandler(self)
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)


def message(signature, given, name=MODEL, version=None, label=None):
    """A PredictRequest."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = name, signature
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    for key, value in given.items():
        proto = value if not isinstance(value, np.ndarray) else tf.make_tensor_proto(value)
        request.inputs[key].CopyFrom(proto)
    return request


def ask(server, method, path, body=None, headers=None):
    """Status and JSON (or text) of one HTTP request."""
    connection = http.client.HTTPConnection(server.rest, timeout=60)
    try:
        if isinstance(body, dict | list):
            body = json.dumps(body)
        connection.request(method, path, body, headers or {})  # an iterator is sent in chunks
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    if response.headers.get_content_type() == "application/json":
        return response.status, json.loads(content)
    return response.status, content.decode()


def png(pixels):
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "png")
    return content.getvalue()


def metric(server, name):
    text = ask(server, "GET", "/monitoring/prometheus/metrics")[1]
    found = re.findall(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[0]) if found else 0.0
