"""Archives that refuse, are silent, or send what no archive sends cost a sentence each."""

import io
import socket
import ssl
import struct
import threading
import time
from contextlib import contextmanager

import pytest
from pydicom import dcmread
from pynetdicom import AE, _config, build_context, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)

from adae_edge.benchmarks.peers.certificates import certificate
from adae_edge.benchmarks.peers.processes import free_port
from adae_edge.runtime.dicom.pull_request import Peer, Request
from adae_edge.runtime.dicom.pulling_dimse import Dimse, _Desk
from tests.runtime.test_dicom_pull_faults import ROOT, SERIES, STUDY, instance, pulled, refusal
from tests.support.peers import peers
from tests.support.receiving import pdu


@contextmanager
def archive(title="PACS", find=lambda event: iter([(0x0000, None)]), get=None):
    """An archive within the block, by its name; it answers C-FIND so."""
    entity, port = AE(title), free_port()
    entity.require_called_aet = True
    entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    entity.add_supported_context(StudyRootQueryRetrieveInformationModelGet)
    entity.add_supported_context(CTImageStorage, scu_role=True, scp_role=True)
    handlers = [(evt.EVT_C_FIND, find), *([(evt.EVT_C_GET, get)] if get else [])]
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    yield f"dicom://PACS@127.0.0.1:{port}/1.2"
    server.shutdown()


def test_nobody_listens(tmp_path):
    said = refusal(f"dicom://PACS@127.0.0.1:{free_port()}/1.2", tmp_path)
    assert said.endswith("cannot be reached")


def test_an_archive_of_another_title_refuses(tmp_path):
    with archive("OTHER") as spec:
        said = refusal(spec, tmp_path)
    assert said.endswith("refuses the association: Called AE title not recognised")


def test_an_archive_without_the_study(tmp_path):
    with archive() as spec:
        assert refusal(spec, tmp_path).endswith("has no study 1.2")


def test_an_archive_that_fails_says_its_status(tmp_path):
    with archive(find=lambda event: iter([(0xA700, None)])) as spec:
        assert refusal(spec, tmp_path).endswith("finds nothing: status A700")


def test_a_silent_peer_keeps_no_archive_out_that_moves(tmp_path, monkeypatch):
    monkeypatch.setattr(_config, "STORE_RECV_CHUNKED_DATASET", False)  # and so again afterwards
    with peers():
        cert, key = map(str, certificate(tmp_path))
    port, trusting = free_port(), ssl.create_default_context(cafile=cert)
    peer = Peer("PACS", "127.0.0.1", 104, "ADAE", ("127.0.0.1", port))
    dimse = Dimse(Request("a", peer, STUDY, SERIES, str(tmp_path), 10**6, 60.0, cert, key))
    place = "127.0.0.1", port
    with (
        dimse._receiving([build_context(CTImageStorage)], _Desk({}, lambda path, uid: None)),
        socket.create_connection(place),  # which says nothing
        socket.create_connection(place, timeout=60) as connection,
    ):
        trusting.wrap_socket(connection, server_hostname="localhost").close()


def test_an_archive_that_is_silent_is_not_waited_for(tmp_path):
    def slow(event):
        time.sleep(4)
        yield 0x0000, None

    with archive(find=slow) as spec:
        assert refusal(spec, tmp_path, patience_s=1.0).endswith("has not answered for 1 s")


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", struct.pack(">BxL", 2, 2**32 - 1), pdu(2, b"")],
)
def test_what_is_no_archive_is_told(tmp_path, answer):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def say():
            connection, _ = server.accept()
            with connection:
                connection.recv(2**16)
                connection.sendall(answer)
                connection.recv(2**16)

        thread = threading.Thread(target=say)
        thread.start()
        said = refusal(
            f"dicom://PACS@127.0.0.1:{server.getsockname()[1]}/1.2", tmp_path, patience_s=1.0
        )
        thread.join()
    assert said.startswith("dicom://PACS@127.0.0.1:")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ([instance(0)], "the archive gave 1 of 2 instances"),
        ([instance(0), instance(7)], "the archive gave an instance that was not asked for"),
        ([instance(0), instance(1, f"{ROOT}.9")], "the archive gave another instance than"),
    ],
)
def test_what_c_get_gives_is_what_was_asked_for(tmp_path, given, sentence):
    def find(event):
        found = event.identifier
        found.SeriesInstanceUID = SERIES
        if found.QueryRetrieveLevel == "SERIES":
            found.NumberOfSeriesRelatedInstances = 2
            yield 0xFF00, found
        else:
            for number in range(2):
                found.SOPInstanceUID, found.SOPClassUID = f"{SERIES}.{number}", CTImageStorage
                yield 0xFF00, found

    def get(event):
        yield len(given)
        for one in given:
            yield 0xFF00, dcmread(io.BytesIO(one))

    with archive(find=find, get=get) as spec:
        frames, failures = pulled(spec.replace("/1.2", f"/{STUDY}"), tmp_path)
    assert (frames, len(failures)) == ([], 1)
    assert sentence in failures[0]
    assert failures[0].startswith(spec.replace("/1.2", f"/{STUDY}/{SERIES} is not scored"))
