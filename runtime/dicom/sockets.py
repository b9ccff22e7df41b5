"""The connection of an association, which reads no more and no longer than this side allows."""

from __future__ import annotations

import time

from adae_edge.extras import needs

with needs("DICOM over the network", "pacs"):
    from pynetdicom.transport import AssociationSocket

_MOST_PDU_BYTES = 2**20  # of any PDU: a request with all classes and syntaxes is large
_PDU_S = 30.0


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

    def ended(self) -> None:
        """Called when the peer has ended the connection; does nothing here."""
