"""Whatever a peer sends, it costs its association little, and the next one is served."""

import re
import socket
import struct
import subprocess
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import pytest

from adae_edge.benchmarks.peers.certificates import certificate
from tests.support.peers import peer, peers
from tests.support.receiving import (
    ECHO,
    HANGS_S,
    IMPLICIT,
    MR_IMAGE,
    VERIFICATION,
    connected,
    data,
    echo,
    heard,
    item,
    pdu,
    receiver,
    request,
    silent,
    store_command,
    wait_until,
)
from tests.support.slices import write_slice

MOST_BYTES = 200e6
HASTY = "tests.support.hasty_receiver"
NAME = re.compile("[0-9a-f]{64}-[0-9a-f]{32}")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A receiver to which nothing is done that another test could notice."""
    with receiver(tmp_path_factory.mktemp("shared")) as one:
        yield one


@pytest.fixture(scope="module")
def hasty(tmp_path_factory):
    """A receiver that waits for a second wherever others wait for ten or more."""
    with receiver(tmp_path_factory.mktemp("hasty"), module=HASTY) as one:
        yield one


def test_a_pdu_longer_than_any_is_not_read(shared):
    for first in (b"", request()):
        with connected(shared, associated=False) as connection:
            connection.sendall(first + b"\x04\0\xff\xff\xff\xff")
            most = watched(shared, lambda: send_until_closed(connection, bytes(2**16), 2**28))
            assert most < MOST_BYTES
        assert echo(shared.port)


def test_a_command_without_an_end_costs_no_more_than_the_limit(shared):
    with connected(shared) as connection:
        piece = data(bytes(15_000), last=False, command=True)
        most = watched(shared, lambda: send_until_closed(connection, piece, 2**29))
        assert most < MOST_BYTES
    assert echo(shared.port)


def test_many_requests_at_once_cost_no_more_than_the_limit(shared):
    with connected(shared) as connection:
        piece = data(ECHO, command=True, context=1) * 200
        most = watched(shared, lambda: send_until_closed(connection, piece, 2**19))
        assert most < MOST_BYTES
    assert echo(shared.port)


def send_until_closed(connection, piece, most):
    """Send until the other side has enough, or so many bytes were sent."""
    connection.settimeout(5)
    try:
        for _ in range(most // len(piece)):
            connection.sendall(piece)
    except OSError:
        pass


def watched(one, work):
    """Do some work; the most memory that any association's process had meanwhile."""
    thread = threading.Thread(target=work)
    thread.start()
    most = 0
    while thread.is_alive():
        for child in one.children():
            try:
                text = Path(f"/proc/{child}/status").read_text()
                most = max(most, int(re.search(r"VmHWM:\s+(\d+)", text)[1]) * 1024)
            except (OSError, TypeError):
                continue
        time.sleep(0.01)
    return most


@pytest.mark.parametrize(
    "sent",
    [
        request()[:40],
        request()[:2],
        request() + data(store_command(), command=True) + data(bytes(500), last=False)[:200],
        request() + data(store_command(), command=True) + data(bytes(500), last=False),
        request() + data(bytes(40), last=True),
        request() + data(b"\xff" * 40, command=True),
        request() + data(store_command(b"1/../2" * 700), command=True) + data(bytes(10)),
        request(calling=b"\x1b[31mX"),
        pdu(9, b"what"),
        b"GET / HTTP/1.1\r\n\r\n",
        pdu(1, bytes(60)),
        pdu(4, b"\0\0\0\1"),
    ],
)
def test_what_is_cut_or_wrong_leaves_nothing_behind(shared, sent):
    before = shared.files()
    with connected(shared, associated=False) as connection:
        if len(sent) > len(request()) and sent.startswith(request()):
            connection.sendall(request())
            assert connection.recv(2**16)[:1] == b"\2"
            sent = sent.removeprefix(request())
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        heard(connection)
    shared.when_idle()
    assert shared.files() == before
    assert echo(shared.port)


def test_an_instance_under_any_name_stays_in_its_folder(shared):
    uid = b"../../../etc/passwd"
    with connected(shared) as connection:
        connection.sendall(data(store_command(uid), command=True) + data(bytes(30)))
        answer = connection.recv(2**16)
    assert answer[:1] in b"\4\7"
    assert all(NAME.fullmatch(file.name) for file in shared.files())


def test_silent_peers_keep_nobody_waiting(shared):
    with silent(shared.port, 8):
        assert echo(shared.port)


def contexts(count):
    """So many presentation contexts, of which 128 can have numbers of their own."""
    syntaxes = item(0x30, MR_IMAGE.encode()) + item(0x40, IMPLICIT.encode())
    return b"".join(
        item(0x20, struct.pack(">Bxxx", 2 * place % 256 + 1) + syntaxes) for place in range(count)
    )


@pytest.mark.parametrize(
    "sent",
    [
        request(more=contexts(10_000)),
        request((VERIFICATION,), more=item(0x20, b"\3\0\0\0" + item(0x40, b"1.2") * 9000)),
        request(user=item(0x55, bytes(60_000))),
        request(user=item(0x58, b"\2\0\xea\x60" + bytes(60_000) + b"\0\0")),
        request(user=b"".join(item(0x54, b"\0\3\x31.2\1\1") for _ in range(5000))),
        request(user=b"".join(item(0x56, b"\0\3" + b"1.2" + bytes(9)) for _ in range(3000))),
        request(more=item(0x50, item(0x52, b"1.2") * 9000) * 14),
        request([b"1.2.840".decode() * 9000]),
    ],
    ids=["contexts", "syntaxes", "version", "user", "roles", "extended", "again", "class"],
)
def test_requests_with_much_in_them_cost_no_more_than_the_limit(shared, sent):
    with connected(shared, associated=False) as connection:
        most = watched(shared, lambda: finished(connection, sent))
    assert most < MOST_BYTES
    assert echo(shared.port)


def finished(connection, sent):
    """Send, end the own half, and hear the other one out."""
    connection.settimeout(HANGS_S)
    connection.sendall(sent)
    connection.shutdown(socket.SHUT_WR)
    heard(connection)


def test_a_request_for_commitment_without_an_end_costs_no_more_than_the_limit(shared):
    elements = (
        (0x0003, b"1.2.840.10008.1.20.1"),
        (0x0100, b"\x30\1"),
        (0x0110, b"\1\0"),
        (0x0800, b"\0\0"),
        (0x1001, b"1.2.840.10008.1.20.1.1"),
        (0x1008, b"\1\0"),
    )
    asked = b"".join(struct.pack("<HHL", 0, tag, len(value)) + value for tag, value in elements)
    with connected(shared, associated=False) as connection:
        connection.sendall(request((VERIFICATION, "1.2.840.10008.1.20.1")))
        assert connection.recv(2**16)[:1] == b"\2"
        connection.sendall(data(asked, command=True))
        piece = data(bytes(15_000), last=False)
        most = watched(shared, lambda: send_until_closed(connection, piece, 2**29))
    assert most < MOST_BYTES
    assert echo(shared.port)


def test_titles_with_terminal_codes_are_told_to_nobody(tmp_path):
    with receiver(tmp_path, callers=("SCANNER",)) as one:
        for title in (b"\x1b[2J\x1b[31mRED", b"\r\n\7\0\x9b\xff", b"OTHER"):
            with connected(one, associated=False) as connection:
                connection.sendall(request(calling=title))
                assert heard(connection)[:1] in b"\3\7"
        one.when_idle()
        told = one.told()
    assert any(line.startswith("note OTHER at 127.0.0.1") for line in told)
    assert all(line.isprintable() for line in told)


def test_a_command_that_says_that_nothing_follows_keeps_nothing(shared):
    before = shared.files()
    with connected(shared) as connection:
        connection.sendall(data(store_command(dataset=False), command=True))
        answer = connection.recv(2**16)
    assert not answer or b"\0\0\0\x09\2\0\0\0\0\0" not in answer  # the status of success
    shared.when_idle()
    assert shared.files() == before
    assert echo(shared.port)


def store(port, *files):
    """Begin to send files by storescu."""
    words = [peer("storescu"), "-v", "-aec", "ADAE", "127.0.0.1", str(port), *map(str, files)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_the_same_instance_on_many_associations_at_once_is_one_file(tmp_path):
    with receiver(tmp_path) as one:
        paths = [
            write_slice(tmp_path / f"{n}.dcm", np.full((64, 48), n, np.uint16)) for n in (1, 2)
        ]
        senders = [store(one.port, *[paths[turn % 2]] * 10) for turn in range(4)]
        said = [sender.communicate(timeout=HANGS_S)[0] for sender in senders]
        assert sum(text.count("(Success)") for text in said) == 40
        one.when_idle()
        names = [file.name for file in one.files()]
    assert len(names) == 2  # of one UID, with two contents
    assert len({name.partition("-")[0] for name in names}) == 1


def test_a_full_disk_refuses_keeps_nothing_half_and_goes_on_when_there_is_room(tmp_path):
    (tmp_path / "spool").mkdir()
    mount = 'mount -t tmpfs -o size=100k none "$0" && exec "$@"'
    before = ["unshare", "--mount", "sh", "-c", mount, tmp_path / "spool"]
    if subprocess.run([*before, "true"], capture_output=True).returncode:
        pytest.skip("a file system can be mounted by root alone")
    large = write_slice(tmp_path / "1.dcm", np.zeros((256, 256), np.uint16), SOPInstanceUID="1.2.1")
    small = write_slice(tmp_path / "2.dcm", np.zeros((64, 64), np.uint16), SOPInstanceUID="1.2.2")
    with receiver(tmp_path, before) as one:
        one.spool = Path(f"/proc/{one.process.pid}/root{one.spool}")
        for path, status in ((large, "OutOfResources"), (small, "Success")):
            said, _ = store(one.port, path).communicate(timeout=HANGS_S)
            assert status in said
            one.when_idle()
        assert [file.stat().st_size > 8000 for file in one.files()] == [True]


DRIPPED = {
    "request": (b"", request()),
    "command": (request(), data(store_command(), command=True)),
    "dataset": (request() + data(store_command(), command=True), data(bytes(200), last=False)),
    "end": (request(), pdu(5, bytes(200))),
}


@pytest.mark.parametrize("phase", DRIPPED)
def test_a_peer_that_sends_a_byte_now_and_then_is_not_waited_for(hasty, phase):
    before, dripped = DRIPPED[phase]
    with connected(hasty, associated=False) as connection:
        connection.sendall(before)
        assert drips(connection, dripped) < len(dripped)
    hasty.when_idle()
    assert echo(hasty.port)


def test_peers_that_send_next_to_nothing_keep_nobody_out(hasty):
    slow, over = [], threading.Event()

    def drip():
        while not over.wait(0.2):
            for connection in [*slow]:
                with suppress(OSError):
                    connection.sendall(data(b"x", last=False))

    with ExitStack() as opened:
        opened.callback(over.set)
        threading.Thread(target=drip, daemon=True).start()
        for _ in range(32):  # which are all places
            connection = opened.enter_context(connected(hasty))
            connection.sendall(data(store_command(), command=True))
            slow.append(connection)
        wait_until(lambda: echo(hasty.port))
    hasty.when_idle()


def test_a_peer_that_sends_enough_has_as_long_as_it_needs(hasty):
    piece, begun = data(bytes(30_000), last=False), time.monotonic()
    with connected(hasty) as connection:
        connection.sendall(data(store_command(), command=True))
        while time.monotonic() < begun + 6:
            time.sleep(0.3)
            connection.sendall(piece)
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):  # it is open, and nothing was said
            connection.recv(1)


def test_a_peer_that_sends_small_instances_has_as_long_as_it_needs(tmp_path):
    with receiver(tmp_path, module=HASTY) as one, connected(one) as connection:
        begun = time.monotonic()
        while time.monotonic() < begun + 6:
            connection.sendall(data(store_command(), command=True) + data(bytes(20)))
            assert connection.recv(2**16)[:1] == b"\4"
            time.sleep(0.5)


def test_a_handshake_that_drips_is_not_waited_for(tmp_path):
    with peers():
        cert, key = certificate(tmp_path)
    with receiver(tmp_path, module=HASTY, cert=str(cert), key=str(key)) as one:
        with connected(one, associated=False) as connection:
            assert drips(connection, b"\x16\3\1\1\0\1\0\0\xfc\3\3" + bytes(200)) < 200
        assert echo(one.port, "+tla", "-ic")


def drips(connection, content):
    """Send a byte every 50 ms until the other side has enough; how many were sent."""
    connection.settimeout(0)
    for number, byte in enumerate(content):
        time.sleep(0.05)
        try:
            connection.send(bytes([byte]))
            while connection.recv(2**16):
                pass
            return number
        except BlockingIOError:
            continue
        except OSError:
            return number
    return len(content)


@pytest.mark.parametrize("phase", ["request", "dataset"])
def test_a_peer_that_stops_in_the_middle_is_not_waited_for(hasty, phase):
    before, rest = DRIPPED[phase]
    with connected(hasty, associated=False) as connection:
        connection.sendall(before + rest[: len(rest) // 2])
        heard(connection)
    hasty.when_idle()
    assert not hasty.files()
    assert echo(hasty.port)


def test_a_peer_that_never_reads_is_not_waited_for(hasty):
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        connection.connect(("127.0.0.1", hasty.port))
        connection.sendall(request())
        most = watched(
            hasty,
            lambda: send_until_closed(connection, data(ECHO, command=True, context=1) * 50, 2**26),
        )
        assert most < MOST_BYTES
        wait_until(lambda: not hasty.files("incoming"))
    assert echo(hasty.port)


def test_an_association_that_never_ends_is_ended(tmp_path):
    with receiver(tmp_path, ["env", "SECONDS=2"], module=HASTY) as one:
        with connected(one) as connection:
            begun = time.monotonic()
            while answered(connection):
                assert time.monotonic() < begun + HANGS_S
                time.sleep(0.1)
        one.when_idle()
        assert any("took too long" in line for line in one.told())


def answered(connection):
    """Whether C-ECHO is answered on an association."""
    try:
        connection.sendall(data(ECHO, command=True, context=1))
        return connection.recv(2**16)[:1] == b"\4"
    except OSError:
        return False
