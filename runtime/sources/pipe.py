"""Bytes that come through a pipe, read so that a reader that waits can be stopped."""

from __future__ import annotations

import os
import select

_TS_PACKET = 188  # bytes
_LOOK_S = 0.1


class Pipe:
    """The reading end of a pipe, as a file in which nothing can be sought.

    Attributes:
        received: how many bytes came.
    """

    def __init__(self, descriptor: int) -> None:
        """
        Args:
            descriptor: an open file descriptor; it stays open.
        """
        self.received = 0
        self._descriptor = descriptor
        self._stopped = False

    def read(self, size: int) -> bytes:
        """Wait for bytes; b"" at the end, or once the pipe is stopped."""
        while not self._stopped:
            if select.select([self._descriptor], [], [], _LOOK_S)[0]:
                data = os.read(self._descriptor, size)
                self.received += len(data)
                return data
        return b""

    def stop(self) -> None:
        """End ``read`` soon; for other threads and signal handlers."""
        self._stopped = True


def rest(form: str, pipe: Pipe | None, end: int) -> list[str]:
    """What FFmpeg does not say of a pipe of this format whose last packet ends there."""
    received = pipe.received if pipe else 0
    partial = form == "mpegts" and received % _TS_PACKET
    if partial or (form == "yuv4mpegpipe" and received > end):
        return ["it ends in the middle of a frame"]
    return []
