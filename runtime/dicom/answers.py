"""Answers over HTTP, which have to come fast enough, and are read up to a limit."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from adae_edge.errors import AdaeEdgeError
from adae_edge.extras import needs

with needs("DICOM over the web", "pacs"):
    import urllib3
    from urllib3.connection import HTTPConnection, HTTPSConnection

_PATIENCE_S = 60.0
_SLOWEST = 10_000  # bytes a second, for what comes later


class Limited:
    """A body for ``requests``, which is no longer than it may be when it is unpacked.

    A silent peer runs into the timeout of ``requests``, but one that sends a byte now and then
    would not. So all of a body has a minute, and longer if it comes at 10 kB a second.
    """

    def __init__(
        self, raw: Any, most_bytes: int, too_long: AdaeEdgeError, too_slow: AdaeEdgeError
    ) -> None:
        """
        Args:
            raw: the body of a ``requests.Response``.
            most_bytes: how long it may be.
            too_long: raised where it is longer.
            too_slow: raised where it comes too slowly.
        """
        self._raw, self._most = raw, most_bytes
        self._too_long, self._too_slow = too_long, too_slow

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def stream(self, size: int, decode_content: bool) -> Iterator[bytes]:
        """The body in pieces, as they come; raises an error where it is too long or too slow."""
        begun, read = time.monotonic(), 0
        while piece := self._raw.read1(size, decode_content=decode_content):
            read += len(piece)
            late = time.monotonic() > begun + _PATIENCE_S + read / _SLOWEST
            if late or read > self._most:
                self._raw.close()
                raise self._too_slow if late else self._too_long
            yield piece


def hurry(session: Any) -> None:
    """Have the headers of each answer to a ``requests.Session`` come within a minute."""
    for adapter in session.adapters.values():
        adapter.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _EncryptedPool}


class _Punctual(HTTPConnection):
    """A connection that ends when the headers of an answer are late, however they drip."""

    def getresponse(self) -> Any:
        """Read the status and the headers; raises TimeoutError where they are late."""
        late = threading.Event()
        ends = threading.Timer(_PATIENCE_S, _shut, [self.sock, late])
        ends.daemon = True
        ends.start()
        try:
            answer = super().getresponse()
        except Exception as error:
            if late.is_set():
                raise TimeoutError from error
            raise
        finally:
            ends.cancel()
        if late.is_set():  # headers that are cut short may look whole
            raise TimeoutError
        return answer


class _EncryptedPunctual(_Punctual, HTTPSConnection):
    """The same with encryption."""


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Punctual


class _EncryptedPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _EncryptedPunctual


def _shut(connection: socket.socket, late: threading.Event) -> None:
    """End what waits for a connection, which is told first that it is late."""
    late.set()
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
