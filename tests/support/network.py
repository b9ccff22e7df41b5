"""What tests of sinks that send over the network share."""

import subprocess

import pytest

from adae_edge.runtime.frame import Event
from tests.runtime.test_sinks import result

LOST = Event("camera:0", 1.0, "lost", "camera:0 went away")


def write(sink, numbers):
    for number in numbers:
        sink.write(result("camera:0", number))


def frames(rows):
    """The numbers of the frames that rows are about."""
    return [row["frame"] for row in rows if "score" in row]


def certificate(folder, name="localhost", days=1):
    """A file of a key and a certificate that nobody else signed; days below 0: it has expired."""
    path = folder / f"{name}{days}.pem"
    dates = ["-days", str(days)]
    if days < 0:
        dates = ["-not_before", "20200101000000Z", "-not_after", "20200201000000Z"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"]
    alternative = f"subjectAltName=DNS:{name},IP:127.0.0.1" if name == "localhost" else ""
    extra = ["-addext", alternative or f"subjectAltName=DNS:{name}"]
    out = ["-keyout", str(path), "-out", str(folder / "cert.pem")]
    made = subprocess.run([*command, *extra, *dates, *out], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"openssl makes no certificate: {made.stderr.strip()[-100:]}")
    path.write_bytes(path.read_bytes() + (folder / "cert.pem").read_bytes())
    return path
