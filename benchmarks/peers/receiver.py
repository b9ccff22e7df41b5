"""The process that receives DICOM, without what scores."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from adae_edge.benchmarks.peers.processes import free_port
from adae_edge.runtime.dicom.messages import Settings


@dataclass
class Receiver:
    """A receiver that runs, under the AE title ADAE.

    Attributes:
        process: the one that listens.
        port: where.
        spool: the folder of what it receives.
        told: the lines that it has told, whole when it has ended.
    """

    process: subprocess.Popen[bytes]
    port: int
    spool: Path
    told: list[bytes] = field(default_factory=list)


@contextmanager
def receiver(folder: Path) -> Iterator[Receiver]:
    """A receiver within the block; what it complains of is in the file ``errors`` of the folder."""
    port, spool = free_port(), folder / "spool"
    settings = Settings("127.0.0.1", port, "ADAE", str(spool), 10**10, 3600.0)
    command = [sys.executable, "-m", "adae_edge.runtime.dicom.receiver", settings.to_json()]
    pipe = subprocess.PIPE
    with (folder / "errors").open("wb") as errors:
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors)  # noqa: S603
        assert process.stdin is not None
        assert process.stdout is not None
        one = Receiver(process, port, spool)
        with process:
            process.stdout.readline()
            hearing = threading.Thread(target=one.told.extend, args=(process.stdout,))
            hearing.start()
            try:
                yield one
            finally:
                process.stdin.close()
                hearing.join()
