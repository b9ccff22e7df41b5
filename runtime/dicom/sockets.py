"""The connection of an association, which reads no more and no longer than this side allows."""

from __future__ import annotations

import time
from socket import socket

from adae_edge.extras import needs

with needs("DICOM over the network", "pacs"):
    from pynetdicom.association import Association
    from pynetdicom.transport import AssociationSocket

_MOST_PDU_BYTES = 2**20  # of any PDU: a request with all classes and syntaxes is large
_PDU_S = 30.0
LEAST_BYTES, LEAST_S = 6000, 60.0  # of a peer that is waited for so long
_STOOD_S = 1.0  # between two looks; in more of it this process stood still, and no peer did


class LimitedSocket(AssociationSocket):
    """Reads a PDU into one buffer, of a length and within a time that peers do not choose."""

    def recv(self, nr_bytes: int) -> bytearray:
        """Read so many bytes, or fewer where the peer has no more; raises OSError."""
        if nr_bytes > _MOST_PDU_BYTES:
            raise OSError(f"a PDU of {nr_bytes} bytes")
        assert self.socket is not None
        deadline = time.monotonic() + _PDU_S
        read, got = bytearray(nr_bytes), 0
        with memoryview(read) as view:
            while got < nr_bytes:
                self.socket.settimeout(max(1e-3, deadline - time.monotonic()))
                came = self.socket.recv_into(view[got:])
                if not came:
                    self.ended()
                    break
                got += came
                self.heard()
        return read[:got]

    def heard(self) -> None:
        """Called when something came; does nothing here."""

    def kept(self) -> None:
        """Note that an instance came whole and was kept; does nothing here."""

    def ended(self) -> None:
        """Called when the peer has ended the connection; does nothing here."""


class PacedSocket(LimitedSocket):
    """Of an association that a peer has opened, who may not hold it and send next to nothing.

    What counts is the time in which this side could read and nothing was there, since so many bytes
    or a whole instance came: a scanner may send each small slice as it acquires it.
    """

    def __init__(self, assoc: Association, client_socket: socket) -> None:
        super().__init__(assoc, client_socket=client_socket)
        self._waited_s, self._came = 0.0, 0
        self._looked_s, self._was_ready = time.monotonic(), True

    @property
    def ready(self) -> bool:
        """Whether there is something to read; called over and over."""
        now = time.monotonic()
        if not self._was_ready:
            self._waited_s += min(now - self._looked_s, _STOOD_S)
        self._looked_s, self._was_ready = now, super().ready
        return self._was_ready

    def recv(self, nr_bytes: int) -> bytearray:
        """Read so many bytes, or fewer where the peer has no more.

        Raises:
            OSError: it takes too long, or what came lately is too little.
        """
        began = time.monotonic()
        read = super().recv(nr_bytes)
        self._waited_s += time.monotonic() - began
        self._came += len(read)
        if self._came >= LEAST_BYTES:
            self.kept()
        elif self._waited_s > LEAST_S:
            self.too_slow()
            raise OSError(f"{self._came} bytes in {self._waited_s:.0f} s")
        return read

    def kept(self) -> None:
        """Note that an instance came whole and was kept, or as much: the peer has its time anew."""
        self._waited_s, self._came = 0.0, 0

    def too_slow(self) -> None:
        """Called when the peer has sent too little; does nothing here."""
