"""Requests of web pages: a browser asks first, by OPTIONS, whether it may send them."""

import asyncio
import types

import pytest
from aiohttp import test_utils

from cgan_tf.commands import serve
from cgan_tf.core.errors import UserError
from cgan_tf.export.serving.rest import RestService

ALLOWED = "Access-Control-Allow-Origin"


def ask(cors_origin, method, path):
    """The status and the headers of a service without a model."""
    metrics = types.SimpleNamespace(received=lambda *_: None, answered=lambda *_: None)
    engine = types.SimpleNamespace(metrics=metrics, max_bytes=1000, timeout_s=30)

    async def request():
        app = RestService(engine, cors_origin).runner(0.1).app
        async with test_utils.TestClient(test_utils.TestServer(app)) as client:
            answer = await client.request(method, path, headers={"Origin": "https://a.example"})
            return answer.status, answer.headers

    return asyncio.run(request())


@pytest.mark.parametrize("origin", ["*", "https://a.example"])
def test_a_preflight_is_answered(origin):
    status, headers = ask(origin, "OPTIONS", "/v1/models/translator:predict")
    assert status == 200 and headers[ALLOWED] == origin
    assert headers["Access-Control-Allow-Headers"] == "Content-Type"
    assert "POST" in headers["Access-Control-Allow-Methods"]


def test_answers_and_errors_name_the_origin():
    assert ask("*", "GET", "/healthz")[1][ALLOWED] == "*"
    status, headers = ask("https://a.example", "GET", "/nowhere")
    assert status == 404 and headers[ALLOWED] == "https://a.example"
    assert headers["Vary"] == "Origin"


def test_by_default_no_page_is_allowed():
    assert ALLOWED not in ask("", "GET", "/healthz")[1]
    status, headers = ask("", "OPTIONS", "/healthz")
    assert status == 405 and ALLOWED not in headers


@pytest.mark.parametrize("origin", ["example.org", "https://example.org/page", "a b"])
def test_what_is_no_origin_is_refused(origin):
    with pytest.raises(UserError, match=f"--cors_origin={origin}: give .* or one origin"):
        serve.check_origin(origin)
