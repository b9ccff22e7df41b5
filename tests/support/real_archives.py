"""Archives of others, in processes of their own, with ports and configurations of their own."""

import json
import subprocess
import urllib.request
from contextlib import contextmanager

from adae_edge.benchmarks.peers.processes import free_port
from tests.support.peers import peer
from tests.support.receiving import HANGS_S, wait_until


class Orthanc:
    """An Orthanc that runs.

    Attributes:
        http: the port of its HTTP interface.
    """

    def __init__(self, port):
        self.http = port

    def call(self, path, body=None):
        return json.loads(self.read(path, body))

    def read(self, path, body=None):
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", data=body)
        with urllib.request.urlopen(request, timeout=HANGS_S) as answer:
            return answer.read()

    def answers(self):
        try:
            return bool(self.call("/system"))
        except OSError:
            return False


@contextmanager
def orthanc(folder, port, plugins=(), modalities=None, **settings):
    """An Orthanc within the block, whose DICOM port is given; settings are those of its file."""
    http = free_port()
    configuration = {
        "StorageDirectory": str(folder / "archive"),
        "IndexDirectory": str(folder / "archive"),
        "HttpPort": http,
        "DicomPort": port,
        "DicomAet": "ORTHANC",
        "RemoteAccessAllowed": False,
        "DicomModalities": modalities or {},
        "Plugins": [*plugins],
        **settings,
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    command = [peer("Orthanc"), str(folder / "orthanc.json")]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as process:
        try:
            one = Orthanc(http)
            wait_until(one.answers)
            yield one
        finally:
            process.terminate()


@contextmanager
def dcmqrscp(folder, port, destination):
    """dcmtk's archive within the block, which may send to ADAE at the port ``destination``."""
    store = folder / "store"
    store.mkdir()
    configuration = folder / "dcmqrscp.cfg"
    configuration.write_text(
        f"""NetworkTCPPort = {port}
MaxPDUSize = 16384
MaxAssociations = 16
HostTable BEGIN
adae = (ADAE, 127.0.0.1, {destination})
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
QRSCP {store} RW (200, 1024mb) ANY
AETable END
"""
    )
    quiet = subprocess.DEVNULL
    command = [peer("dcmqrscp"), "+xt", "-xt", "-c", str(configuration)]
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as process:
        try:
            echo = [peer("echoscu"), "-aec", "QRSCP", "127.0.0.1", str(port)]
            wait_until(lambda: not subprocess.run(echo, stdout=quiet, stderr=quiet).returncode)
            yield
        finally:
            process.terminate()
