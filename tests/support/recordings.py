"""What others send when they store, recorded once and kept: ``python -m tests.support.recordings``.

Each is what a program sent to this receiver, in the parts between answers: a request, two CT slices
of 16 x 16 pixels, and the end.
"""

import base64
import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pydicom
import pynetdicom

from adae_edge.benchmarks.peers.processes import free_port
from adae_edge.benchmarks.peers.recorder import recorder
from tests.support.peers import peer
from tests.support.real_archives import orthanc
from tests.support.receiving import receiver
from tests.support.slices import write_slice

FOLDER = Path(__file__).parents[1] / "recordings"
UIDS = ("1.2.826.0.1.3680043.8.498.7.1", "1.2.826.0.1.3680043.8.498.7.2")


def pixels(number):
    """The pixels of a slice that was sent."""
    return (np.arange(256, dtype=np.uint16) * (number + 3)).reshape(16, 16)


def read(name):
    """A recording: the parts that were sent."""
    kept = json.loads((FOLDER / f"{name}.json").read_text())
    return [base64.b64decode(part) for part in kept["parts"]]


def main():
    """Record all of them anew."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        ids = {"StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.2.2", "PatientID": "7"}
        paths = [
            write_slice(folder / f"{n}.dcm", pixels(n), SOPInstanceUID=uid, **ids)
            for n, uid in enumerate(UIDS)
        ]
        for name, send in {"dcmtk": dcmtk, "orthanc": orthanc_, "pynetdicom": pynetdicom_}.items():
            (folder / name).mkdir()
            with receiver(folder / name) as one, recorder(one.port) as (port, parts):
                said = send(folder / name, port, paths)
            shown = [base64.b64encode(part).decode() for part in parts]
            record = json.dumps({"sent by": said, "parts": shown}, indent=1)
            (FOLDER / f"{name}.json").write_text(f"{record}\n")
            print(said, [len(part) for part in parts])


def dcmtk(folder, port, paths):
    """storescu."""
    command = [peer("storescu"), "-aec", "ADAE", "127.0.0.1", str(port), *map(str, paths)]
    subprocess.run(command, check=True)
    version = subprocess.run([command[0], "--version"], capture_output=True, text=True)
    return version.stdout.splitlines()[0].strip("$ ").partition(" 2")[0]


def orthanc_(folder, port, paths):
    """A job of Orthanc."""
    adae = {"AET": "ADAE", "Host": "127.0.0.1", "Port": port}
    settings = {"DicomScuTimeout": 30, "DicomAssociationCloseDelay": 0}
    with orthanc(folder, free_port(), modalities={"adae": adae}, **settings) as archive:
        sent = [archive.call("/instances", path.read_bytes())["ID"] for path in paths]
        asked = json.dumps({"Resources": sent, "Synchronous": True}).encode()
        archive.call("/modalities/adae/store", asked)
        time.sleep(2)  # it ends the association later
        return f"Orthanc {archive.call('/system')['Version']}"


def pynetdicom_(folder, port, paths):
    """An association of pynetdicom."""
    entity = pynetdicom.AE("PYNETDICOM")
    entity.requested_contexts = pynetdicom.StoragePresentationContexts
    association = entity.associate("127.0.0.1", port, ae_title="ADAE")
    for path in paths:
        assert association.send_c_store(pydicom.dcmread(path)).Status == 0
    association.release()
    return f"pynetdicom {pynetdicom.__version__}"


if __name__ == "__main__":
    main()
