"""A web server that takes posted rows, and answers as it is told."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Webhook:
    """What a server of posted rows has received, and how it answers.

    Attributes:
        port: where it listens on 127.0.0.1.
        received: the rows of posts that were answered with 200, in order.
        posts: for each post its path, its headers and its number of rows.
        answer: 200 and other statuses; "slow" for a byte now and then, "never" for none,
            "cut" for an end within the headers.
        most_rows: above which a post is answered with 413.
    """

    def __init__(self) -> None:
        self.port = 0
        self.received: list[dict[str, Any]] = []
        self.posts: list[tuple[str, dict[str, str], int]] = []
        self.answer: int | str = 200
        self.most_rows = 10**6
        self.ended = threading.Event()


@contextmanager
def webhook(port: int = 0, certificate: tuple[Path, Path] | None = None) -> Iterator[Webhook]:
    """A server within the block.

    Args:
        port: 0 for a free one.
        certificate: its file and that of its key, for TLS.
    """
    hook = Webhook()
    server = _Server(("127.0.0.1", port), _handler(hook))
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    hook.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hook
    finally:
        hook.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
        for connection in server.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Server(http.server.ThreadingHTTPServer):
    """A server that ends its connections with it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.connections: list[socket.socket] = []

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self.connections.append(connection)
        return connection, address

    def handle_error(self, *_: object) -> None:
        """Say nothing of a client that went away."""


def _handler(hook: Webhook) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            rows = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            hook.posts.append((self.path, dict(self.headers), len(rows)))
            if hook.answer == "never":
                hook.ended.wait()
                self.close_connection = True
            elif hook.answer == "cut":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Cut: ")
                self.close_connection = True
            elif hook.answer == "slow":
                self._drip()
            else:
                status = 413 if len(rows) > hook.most_rows else int(hook.answer)
                if status == 200:
                    hook.received.extend(rows)
                self._answer(status)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            if 300 <= status < 400:
                self.send_header("Location", "http://127.0.0.1:9/elsewhere?key=secret")
            self.end_headers()

        def _drip(self) -> None:
            """An answer of one header whose letters come one by one."""
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not hook.ended.is_set() and hook.answer == "slow":
                self.wfile.write(b".")
                time.sleep(0.2)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler
