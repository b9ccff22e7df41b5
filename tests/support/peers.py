"""Programs of others, from Debian's packages, whose answers the tests compare with."""

import os
import shutil

import pytest

# Which package of .ci/debian-packages.txt has the program.
PACKAGES = {
    "djpeg": "libjpeg-turbo-progs",
    "cjpeg": "libjpeg-turbo-progs",
    "jpegtran": "libjpeg-turbo-progs",
    "dcm2pnm": "dcmtk",
    "dcmcrle": "dcmtk",
    "dcmconv": "dcmtk",
    "ffmpeg": "ffmpeg",
    "ffprobe": "ffmpeg",
}


def peer(program: str) -> str:
    """The path of a program; where it is missing the test is skipped, or fails with CI set."""
    found = shutil.which(program)
    if found:
        return found
    reason = f"there is no {program}: apt-get install {PACKAGES[program]}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
