"""The body of an answer over HTTP, which is read up to a limit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from adae_edge.errors import AdaeEdgeError


class Limited:
    """A body for ``requests``, which is no longer than it may be when it is unpacked."""

    def __init__(self, raw: Any, most_bytes: int, error: AdaeEdgeError) -> None:
        """
        Args:
            raw: the body of a ``requests.Response``.
            most_bytes: how long it may be.
            error: raised where it is longer.
        """
        self._raw, self._most, self._error = raw, most_bytes, error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def stream(self, size: int, decode_content: bool) -> Iterator[bytes]:
        """The body in pieces; raises the error where there are too many."""
        read = 0
        for piece in self._raw.stream(size, decode_content=decode_content):
            read += len(piece)
            if read > self._most:
                self._raw.close()
                raise self._error
            yield piece
