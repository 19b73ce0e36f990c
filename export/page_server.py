"""Serves the files of a page to the browsers of this machine, from memory.

Only the page's files can be asked for: no path of a request is ever looked up on the disk.
"""

import http.server
import os
import socketserver
import sys
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath

from cgan_tf.core.errors import UserError
from cgan_tf.export import browser

_HOST = "127.0.0.1"
_NAMES = (_HOST, "localhost")  # of this machine, in requests
# Not the module mimetypes, which takes .js for text/plain on some machines: browsers refuse that.
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".txt": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".wasm": "application/wasm",
}
_BINARY = "application/octet-stream"
_IDLE = 60  # seconds after which an idle connection is closed


class PageServer(socketserver.ThreadingTCPServer):
    """A server on localhost, a context manager. It listens at once, but answers when it is run.

    The page's folder is named after its content. Its service worker, which a browser keeps, thus
    never answers for another page that is later served at the same port.

    Args:
        content: the page's files by path, see `browser.files`.
        port: TCP port; 0 for any free one.

    Attributes:
        url: the page's address.

    Raises:
        UserError: the port is taken or forbidden.
    """

    allow_reuse_address = True  # at once after another server has stopped
    daemon_threads = True

    def __init__(self, content: Mapping[str, bytes], port: int) -> None:
        try:
            super().__init__((_HOST, port), _Handler)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise UserError(
                f"--port={port}: {reason}; give another port, or 0 for any free one"
            ) from None
        self.folder = f"/{browser.digest(content)[:12]}/"
        self.content = content
        self.url = f"http://{_HOST}:{self.server_address[1]}{self.folder}"

    def run(self, say: Callable[[str], None] = print) -> None:
        """Serves until Ctrl-C, which is confirmed in one line."""
        try:
            self.serve_forever()
        except KeyboardInterrupt:
            say("stopped")

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that has gone is no error."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE
    server: PageServer

    def do_GET(self) -> None:
        content = self._head()
        if content is not None:
            self.wfile.write(content)

    def do_HEAD(self) -> None:
        self._head()

    def _head(self) -> bytes | None:
        """Sends the answer's head; returns the file, or None if the answer is complete."""
        if self.headers.get("Host", "").rpartition(":")[0] not in _NAMES:
            self.send_error(421)  # another site, by a name of its own for this machine
            return None
        folder = self.server.folder
        path = self.path.split("?")[0]
        if path == "/":
            self.send_response(302)
            self.send_header("Location", folder)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        name = path.removeprefix(folder) or "index.html"
        content = self.server.content.get(name)
        if content is None:
            self.send_error(404)
            return None
        self.send_response(200)
        self.send_header("Content-Type", _TYPES.get(PurePosixPath(name).suffix, _BINARY))
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        return content

    def log_message(self, *arguments: object) -> None:
        """Requests are not logged."""
