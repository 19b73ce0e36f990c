"""The service over HTTP: TensorFlow Serving's /v1/models/... API, health and metrics.

aiohttp handles keep-alive, chunked and compressed bodies and malformed HTTP. This module maps paths
to the model, and every error to {"error": "..."} with TensorFlow Serving's status.
"""

import asyncio
import concurrent.futures
import logging
import re
import time
from collections.abc import Awaitable, Callable

import grpc
from aiohttp import web
from google.protobuf import json_format, message

from cgan_tf.export.serving import grpc_service, rest_format
from cgan_tf.export.serving.engine import Engine
from cgan_tf.export.serving.errors import RequestError
from cgan_tf.export.serving.model import ServedModel

_MODEL_PATH = re.compile(
    r"/v1/models/(?P<name>[^/:]+)"
    r"(?:/versions/(?P<version>[0-9]{1,18})|/labels/(?P<label>[^/:]+))?"
    r"(?:/(?P<resource>metadata)|:(?P<verb>predict|classify|regress))?"
)
_LINGER_S = 5.0  # how long a refused upload is still read, so that its sender sees the answer
# How long a connection may be without a complete request: one that says nothing, one whose headers
# never end, or an idle one.
_IDLE_S = 60.0
_JSON = "application/json"

# aiohttp would log everything that it cannot parse as HTTP. Internal errors are logged below.
_SILENT = logging.getLogger(f"{__name__}.http")
_SILENT.disabled = True


class RestService:
    """The handlers of one server.

    Args:
        engine: answers the requests.
        cors_origin: origin of the pages whose requests browsers allow, * for all; "" for none.

    Attributes:
        ready: the state that /readyz reports; cleared when the server begins to stop.
    """

    def __init__(self, engine: Engine, cors_origin: str = "") -> None:
        self.ready = True
        self._cors = {"Access-Control-Allow-Origin": cors_origin} if cors_origin else {}
        if cors_origin not in ("", "*"):
            self._cors["Vary"] = "Origin"
        self._engine = engine
        # Parsing an image's JSON takes milliseconds, and a gRPC call several turns of the event
        # loop: on the loop, a few HTTP clients would delay everyone else.
        self._json = concurrent.futures.ThreadPoolExecutor(1, "json")

    def runner(self, grace_s: float) -> web.AppRunner:
        """Runs the handlers; its cleanup gives running requests `grace_s` seconds to finish."""
        app = web.Application(client_max_size=self._engine.max_bytes, middlewares=[self._answer])
        app.on_cleanup.append(self._end_json)
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/readyz", self._readiness)
        for path in ("/metrics", "/monitoring/prometheus/metrics"):
            app.router.add_get(path, self._counters)
        app.router.add_route("*", "/v1/{path:.*}", self._model_request)
        return web.AppRunner(
            app,
            access_log=None,
            logger=_SILENT,
            handle_signals=False,
            handler_cancellation=True,  # the request of a client that has gone need not run
            shutdown_timeout=grace_s,
            keepalive_timeout=_IDLE_S,
            lingering_time=_LINGER_S,
        )

    async def _end_json(self, app: web.Application) -> None:
        self._json.shutdown()

    @web.middleware
    async def _answer(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.Response]]
    ) -> web.Response:
        """Counts the request, and turns its exception into JSON."""
        start = time.perf_counter()
        self._engine.metrics.received("rest")
        code = 499  # the client has gone
        try:
            preflight = self._cors and request.method == "OPTIONS"
            response = _preflight() if preflight else await handler(request)
            code = response.status
        except RequestError as error:
            code = error.http_status
            response = _error(code, str(error))
        except web.HTTPException as error:  # no such path or method
            code = error.status
            response = _error(code, f"{request.method} {request.path[:200]}: {error.reason}")
        except Exception:
            logging.exception("%s %s failed", request.method, request.path)
            code = 500
            response = _error(code, "internal error; see the server's log")
        finally:
            seconds = time.perf_counter() - start
            self._engine.metrics.answered("rest", request.method, str(code), seconds)
        response.headers.update(self._cors)
        await self._send(request, response)
        return response

    async def _send(self, request: web.Request, response: web.Response) -> None:
        """Sends the answer; a client that does not read it loses its connection."""
        transport = request.transport
        try:
            await response.prepare(request)
            await asyncio.wait_for(response.write_eof(), self._engine.timeout_s)
        except asyncio.TimeoutError:
            if transport is not None:
                transport.abort()

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readiness(self, request: web.Request) -> web.Response:
        if not self.ready:
            return web.Response(text="stopping\n", status=503)
        return web.Response(text="ready\n")

    async def _counters(self, request: web.Request) -> web.Response:
        return web.Response(
            body=self._engine.metrics.text(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def _model_request(self, request: web.Request) -> web.Response:
        parts = _MODEL_PATH.fullmatch(request.path)
        method = "POST" if parts and parts["verb"] else "GET"
        if not parts or request.method != method:
            raise RequestError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"malformed request: {request.method} {request.path[:200]}; see /v1/models/"
                f"{self._engine.model.name}",
            )
        version = int(parts["version"]) if parts["version"] else None
        model = self._engine.model
        if not (parts["verb"] or parts["resource"]):
            return _message(
                grpc_service.status(self._engine, parts["name"], version, parts["label"])
            )
        model.check_spec(parts["name"], version, parts["label"])
        if parts["verb"] == "predict":
            return await self._predict(request, model)
        if parts["verb"]:
            raise RequestError(
                grpc.StatusCode.UNIMPLEMENTED, f":{parts['verb']} is not served here; use :predict"
            )
        return _message(grpc_service.metadata(model, ["signature_def"]))

    async def _predict(self, request: web.Request, model: ServedModel) -> web.Response:
        engine, loop = self._engine, asyncio.get_running_loop()
        signature, inputs, by_rows = await loop.run_in_executor(
            self._json,
            rest_format.decode,
            await self._body(request),
            lambda name: model.signature(name, grpc.StatusCode.INVALID_ARGUMENT),
        )
        outputs = await engine.batcher.predict(signature, inputs, engine.timeout_s)
        body = await loop.run_in_executor(
            self._json, rest_format.encode, signature, outputs, by_rows
        )
        return web.Response(body=body, content_type=_JSON)

    async def _body(self, request: web.Request) -> bytes:
        """The request's body; refused unread if its header gives too large a size."""
        if (request.content_length or 0) > self._engine.max_bytes:
            raise self._too_large()
        try:
            return await asyncio.wait_for(request.read(), self._engine.timeout_s)
        except web.HTTPRequestEntityTooLarge:  # sent without a size, or too large once decompressed
            raise self._too_large() from None
        except asyncio.TimeoutError:
            raise RequestError(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                f"the body did not arrive within {self._engine.timeout_s:g} s",
                http_status=408,
            ) from None
        except ConnectionError:
            raise RequestError(grpc.StatusCode.CANCELLED, "the upload was interrupted") from None
        except web.RequestPayloadError as error:
            raise RequestError(
                grpc.StatusCode.INVALID_ARGUMENT, f"the body is damaged: {error}"
            ) from None

    def _too_large(self) -> RequestError:
        return RequestError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"the body is larger than {self._engine.max_bytes // 2**20} MiB (--max_request_mb)",
            http_status=413,
        )


def _preflight() -> web.Response:
    """The answer to a browser that asks whether a page of another origin may send a request."""
    return web.Response(
        headers={
            "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
            "Access-Control-Allow-Headers": "Content-Type",
            "Access-Control-Max-Age": "86400",
        }
    )


def _error(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)


def _message(content: message.Message) -> web.Response:
    """A protocol buffer as TensorFlow Serving writes it: original field names, every field."""
    text = json_format.MessageToJson(
        content, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return web.Response(text=text, content_type=_JSON)
