"""Limits that the system keeps of a process which reads what strangers send."""

from __future__ import annotations

import re
import resource
import signal
from pathlib import Path

_MORE_BYTES = 96 * 2**20  # of memory, beside what the process has when it begins
_FILE_BYTES = 4 * 2**30
_FILES = 128
_SECONDS = 2 * 60 * 60


def limit_process(file_bytes: int = _FILE_BYTES) -> None:
    """Limit the memory, the files and the time of this process; where it goes beyond, it ends."""
    for kind, most in (
        (resource.RLIMIT_DATA, _data_bytes() + _MORE_BYTES),
        (resource.RLIMIT_FSIZE, min(file_bytes, _FILE_BYTES)),
        (resource.RLIMIT_NOFILE, _FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (least, least))
    signal.setitimer(signal.ITIMER_REAL, _SECONDS)


def _data_bytes() -> int:
    """What this process may write to in memory now."""
    found = re.search(r"VmData:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 2**27
