"""The sinks dicom: and dicomweb:, with archives that take, refuse, warn and are away."""

import logging
import socket
import ssl
import struct
import time
from contextlib import contextmanager

import pytest
from pydicom import dcmread

from adae_edge.benchmarks.peers import processes
from adae_edge.benchmarks.peers.broker import wait_until
from adae_edge.benchmarks.peers.certificates import certificate
from adae_edge.benchmarks.peers.processes import free_port
from adae_edge.errors import SpoolFull, UsageError
from adae_edge.runtime.dicom import answers
from adae_edge.runtime.sinks import objects, queued
from adae_edge.runtime.sinks.registry import open_sink
from tests.support.archives import NAME, an_object, storage, taken, web
from tests.support.peers import peer, peers

OBJECTS = [an_object(number) for number in range(3)]
UIDS = [uid for uid, _ in OBJECTS]
_MANY = 1024  # pieces of 64 KiB: more than buffers of a connection hold
# pynetdicom drops a socket by which it could not connect without closing it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """Opens a sink by its URL, which pauses shortly, and closes it."""
    monkeypatch.setattr(queued, "_FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(queued, "_LONGEST_PAUSE_S", 0.1)
    sinks = []

    def again(url):
        sinks.append(open_sink(f"{url}{'&' if '?' in url else '?'}spool={tmp_path}"))
        return sinks[-1]

    yield again
    for sink in sinks:
        sink.close()


@pytest.fixture
def impatient(monkeypatch):
    """What was refused is sent again soon."""
    monkeypatch.setattr(objects, "_FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(objects, "_LONGEST_PAUSE_S", 0.1)


def url(archive):
    return f"dicom://PACS@127.0.0.1:{archive.port}"


def told_of(sink):
    """Wait for what is told, and return it."""
    told = []
    wait_until(lambda: told.extend(sink.news()) or told)
    return told[0]


def test_objects_arrive_whole_in_order_and_each_once(opened):
    with storage() as archive:
        sink = opened(url(archive))
        sink.put(OBJECTS)
        wait_until(lambda: not sink.waiting)
    assert archive.came == UIDS
    assert archive.kept[UIDS[1]].PatientName == NAME
    assert archive.kept[UIDS[1]].PixelData == b"\0\0"


def test_dcmtk_keeps_them(opened, tmp_path):
    port = free_port()
    (tmp_path / "kept").mkdir()
    command = [peer("storescp"), "-od", tmp_path / "kept", "-aet", "PACS", port]
    with processes.peer(command):
        sink = opened(f"dicom://PACS@127.0.0.1:{port}?calling=ADAE-7")
        sink.put(OBJECTS)  # also before it listens
        wait_until(lambda: not sink.waiting)
    assert sorted(dcmread(path).SOPInstanceUID for path in (tmp_path / "kept").iterdir()) == UIDS


def test_an_archive_that_is_away_is_told_and_gets_all_when_it_is_back(opened):
    port = free_port()
    sink = opened(f"dicom://PACS@127.0.0.1:{port}")
    sink.put(OBJECTS)
    told = told_of(sink)
    assert told.startswith(f"cannot reach PACS at 127.0.0.1:{port}; results wait in ")
    sink.close()
    sink = opened(f"dicom://PACS@127.0.0.1:{port}")  # as after a crash of this process
    assert sink.waiting == 3
    with storage(port=port) as archive:
        wait_until(lambda: not sink.waiting)
    assert archive.came == UIDS


@pytest.mark.parametrize("status", [0xA700, 0x0110, 0x0124, 0x0213])
def test_what_an_archive_cannot_keep_now_waits_at_the_front(opened, status):
    with storage(status) as archive:
        sink = opened(url(archive))
        sink.put(OBJECTS)
        assert f"does not store: it answers the status {status:04X}; results" in told_of(sink)
        wait_until(lambda: len(archive.came) > 2)
        assert set(archive.came) == {UIDS[0]}
        archive.status = 0
        wait_until(lambda: not sink.waiting)
    assert archive.came[-3:] == UIDS


@pytest.mark.parametrize("status", [0xA900, 0xC123, 0x0122, 0x0117])
def test_an_object_that_is_refused_blocks_no_other_one_and_is_sent_again(
    opened, status, monkeypatch
):
    with storage({UIDS[0]: status}) as archive:
        sink = opened(url(archive))
        sink.put(OBJECTS)
        wait_until(lambda: archive.came == UIDS)
        told = told_of(sink)
        assert f"PACS at 127.0.0.1:{archive.port} refuses an object by the status" in told
        assert "it lies in" in told
        wait_until(lambda: sink.waiting == 1)
        assert sink.lacks == 0
        sink.close()
        archive.status = 0
        sink = opened(url(archive))
        wait_until(lambda: not sink.waiting)
    assert archive.came == [*UIDS, UIDS[0]]
    assert set(archive.kept) == set(UIDS)


def test_what_is_refused_is_sent_again_after_pauses(opened, impatient):
    with storage({UIDS[0]: 0xA900}) as archive:
        sink = opened(url(archive))
        sink.put(OBJECTS)
        wait_until(lambda: len(archive.came) > 5)
        assert archive.came[:3] == UIDS
        assert set(archive.came[3:]) == {UIDS[0]}
        archive.status = 0
        wait_until(lambda: not sink.waiting)
        assert len(sink.news()) == 1  # once, however often it was refused


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007])
def test_an_object_that_is_kept_with_a_warning_is_sent_three_times(opened, impatient, status):
    with storage({UIDS[1]: status}) as archive:
        sink = opened(url(archive))
        sink.put(OBJECTS)
        wait_until(lambda: not sink.waiting)
        assert archive.came == [*UIDS, UIDS[1], UIDS[1]]
        told = list(sink.news())
    assert len(told) == 2
    assert f"keeps an object with a warning, the status {status:04X}; it lies in" in told[0]
    assert told[1].endswith("it is not sent again")


def test_a_class_that_is_not_taken_is_the_object_s_fault(opened):
    with storage(classes=["1.2.840.10008.5.1.4.1.1.4"]) as archive:
        sink = opened(url(archive))
        sink.put(OBJECTS)
        assert "takes no object of the class Secondary Capture Image Storage" in told_of(sink)
        wait_until(lambda: not len(sink._spool))
        assert sink.waiting == 3


def test_a_title_that_is_not_called_so_is_told_and_everything_waits(opened):
    with storage(title="OTHER") as archive:
        sink = opened(url(archive))
        sink.put(OBJECTS)
        assert "rejects the association: Called AE title not recognised" in told_of(sink)
        assert sink.waiting == 3


def taken_until_closed(connection, piece):
    """How many such pieces the other side takes before it closes."""
    for number in range(_MANY):
        try:
            connection.sendall(piece)
        except OSError:
            return number
    return _MANY


def test_a_pdu_longer_than_any_is_not_read(opened):
    with socket.create_server(("127.0.0.1", 0)) as server:
        sink = opened(f"dicom://PACS@127.0.0.1:{server.getsockname()[1]}")
        sink.put(OBJECTS[:1])
        with server.accept()[0] as connection:
            connection.settimeout(5)
            connection.sendall(b"\2\0\xff\xff\xff\xff")
            assert taken_until_closed(connection, bytes(2**16)) < _MANY
    assert sink.waiting == 1


def test_an_answer_without_an_end_is_not_read(opened):
    piece, taken_pieces = bytes(2**16), []
    # of a command, whose last fragment never comes
    pdu = struct.pack(">BBIIBB", 4, 0, len(piece) + 6, len(piece) + 2, 1, 1) + piece

    def answer(event):
        connection = event.assoc.dul.socket.socket
        taken_pieces.append(taken_until_closed(connection, pdu))
        return 0

    with storage(answering=answer) as archive:
        sink = opened(url(archive))
        sink.put(OBJECTS[:1])
        assert "does not answer, or ended the association" in told_of(sink)
        assert sink.waiting == 1
        wait_until(lambda: taken_pieces)
    assert taken_pieces[0] < _MANY


def test_refused_objects_take_no_more_than_the_limit(opened):
    with storage(0xA900) as archive:
        sink = opened(f"{url(archive)}?limit=1kB")
        with pytest.raises(SpoolFull):
            sink.put(OBJECTS)
        for one in OBJECTS[:2]:
            sink.put([one])
            wait_until(lambda: not len(sink._spool) or sink._error)
        assert "is full" in sink._error
        assert sink.waiting == 2


@contextmanager
def encrypted(folder, **options):
    with peers():
        cert, key = certificate(folder, "pacs")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    if "client" in options:
        context.load_verify_locations(options["client"])
        context.verify_mode = ssl.CERT_REQUIRED
    with storage(tls=context) as archive:
        yield archive, cert


def test_tls_with_certificates_of_both(opened, tmp_path):
    with peers():
        ours = certificate(tmp_path, "ours")
    both = tmp_path / "both.pem"
    both.write_bytes(ours[0].read_bytes() + ours[1].read_bytes())
    with encrypted(tmp_path, client=ours[0]) as (archive, cert):
        sink = opened(f"{url(archive)}?ca={cert}&cert={both}")
        sink.put(OBJECTS)
        wait_until(lambda: not sink.waiting)
    assert archive.came == UIDS


def test_a_certificate_of_somebody_else_gets_nothing(opened, tmp_path):
    with peers():
        other = certificate(tmp_path, "other")
    with encrypted(tmp_path) as (archive, _):
        sink = opened(f"{url(archive)}?ca={other[0]}")
        sink.put(OBJECTS)
        assert "or has a certificate that is not trusted" in told_of(sink)
        assert archive.came == []


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("dicom://127.0.0.1", "has no AE title of 1 to 16 letters before its host"),
        ("dicom://A@", "has no host"),
        ("dicom://seventeen-letters@127.0.0.1", "has no AE title"),
        ("dicom://A@127.0.0.1?results=pdf", "takes some of sr, sc, map, with commas"),
        ("dicom://A@127.0.0.1?results=sr,sr", "takes some of"),
        ("dicom://A@127.0.0.1?calling=a%5Cb-and-far-too-long", "takes an AE title"),
        ("dicom://A@127.0.0.1?cert=a.pem", "has a certificate and no ca=FILE"),
        ("dicom://A@127.0.0.1?ca=a.pem", "cannot read certificates from a.pem"),
        ("dicomweb:ftp://127.0.0.1", "is no web service"),
        ("dicomweb:http://10.0.0.1/", "is not encrypted, and another machine"),
    ],
)
def test_a_name_that_is_wrong_gets_a_sentence(spec, words):
    with pytest.raises(UsageError) as raised:
        open_sink(spec)
    assert words in str(raised.value)


def test_nothing_of_a_patient_is_told_or_in_a_name(opened, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    told = []
    with storage({UIDS[0]: 0xA900, UIDS[1]: 0xB000}) as archive:
        sink = opened(url(archive))
        sink.put(OBJECTS)
        wait_until(lambda: sink.waiting == 2)
        told += sink.news()
    sink.put(OBJECTS)
    told.append(told_of(sink))
    said = capfd.readouterr()
    names = [str(path) for path in tmp_path.rglob("*")]
    everything = " ".join([*told, *names, said.out, said.err, caplog.text])
    assert "Tr0ub4dor" not in everything
    assert "4711" not in everything


def web_url(archive, more=""):
    return f"dicomweb:http://127.0.0.1:{archive.port}/dicom-web{more}"


def test_objects_arrive_by_the_web(opened):
    with web(lambda data: (200, taken(data))) as archive:
        sink = opened(web_url(archive, "?token=abcdefgh"))
        sink.put(OBJECTS)
        wait_until(lambda: not sink.waiting)
    assert archive.came == UIDS
    assert archive.headers["Authorization"] == "Bearer abcdefgh"
    assert "abcdefgh" not in sink.name


@pytest.mark.parametrize(
    ("status", "said", "words"),
    [
        (500, b"", "answers 500 Internal Server Error"),
        (503, b"", "answers 503 Service Unavailable"),
        (404, b"", "answers 404 Not Found"),
        (401, b"", "refuses the user, the password or the token: 401"),
        (302, b"", "points to somewhere else: redirects are not followed"),
        (200, b"<html>Welcome</html>", "does not say that it keeps what it was sent"),
        (200, {"00081199": 7}, "answers what is no answer"),
        (200, bytes(2**21), "answers more than 1 MiB"),
    ],
)
def test_what_the_web_does_not_take_waits(opened, status, said, words):
    answers = [(status, said)]
    with web(lambda data: answers[0] if answers else (200, taken(data))) as archive:
        sink = opened(web_url(archive))
        sink.put(OBJECTS)
        assert words in told_of(sink)
        assert sink.waiting == 3
        answers.clear()
        wait_until(lambda: not sink.waiting)
    assert archive.came[-3:] == UIDS


@pytest.mark.parametrize(
    ("beginning", "words"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", "answers too slowly"),
        (b"HTTP/1.1 200 OK\r\nX: ", "does not answer"),
    ],
)
def test_an_answer_that_drips_is_not_waited_for(opened, monkeypatch, beginning, words):
    monkeypatch.setattr(answers, "_PATIENCE_S", 1)

    def dripped():
        yield beginning
        while True:
            time.sleep(0.05)
            yield b" "

    with web(lambda data: (200, dripped())) as archive:
        sink = opened(web_url(archive))
        sink.put(OBJECTS[:1])
        assert words in told_of(sink)
        assert sink.waiting == 1


FAILED = {"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [0xA900]}}]}}


@pytest.mark.parametrize(
    ("status", "said", "words"),
    [
        (409, FAILED, "refuses an object by the status 409"),
        (415, b"", "refuses an object by the status 415"),
        (202, FAILED, "refuses an object by the status A900"),
        (202, None, "keeps an object with a warning, the status B000"),
    ],
)
def test_what_the_web_refuses_blocks_no_other_one(opened, status, said, words):
    def answer(data):
        if data.SOPInstanceUID != UIDS[0]:
            return 200, taken(data)
        return status, said or taken(data, **{"00081196": 0xB000})

    with web(answer) as archive:
        sink = opened(web_url(archive))
        sink.put(OBJECTS)
        assert words in told_of(sink)
        wait_until(lambda: sink.waiting == 1)
    assert archive.came == UIDS
