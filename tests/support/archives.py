"""Archives of DICOM objects that answer what a test wants, and small objects to send to them."""

import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from pynetdicom import AE, evt

from adae_edge.benchmarks.peers.processes import free_port

NAME = "Tr0ub4dor^Anna"


def an_object(number):
    """A picture of one grey pixel: its UID and its bytes."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
    data.StudyInstanceUID, data.SeriesInstanceUID = "1.2.1", "1.2.2"
    data.PatientName, data.PatientID = NAME, "4711"
    data.Rows = data.Columns = data.SamplesPerPixel = 1
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    data.PhotometricInterpretation, data.PixelData = "MONOCHROME2", b"\0\0"
    file = io.BytesIO()
    data.save_as(file, enforce_file_format=True)
    return str(data.SOPInstanceUID), file.getvalue()


class Archive:
    """What an archive answers, and what it was sent.

    Attributes:
        status: of every object; or by its UID.
        came: the UIDs of objects in the order in which they came.
        kept: the objects that it took, by their UIDs.
    """

    def __init__(self, port, status):
        self.port, self.status, self.came, self.kept = port, status, [], {}

    def answer(self, data):
        """The status for an object, which is kept where that says so."""
        uid = str(data.SOPInstanceUID)
        self.came.append(uid)
        status = self.status
        status = status.get(uid, 0) if isinstance(status, dict) else status
        if status == 0 or 0xB000 <= status < 0xC000:
            self.kept[uid] = data
        return status


@contextmanager
def storage(
    status=0,
    port=None,
    title="PACS",
    classes=(SecondaryCaptureImageStorage,),
    tls=None,
    answering=None,
):
    """An archive that takes C-STORE, within the block.

    ``answering`` is called with the event in place of keeping the object.
    """
    archive = Archive(port or free_port(), status)

    def store(event):
        data = event.dataset
        data.file_meta = event.file_meta
        return archive.answer(data)

    entity = AE(title)
    entity.require_called_aet = True
    for kind in classes:
        entity.add_supported_context(kind)
    server = entity.start_server(
        ("127.0.0.1", archive.port),
        block=False,
        evt_handlers=[(evt.EVT_C_STORE, answering or store)],
        ssl_context=tls,
    )
    try:
        yield archive
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def web(answer):
    """An archive that takes STOW-RS, within the block.

    ``answer`` is called with an object, and returns a status, and the body or what stands in it.
    What is an iterator is sent piece by piece, headers included.
    """
    archive = Archive(0, 0)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.connection.settimeout(10)
            body = self.rfile.read(int(self.headers["Content-Length"]))
            start = body.index(b"\r\n\r\n") + 4
            data = dcmread(io.BytesIO(body[start : body.rindex(b"\r\n--")]))
            archive.came.append(str(data.SOPInstanceUID))
            archive.headers = self.headers
            status, said = answer(data)
            kind = "application/dicom+json" if isinstance(said, dict) else "text/html"
            if isinstance(said, Iterator):
                self.drip(said)
                return
            said = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(said)))
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(said)

        def drip(self, pieces):
            with suppress(OSError):
                for piece in pieces:
                    self.wfile.write(piece)

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        archive.port = server.server_port
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield archive
        server.shutdown()


def taken(data, **more):
    """What STOW-RS answers for an object that is kept (PS3.18 10.5.3)."""
    item = {
        "00081150": {"vr": "UI", "Value": [str(data.SOPClassUID)]},
        "00081155": {"vr": "UI", "Value": [str(data.SOPInstanceUID)]},
        **{tag: {"vr": "US", "Value": [value]} for tag, value in more.items()},
    }
    return {"00081199": {"vr": "SQ", "Value": [item]}}
