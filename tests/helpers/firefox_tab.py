"""A headless Firefox with one tab, driven by WebDriver BiDi, which Firefox itself speaks."""

import asyncio
import contextlib
import itertools
import json
import re
import shutil
import subprocess
import time

import aiohttp
import numpy as np
import pytest
from page_tab import from_text

STARTED = "WebDriverBiDiServer.json"  # Firefox writes its port into this file of the profile
PATIENCE = 120  # seconds for the start, and for an answer
# A proxy that does not exist, for all hosts but this machine.
PREFERENCES = """\
user_pref("network.proxy.type", 1);
user_pref("network.proxy.socks", "127.0.0.1");
user_pref("network.proxy.socks_port", 9);
"""


class FirefoxTab:
    """The tab; records the page's errors and its requests."""

    def __init__(self, socket, loop):
        self._socket, self._loop, self._ids = socket, loop, itertools.count()
        self.errors, self.requests = [], []
        self.call("session.new", capabilities={})
        (tab,) = self.call("browsingContext.getTree")["contexts"]
        self._tab = {"context": tab["context"]}
        self.call("session.subscribe", events=["log.entryAdded", "network.beforeRequestSent"])

    def call(self, method, **parameters):
        """The result of a BiDi command."""
        return self._loop.run_until_complete(self._call(method, parameters))

    async def _call(self, method, parameters):
        number = next(self._ids)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            answer = await self._socket.receive_json(timeout=PATIENCE)
            if answer.get("id") == number:
                assert answer["type"] == "success", (method, answer)
                return answer["result"]
            self._note(answer)

    def _note(self, event):
        if event["method"] == "log.entryAdded" and event["params"]["level"] == "error":
            self.errors.append(event["params"]["text"])
        if event["method"] == "network.beforeRequestSent":
            self.requests.append(event["params"]["request"]["url"])

    def goto(self, url):
        self.call("browsingContext.navigate", url=url, wait="complete", **self._tab)

    def ready(self):
        """Returns once the page shows its first face."""
        self.evaluate("editor.ready.then(() => editor.idle())")

    def evaluate(self, expression):
        """The value of an expression, or of its promise, as JSON."""
        script = f"(async () => JSON.stringify((await ({expression})) ?? null))()"
        answer = self.call(
            "script.evaluate", expression=script, target=self._tab, awaitPromise=True
        )
        assert answer["type"] == "success", answer
        return json.loads(answer["result"]["value"])

    def upload(self, path):
        locator = {"type": "css", "value": "#file"}
        (node,) = self.call("browsingContext.locateNodes", locator=locator, **self._tab)["nodes"]
        element = {"sharedId": node["sharedId"]}
        self.call("input.setFiles", element=element, files=[str(path)], **self._tab)
        self.evaluate("editor.idle()")

    def canvas(self, name):
        """A canvas's pixels, uint8 `[H, W, 4]`."""
        width, height, text = self.evaluate(f"""((canvas) => {{
            const {{ width, height }} = canvas;
            const {{ data }} = canvas.getContext("2d").getImageData(0, 0, width, height);
            return [width, height, new Uint8Array(data.buffer).toBase64()];
        }})(document.getElementById("{name}"))""")
        return from_text(text, np.uint8).reshape(height, width, 4)


@contextlib.contextmanager
def opened(profile):
    """A tab of a Firefox with its profile in an empty folder; skips the test if there is none."""
    program = shutil.which("firefox-esr") or shutil.which("firefox")
    if program is None:
        pytest.skip("needs Firefox, which is not installed")
    (profile / "user.js").write_text(PREFERENCES)
    process = subprocess.Popen(
        [program, "--headless", "--no-remote", "--profile", profile, "--remote-debugging-port=0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    loop = asyncio.new_event_loop()
    try:
        address = f"ws://127.0.0.1:{_port(profile / STARTED)}/session"
        session, socket = loop.run_until_complete(_connect(address))
        try:
            yield FirefoxTab(socket, loop)
        finally:
            loop.run_until_complete(session.close())
    finally:
        process.terminate()
        process.wait()
        loop.close()


def _port(file):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if file.exists() and (found := re.search(r'"ws_port":\s*(\d+)', file.read_text())):
            return found[1]
        time.sleep(0.1)
    raise TimeoutError("Firefox has not started")


async def _connect(address):
    session = aiohttp.ClientSession()
    return session, await session.ws_connect(address, max_msg_size=0)
