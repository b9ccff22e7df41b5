"""HTTP cameras: MJPEG, and every other stream that says itself what it is."""

from __future__ import annotations

from collections.abc import Callable, Generator
from types import MappingProxyType

from adae_edge.errors import SourceError
from adae_edge.runtime.sources.av import Reception
from adae_edge.runtime.sources.containers import OVER_HTTP
from adae_edge.runtime.sources.live import Captured, Gap
from adae_edge.runtime.sources.network import Network

_MOST_BYTES = 2**25  # of a frame: FFmpeg keeps all that comes until it ends


class _Body:
    """What comes from a URL, as a file for FFmpeg.

    Attributes:
        error: why nothing comes any more, where it is no end.
    """

    def __init__(
        self, pieces: Generator[bytes, None, None], last_packet: Callable[[], float]
    ) -> None:
        self.error: SourceError | None = None
        self._pieces, self._last_packet = pieces, last_packet
        self._left = b""
        self._since, self._bytes = 0.0, 0  # the last packet, and what came after it

    def read(self, size: int) -> bytes:
        """Wait for bytes; b"" at the end, and where there is an error."""
        try:
            self._left = self._left or next(self._pieces, b"")
        except SourceError as error:
            self.error = error
        data, self._left = self._left[:size], self._left[size:]
        if self._since != self._last_packet():
            self._since, self._bytes = self._last_packet(), 0
        self._bytes += len(data)
        if self._bytes > _MOST_BYTES:
            self.error = SourceError(f"sends a frame of more than {_MOST_BYTES >> 20} MiB")
        return b"" if self.error else data

    def close(self) -> None:
        """Let go of the connection; a second call does nothing."""
        self._pieces.close()


class _Reception(Reception):
    """A stream whose bytes are counted on their way to FFmpeg."""

    def open(self) -> None:
        """Open it; raises SourceError with the reason."""
        self._body = self._place = _Body(self.pieces(self._place), lambda: self.heard)
        try:
            super().open()
        except SourceError as error:
            raise (self._body.error or error) from None

    def read(self) -> Captured | Gap | None:
        """The next frame or gap; None at the end."""
        item = super().read()
        if item is None and self._body.error:
            raise self._body.error
        return item

    def close(self) -> None:
        """Let go of the connection; a second call does nothing."""
        super().close()
        self._body.close()


class Http(Network):
    """A stream over HTTP."""

    scheme = "http"
    options = MappingProxyType({"protocol_whitelist": "http,tcp", "format_whitelist": OVER_HTTP})
    reception = _Reception


SOURCE = Http
