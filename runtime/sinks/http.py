"""A webhook: rows are posted as JSON arrays, and acknowledged by a status of 200 to 299."""

from __future__ import annotations

import base64
import http.client
import io
import re
import socket
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from adae_edge.errors import SinkError, UsageError, first_line, without_password
from adae_edge.runtime.query import Parser, one_of
from adae_edge.runtime.sinks.queued import Queued, Remote
from adae_edge.runtime.sinks.sink import ROWS, Keeping, Place
from adae_edge.runtime.sinks.target import Target, network_error

_CONNECT_S = 5.0
_ANSWER_S = 10.0  # from the request until the answer is read, however slowly it comes
_MOST_READ = 64 * 1024  # bytes of an answer, which nobody looks at
_REST = re.compile(r"(//[^/?#]*/[^/?#]*)([/?])[^#]+")  # of a path, or a query
_OPTIONS: Mapping[str, Parser] = {"token": str, "insecure": one_of("yes")}


class Http(Queued):
    """A webhook at http://, which is for this machine, or where ``#insecure=yes`` says so."""

    scheme, port = "http", 80

    def __init__(self, place: str, keeping: Keeping = ROWS) -> None:
        """
        Args:
            place: "//[user:password@]host[:port]/path[?query]" and options behind a "#":
                ``token``, for a header "Authorization: Bearer", and those of ``Target``.
            keeping: how rows are kept.

        Raises:
            UsageError: the URL or an option is wrong.
            SinkError: the spool cannot be opened.
        """
        target = self._target(place)
        news: list[str] = []
        remote = Webhook(target, encrypted=self.scheme == "https")
        super().__init__(remote, target.open_spool(news.append), news, keeping)

    @classmethod
    def check(cls, place: str) -> None:
        """Say what is wrong with the URL, an option or the certificates."""
        target = cls._target(place)
        if cls.scheme == "https":
            target.encryption()

    @classmethod
    def where(cls, place: str) -> Place:
        """The URL and its user."""
        return cls._target(place).where()

    @classmethod
    def _target(cls, place: str) -> Target:
        target = Target(f"{cls.scheme}:{place}", cls.port, _OPTIONS, own_query=False)
        if cls.scheme == "http":
            target.check_unencrypted()
            if not (target.is_loopback or "insecure" in target.options):
                raise UsageError(
                    f"{target.shown} is not encrypted, and another machine: give https://, or "
                    "#insecure=yes behind the URL"
                )
        return target

    @classmethod
    def called(cls, spec: str) -> str:
        """The URL up to the first part of its path; the rest is the secret of many webhooks."""
        return _REST.sub(r"\1\2***", super().called(spec))


class Webhook(Remote):
    """A server that takes posts. Redirects are told and not followed."""

    batch = 100

    def __init__(self, target: Target, encrypted: bool) -> None:
        """
        Args:
            target: where it is.
            encrypted: whether to speak TLS.

        Raises:
            UsageError: the authorities' file cannot be read.
        """
        self._target = target
        self._encryption = target.encryption() if encrypted else None
        self._headers = _headers(target)
        self._connection: http.client.HTTPConnection | None = None

    def send(self, messages: Sequence[bytes]) -> None:
        """Post an array; one that is too large for the server in halves."""
        status, reason, location = self._post(b"[" + b",\n".join(messages) + b"]")
        if 200 <= status < 300:
            return
        if status == 413 and len(messages) > 1:
            half = len(messages) // 2
            self.send(messages[:half])
            self.send(messages[half:])
            return
        shown = self._target.shown
        if 300 <= status < 400:
            raise SinkError(
                f"{shown} answers {status} and points to {location or 'nowhere'}: redirects are "
                "not followed"
            )
        if status in (401, 403):
            raise SinkError(f"{shown} refuses the user, the password or the token: {status}")
        raise SinkError(f"{shown} answers {status} {reason}".rstrip())

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _post(self, body: bytes) -> tuple[int, str, str]:
        """The answer's status, its reason, and where it points to, both safe to print."""
        kept_open = self._connection is not None
        try:
            return self._try(body)
        except (ConnectionError, http.client.BadStatusLine) as error:
            self.close()
            if not kept_open:
                raise network_error(self._target.shown, error) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            raise network_error(self._target.shown, error) from error
        return self._post(body)  # a server closes a connection that was idle for long

    def _try(self, body: bytes) -> tuple[int, str, str]:
        if self._connection is None:
            self._connection = self._connected()
        connection = self._connection
        assert connection.sock is not None
        # A server that sends a byte now and then would never run into the socket's own timeout.
        late = threading.Event()
        ends = threading.Timer(_ANSWER_S, _shut, [connection.sock, late])
        ends.daemon = True
        ends.start()
        try:
            connection.request("POST", self._target.path or "/", body, self._headers)
            answer = connection.getresponse()
            if isinstance(answer, _Answer) and answer.is_cut:
                raise http.client.HTTPException("its answer is cut short")
            answer.read(_MOST_READ)
            if late.is_set():  # an answer that is cut short may look whole
                raise TimeoutError
            if not answer.isclosed():  # more than anybody wants
                self.close()
        except (OSError, http.client.HTTPException) as error:
            if late.is_set():
                raise TimeoutError from error
            raise
        finally:
            ends.cancel()
        location = without_password((answer.getheader("Location") or "").partition("?")[0])
        return answer.status, first_line(answer.reason or ""), first_line(location)

    def _connected(self) -> http.client.HTTPConnection:
        where = self._target.host, self._target.port
        connection: http.client.HTTPConnection
        if self._encryption is None:
            connection = http.client.HTTPConnection(*where, timeout=_CONNECT_S)
        else:
            connection = http.client.HTTPSConnection(
                *where, timeout=_CONNECT_S, context=self._encryption
            )
        connection.response_class = _Answer
        connection.connect()
        connection.sock.settimeout(_ANSWER_S)
        return connection


class _Answer(http.client.HTTPResponse):
    """An answer that tells whether its headers have an end, which http.client does not ask."""

    def __init__(self, connection: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(connection, *arguments, **options)
        self._lines = self.fp = _Lines(self.fp.detach())

    @property
    def is_cut(self) -> bool:
        return self._lines.last not in (b"\r\n", b"\n")


class _Lines(io.BufferedReader):
    """Lines, the last of which is kept."""

    last = b""

    def readline(self, size: int | None = -1) -> bytes:
        self.last = super().readline(size)
        return self.last


def _headers(target: Target) -> Mapping[str, str]:
    """What every request says."""
    headers = {"Content-Type": "application/json", "User-Agent": "adae-edge"}
    if token := target.options.get("token"):
        headers["Authorization"] = f"Bearer {token}"
    elif target.user:
        login = base64.b64encode(f"{target.user}:{target.password}".encode()).decode()
        headers["Authorization"] = f"Basic {login}"
    return headers


def _shut(connection: socket.socket, late: threading.Event) -> None:
    """End what waits for a connection, which is told first that it is late."""
    late.set()
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:  # it is closed already
        return


SINK = Http
