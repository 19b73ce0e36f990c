"""The server of `cgan page`: it gives the page's files, and no others."""

import contextlib
import http.client
import socket
import threading

import pytest
import refusal

from cgan_tf.export.page_server import PageServer

FILES = {"index.html": b"<p>", "app.js": b"1", "litert/a.wasm": b"\0asm", "model.tflite": b"m" * 9}


@pytest.fixture(scope="module")
def server():
    running = PageServer(FILES, 0)
    threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


def ask(server, path, method="GET"):
    """Status, content type and body of the answer to a path that is sent as it is."""
    host, port = server.server_address
    with contextlib.closing(http.client.HTTPConnection(host, port, timeout=20)) as connection:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.headers.get_content_type(), answer.read()


def test_it_listens_on_this_machine_only(server):
    assert server.server_address[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.server_address[1]}{server.folder}"


def test_other_names_of_this_machine_are_refused(server):
    """A web site may give its own name this address (DNS rebinding), and would read the page."""
    host, port = server.server_address
    for name, status in (("localhost", 200), ("evil.example", 421)):
        with contextlib.closing(http.client.HTTPConnection(host, port, timeout=20)) as connection:
            connection.request("GET", server.folder, headers={"Host": f"{name}:{port}"})
            assert connection.getresponse().status == status


@pytest.mark.parametrize(
    "name, kind",
    [
        ("index.html", "text/html"),
        ("app.js", "text/javascript"),
        ("litert/a.wasm", "application/wasm"),
        ("model.tflite", "application/octet-stream"),
    ],
)
def test_each_file_has_its_type(server, name, kind):
    assert ask(server, server.folder + name) == (200, kind, FILES[name])
    assert ask(server, f"{server.folder}{name}?x=1") == (200, kind, FILES[name])
    assert ask(server, server.folder + name, "HEAD") == (200, kind, b"")


def test_the_folder_is_the_page_and_the_root_leads_to_it(server):
    assert ask(server, server.folder) == (200, "text/html", FILES["index.html"])
    host, port = server.server_address
    with contextlib.closing(http.client.HTTPConnection(host, port, timeout=20)) as connection:
        for _ in range(2):  # by one connection
            connection.request("GET", "/")
            answer = connection.getresponse()
            assert (answer.status, answer.headers["Location"], answer.read()) == (
                302,
                server.folder,
                b"",
            )


@pytest.mark.parametrize(
    "path",
    ["/app.js", "{}../app.js", "{}litert", "{}litert/", "{}litert/../app.js", "{}//etc/passwd"]
    + ["{}../../../etc/passwd", "{}%2e%2e/etc/passwd", "/etc/passwd", "//etc/passwd"],
)
def test_nothing_else_is_found(server, path):
    assert ask(server, path.format(server.folder))[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_only_get_and_head_are_answered(server, method):
    assert ask(server, server.folder, method)[0] == 501


def test_another_page_has_another_folder(server):
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    other = PageServer(FILES | {"app.js": b"2"}, port)
    other.server_close()
    assert other.server_address[1] == port and other.folder != server.folder


def test_a_port_in_use_is_one_clear_line(server):
    port = server.server_address[1]
    assert refusal.message(PageServer, FILES, port) == (
        f"--port={port}: Address already in use; give another port, or 0 for any free one"
    )


def test_a_browser_that_goes_is_no_error(server, capsys):
    with socket.create_connection(server.server_address) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # resets
        client.sendall(f"GET {server.folder} HTTP/1.1\r\n".encode())
    assert ask(server, server.folder)[0] == 200
    try:
        raise ConnectionResetError
    except ConnectionResetError:
        server.handle_error(None, None)
    assert capsys.readouterr().err == ""


def test_ctrl_c_ends_with_one_line(monkeypatch):
    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(PageServer, "serve_forever", interrupt)
    lines = []
    with PageServer(FILES, 0) as stopped:
        stopped.run(lines.append)
    assert lines == ["stopped"] and stopped.socket.fileno() == -1
