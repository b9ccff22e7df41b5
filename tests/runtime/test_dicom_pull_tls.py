"""Encrypted archives of others are pulled from, and one that is not trusted is told."""

import contextlib
import socket
import socketserver
import ssl
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from adae_edge.benchmarks.peers.certificates import certificate
from adae_edge.benchmarks.peers.processes import free_port
from adae_edge.errors import SourceError, UsageError
from adae_edge.runtime.frame import Frame
from adae_edge.runtime.sources.registry import open_source
from adae_edge.runtime.sources.source import Receiving, Wanted
from tests.runtime.test_dicom_pull import STUDY, a_study
from tests.support.models import HANGS_S
from tests.support.peers import peer, peers
from tests.support.real_archives import orthanc


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Certificates and keys: of an archive, of this side, and of a stranger."""
    folder = tmp_path_factory.mktemp("certificates")
    with peers():
        return {name: certificate(folder, name) for name in ("localhost", "adae", "stranger")}


@contextmanager
def encrypted(port, cert, key):
    """A port of this machine by TLS within the block, and the port at which it is."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            with (
                context.wrap_socket(self.request, server_side=True) as near,
                socket.create_connection(("127.0.0.1", port), HANGS_S) as far,
            ):
                back = threading.Thread(target=copy, args=(far, near))
                back.start()
                copy(near, far)
                back.join()

    def copy(one, other):
        with contextlib.suppress(OSError):
            while piece := one.recv(2**16):
                other.sendall(piece)
            other.shutdown(socket.SHUT_WR)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.handle_error = lambda *arguments: None  # of those who do not trust it
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture(scope="module")
def archive(tmp_path_factory, files):
    """An Orthanc that shows a certificate, and asks for ours."""
    folder, port, receiver = tmp_path_factory.mktemp("orthanc"), free_port(), free_port()
    (cert, key), (adae, _) = files["localhost"], files["adae"]
    ours = {"AET": "ADAE", "Host": "127.0.0.1", "Port": receiver, "UseDicomTls": True}
    settings = {
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(cert),
        "DicomTlsPrivateKey": str(key),
        "DicomTlsTrustedCertificates": str(adae),
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        "DicomAlwaysAllowGet": True,
    }
    plugins = [peer("libOrthancDicomWeb.so")]
    with orthanc(folder, port, plugins, {"adae": ours}, **settings) as one:
        for path in a_study(folder):
            one.call("/instances", path.read_bytes())
        with encrypted(one.http, cert, key) as https:
            yield SimpleNamespace(
                dimse=f"dicom://ORTHANC@127.0.0.1:{port}/{STUDY}",
                web=f"dicomweb:https://localhost:{https}/dicom-web/studies/{STUDY}",
                move=f"?move={receiver}",
            )


def given(spec, folder, files, own=None, trusted=None):
    """How many frames a source gives; ``own`` and ``trusted`` are names of certificates."""
    cert, key = files[own] if own else (None, None)
    receiving = Receiving(folder / "spool", cert, key, files[trusted][0] if trusted else None)
    with open_source(spec, Wanted(receiving=receiving)) as source:
        return sum(isinstance(item, Frame) for item in source)


@pytest.mark.parametrize("move", [False, True])
def test_orthanc_is_pulled_from_by_tls(archive, files, tmp_path, move):
    spec = archive.dimse + archive.move * move
    assert given(spec, tmp_path, files, "adae", "localhost") == 10


@pytest.mark.parametrize(
    ("own", "trusted"), [("adae", "stranger"), ("stranger", "localhost"), (None, None)]
)
def test_orthanc_is_not_pulled_from_without_trust_on_both_sides(
    archive, files, tmp_path, own, trusted
):
    with pytest.raises(SourceError, match="dicom://ORTHANC@"):
        given(archive.dimse, tmp_path, files, own, trusted)


def test_orthanc_is_pulled_from_by_https(archive, files, tmp_path):
    with pytest.raises(SourceError, match="certificate"):
        given(archive.web, tmp_path, files)
    assert given(archive.web, tmp_path, files, trusted="localhost") == 10


def test_an_archive_that_asks_for_no_certificate_needs_none_of_ours(files, tmp_path):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files["localhost"])
    entity, port = AE("PACS"), free_port()
    entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    handlers = [(evt.EVT_C_FIND, lambda event: iter([(0x0000, None)]))]
    address = "127.0.0.1", port
    server = entity.start_server(address, False, ssl_context=context, evt_handlers=handlers)
    spec = f"dicom://PACS@127.0.0.1:{port}/1.2"
    for trusted, said in (("localhost", "has no study 1.2"), ("stranger", "cannot be reached")):
        with pytest.raises(SourceError, match=said):
            given(spec, tmp_path, files, trusted=trusted)
    server.shutdown()


def test_certificates_that_do_not_go_together_are_refused(files, tmp_path):
    cert, key = files["adae"]
    spec = "dicom://A@127.0.0.1:1/1.2"
    for options, place, words in (
        ((cert, None, None), spec, "go together"),
        ((None, key, None), spec, "go together"),
        ((None, None, cert), f"{spec}?move=11113", "by C-MOVE the archive calls back"),
        ((None, None, cert), "dicomweb:http://localhost/studies/1.2", "is not encrypted: leave"),
    ):
        receiving = Receiving(tmp_path / "spool", *options)
        with pytest.raises(UsageError, match=words):
            open_source(place, Wanted(receiving=receiving))
