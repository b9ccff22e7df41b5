"""Programs of others, from Debian's packages, whose answers the tests compare with."""

import os
import shutil
from contextlib import contextmanager

import pytest

from adae_edge.benchmarks.peers import processes

# Which package of .ci/debian-packages.txt has the program.
PACKAGES = {
    "djpeg": "libjpeg-turbo-progs",
    "cjpeg": "libjpeg-turbo-progs",
    "jpegtran": "libjpeg-turbo-progs",
    "dcm2pnm": "dcmtk",
    "dcmcrle": "dcmtk",
    "dcmconv": "dcmtk",
    "dcmcjpeg": "dcmtk",
    "dcmcjpls": "dcmtk",
    "dciodvfy": "dicom3tools",
    "dsrdump": "dcmtk",
    "Orthanc": "orthanc",
    "libOrthancDicomWeb.so": "orthanc-dicomweb",
    "dcmqrscp": "dcmtk",
    "echoscu": "dcmtk",
    "storescp": "dcmtk",
    "storescu": "dcmtk",
    "prlimit": "util-linux",
    "strace": "strace",
    "ffmpeg": "ffmpeg",
    "ffprobe": "ffmpeg",
    "systemd-analyze": "systemd",
    "promtool": "prometheus",
}

_PLUGINS = "/usr/share/orthanc/plugins"


def peer(program: str) -> str:
    """The path of a program; where it is missing the test is skipped, or fails with CI set."""
    found = shutil.which(program) or shutil.which(program, os.F_OK, _PLUGINS)
    return found or _missing(f"there is no {program}: apt-get install {PACKAGES[program]}")


@contextmanager
def peers():
    """Within the block a peer that is missing skips the test, or fails it with CI set."""
    try:
        yield
    except processes.MissingPeer as error:
        _missing(str(error))


@contextmanager
def rtsp_server(port=None, **options):
    """An RTSP server within the block, and its URL; options are those of ``rtsp_server.py``.

    Frame N of the server was made at ``base`` + N / ``fps`` seconds, and shows N in its blocks.
    """
    with peers():
        processes.check_rtsp_server()
    with processes.rtsp_server(port, **options) as (server, url):
        yield server, url


def _missing(reason):
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
