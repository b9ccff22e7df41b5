"""Starts the process that receives DICOM, hears what it tells, and ends it."""

from __future__ import annotations

import select
import subprocess
import sys
from typing import IO

from adae_edge.runtime.dicom.messages import LISTENING, Settings

# The path is this process's: a folder that the command is started in brings no modules of its own.
_CODE = (
    "import sys; sys.path[:] = sys.argv[2:]\n"
    "import adae_edge.runtime.dicom.receiver as it; it.main()"
)
_ENDS_S = 5.0


class Receiver:
    """The process that listens, in which nothing is scored.

    Attributes:
        begun: whether it listens.
        ended: whether it tells no more.
    """

    def __init__(self, settings: Settings) -> None:
        """Start it; it ends when its standard input does."""
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", _CODE, settings.to_json(), *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._stream: IO[bytes] = self._process.stdout
        self._rest = b""
        self.begun = self.ended = False

    def come(self, seconds: float) -> list[str]:
        """Wait for some lines, at most so long."""
        if not select.select([self._stream], [], [], seconds)[0]:
            return []
        came = self._stream.read1(2**16)  # type: ignore[attr-defined]
        self.ended = not came
        *lines, self._rest = (self._rest + came).split(b"\n")
        texts = [line.decode(errors="replace") for line in lines]
        self.begun |= LISTENING in texts or f"{LISTENING} " in texts
        return texts

    def close(self) -> None:
        """End it, and wait until it is gone."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(_ENDS_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stream.close()
