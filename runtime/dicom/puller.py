"""The process that pulls: ``python -m adae_edge.runtime.dicom.puller``.

What an archive sends is read here, with limits of memory and time, and not in the process that
scores. The request comes as a line on the standard input, because it may hold a password. The
process has the pulled folder to itself until its standard input ends.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import warnings
from typing import Any

from adae_edge.errors import AdaeEdgeError
from adae_edge.runtime.dicom.limits import limit_process
from adae_edge.runtime.dicom.messages import FAILED, tell
from adae_edge.runtime.dicom.pull_request import Peer, Request
from adae_edge.runtime.dicom.pulling import NO_ROOM, Archive, pull


def main() -> None:
    """Pull, or tell why not."""
    warnings.simplefilter("ignore")  # pydicom's quote values
    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who scores says when to end
    request = Request.from_json(sys.stdin.readline())
    threading.excepthook = lambda hook: _fail(request, hook.exc_value)
    try:
        pull(request, _connected)
    except BaseException as error:
        _fail(request, error)
    sys.stdin.read()


def _connected(request: Request) -> Archive:
    """The archive; from here on this process has its limits."""
    archive: Archive
    if isinstance(request.archive, Peer):
        from adae_edge.runtime.dicom.pulling_dimse import Dimse

        limit_process(request.limit_bytes)
        archive = Dimse(request)
    else:
        from adae_edge.runtime.dicom.pulling_web import DicomWeb

        limit_process(request.limit_bytes)
        archive = DicomWeb(request)
    threading.Thread(target=_end_with_input, daemon=True).start()
    return archive


def _end_with_input() -> None:
    """End this process when the standard input ends, which is when the scoring process does."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(0)


def _fail(request: Request, error: Any) -> None:
    """Tell in a sentence what ended the pull, and end; foreign messages may quote patients."""
    if isinstance(error, AdaeEdgeError):
        sentence = str(error)
    elif isinstance(error, MemoryError):
        sentence = f"{request.name} sends more than there may be in memory"
    elif isinstance(error, OSError) and error.errno in NO_ROOM:
        sentence = f"{request.spool} has no room for what {request.name} sends: {error.strerror}"
    else:
        sentence = f"{request.name} sends what cannot be read: {type(error).__name__}"

    tell(FAILED, sentence)
    os._exit(1)


if __name__ == "__main__":
    main()
