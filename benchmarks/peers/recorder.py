"""Records what a peer sends over a connection, on its way to whom it is for."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_LONGEST_S = 60.0


@contextmanager
def recorder(port: int) -> Iterator[tuple[int, list[bytes]]]:
    """Within the block one connection to a port of this machine is passed on to another one.

    Args:
        port: where it is passed on to.

    Yields:
        The port to connect to, and what was sent, in the parts between answers; it is filled when
        the block ends.
    """
    parts = list[bytes]()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(_LONGEST_S)
        passing = threading.Thread(target=_pass, args=(listener, port, parts))
        passing.start()
        try:
            yield listener.getsockname()[1], parts
        finally:
            passing.join()


def _pass(listener: socket.socket, port: int, parts: list[bytes]) -> None:
    """Pass a connection on, both ways, until the one who called ends it."""
    sent = [bytearray()]
    here, _ = listener.accept()
    with here, socket.create_connection(("127.0.0.1", port)) as there:
        back = threading.Thread(target=_answer, args=(there, here, sent))
        back.start()
        with suppress(ConnectionError):
            while piece := here.recv(2**16):
                sent[-1] += piece
                there.sendall(piece)
        with suppress(OSError):
            there.shutdown(socket.SHUT_WR)
        back.join()
    parts += [bytes(part) for part in sent if part]


def _answer(source: socket.socket, to: socket.socket, sent: list[bytearray]) -> None:
    """Pass answers on; what is sent after one is another part."""
    with suppress(OSError):
        while piece := source.recv(2**16):
            sent.append(bytearray())
            to.sendall(piece)
