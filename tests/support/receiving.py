"""A receiver of DICOM in a process of its own, and a peer that says what a test wants."""

import socket
import struct
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

from adae_edge.benchmarks.peers.processes import free_port
from adae_edge.runtime.dicom.messages import Settings
from tests.support.models import HANGS_S
from tests.support.peers import peer

VERIFICATION, MR_IMAGE = "1.2.840.10008.1.1", "1.2.840.10008.5.1.4.1.1.4"
IMPLICIT = "1.2.840.10008.1.2"
ECHO = b"".join(
    struct.pack("<HHL", 0, element, len(value)) + value
    for element, value in (
        (0x0002, b"1.2.840.10008.1.1\0"),
        (0x0100, b"\x30\0"),
        (0x0110, b"\x01\0"),
        (0x0800, b"\x01\x01"),
    )
)


class Receiver:
    """A receiver that runs.

    Attributes:
        process: the one that accepts.
        port: where it listens.
        spool: the folder.
    """

    def __init__(self, process, port, spool):
        self.process, self.port, self.spool = process, port, spool

    def files(self, state="new"):
        """The files of a state."""
        return sorted((self.spool / state).iterdir())

    def children(self):
        """The processes of associations."""
        pid = self.process.pid
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [int(child) for child in text.split()]

    def when_idle(self):
        """Wait until no association is open and what they left is cleared away."""
        wait_until(lambda: not self.files("incoming"))

    def told(self):
        """End it; what it told meanwhile."""
        self.process.stdin.close()
        self.process.wait(HANGS_S)
        return self.process.stdout.read().decode().splitlines()


@contextmanager
def receiver(folder, before=(), module="adae_edge.runtime.dicom.receiver", **settings):
    """A receiver within the block, of a module; ``before`` is put before its command."""
    port, spool = free_port(), folder / "spool"
    given = {"limit_bytes": 10**9, "keep_s": 3600.0} | settings
    asked = Settings("127.0.0.1", port, "ADAE", str(spool), **given).to_json()
    command = [*map(str, before), sys.executable, "-m", module, asked]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        try:
            assert process.stdout.readline() == b"listening \n"
            yield Receiver(process, port, spool)
        finally:
            process.stdin.close()
            process.wait(HANGS_S)
            assert process.stderr.read() == b""


def echo(port, *options):
    """Whether echoscu is answered within five seconds."""
    limits = ["-to", "5", "-ta", "5", "-td", "5"]  # a silent peer has ten
    command = [peer("echoscu"), *limits, *options, "-aec", "ADAE", "127.0.0.1", port]
    return subprocess.run([*map(str, command)], capture_output=True).returncode == 0


@contextmanager
def silent(port, count):
    """Connections on which nothing is sent, within the block."""
    with ExitStack() as opened:
        for _ in range(count):
            opened.enter_context(socket.create_connection(("127.0.0.1", port)))
        yield


def wait_until(true):
    """Wait until something is true."""
    deadline = time.monotonic() + HANGS_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def item(kind, content):
    """An item of a request for an association (PS3.8 9.3.2)."""
    return struct.pack(">BxH", kind, len(content)) + content


def pdu(kind, content):
    """A PDU."""
    return struct.pack(">BxL", kind, len(content)) + content


def request(classes=(VERIFICATION, MR_IMAGE), called=b"ADAE", calling=b"TEST", more=b"", user=b""):
    """A request for an association, with contexts 1, 3 and so on, more items, and more on users."""
    contexts = b"".join(
        item(
            0x20,
            struct.pack(">Bxxx", 2 * place + 1)
            + item(0x30, uid.encode())
            + item(0x40, IMPLICIT.encode()),
        )
        for place, uid in enumerate(classes)
    )
    user = item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3") + user
    names = called.ljust(16) + calling.ljust(16) + bytes(32)
    application = item(0x10, b"1.2.840.10008.3.1.1.1")
    return pdu(1, b"\0\1\0\0" + names + application + contexts + item(0x50, user) + more)


def data(content, last=True, command=False, context=3):
    """A PDU with one fragment of a command or of a data set."""
    header = command + 2 * last
    return pdu(4, struct.pack(">LBB", len(content) + 2, context, header) + content)


def store_command(uid=b"1.2.3.4", dataset=True):
    """The command of C-STORE for an MR image, which says whether a data set follows."""
    elements = (
        (0x0002, MR_IMAGE.encode() + b"\0"),
        (0x0100, b"\1\0"),
        (0x0110, b"\1\0"),
        (0x0700, b"\0\0"),
        (0x0800, b"\0\0" if dataset else b"\1\1"),
        (0x1000, uid + b"\0" * (len(uid) % 2)),
    )
    return b"".join(
        struct.pack("<HHL", 0, element, len(value)) + value for element, value in elements
    )


@contextmanager
def connected(receiver, associated=True):
    """A connection, on which an association is open unless that is not wanted."""
    with socket.create_connection(("127.0.0.1", receiver.port), HANGS_S) as connection:
        if associated:
            connection.sendall(request())
            assert connection.recv(2**16)[:1] == b"\2"
        yield connection


def heard(connection):
    """What comes until the other side ends."""
    came = b""
    try:
        while piece := connection.recv(2**16):
            came += piece
    except ConnectionError:
        pass
    return came
