"""GStreamer pipelines: a ``gst-launch-1.0`` process writes raw frames into a pipe.

It reaches what GStreamer has an element for, and needs no Python package. A process can always be
killed, whatever hangs in it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import IO

from adae_edge.decoding.shrinking import Shrinking
from adae_edge.errors import SourceError, UsageError, first_line, without_password
from adae_edge.runtime.sources.av import Reception
from adae_edge.runtime.sources.containers import PROMPT
from adae_edge.runtime.sources.live import Captured, Gap, Live
from adae_edge.runtime.sources.source import Wanted

PROGRAM = "gst-launch-1.0"
# y4m does not say the range of its colours, so that it is settled here.
_ENDING = "! videoconvert ! video/x-raw,format=I420,colorimetry=bt601 ! y4menc ! fdsink fd=1"
_MOST_BYTES = 2**20  # of complaints that are kept
_ENDS_S = 5.0  # how long a process may take that has closed its pipe
_COMPLAINTS = ("ERROR: ", "WARNING: erroneous pipeline: ")


class Gst(Live):
    """The newest frame of a GStreamer pipeline, which is started again when it ends."""

    def __init__(self, place: str, wanted: Wanted) -> None:
        """
        Args:
            place: the pipeline, as gst-launch-1.0 takes it, without a sink. One with the element
                y4menc is taken as it is, and has to write to its standard output.
            wanted: the frames that the model takes.

        Raises:
            UsageError: it cannot be parsed, GStreamer is not installed, or other frames are wanted.
        """
        name = without_password(f"gst:{place}")
        wanted.check_pictures(name)
        arguments = _arguments(place, name)
        super().__init__(name, lambda: _Pipeline(arguments, wanted.shrinking))


class _Pipeline(Reception):
    """A running pipeline, read from its standard output."""

    def __init__(self, arguments: Sequence[str], shrinking: Shrinking | None) -> None:
        super().__init__("", PROMPT, shrinking, form="yuv4mpegpipe", hide=without_password)
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self._complaints: IO[bytes] | None = None
        self._ended = False

    def open(self) -> None:
        """Start the process and read how large its frames are."""
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            self._process = subprocess.Popen(  # noqa: S603
                self._arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
                start_new_session=True,  # so that what it starts is ended with it
            )
        except OSError as error:
            raise SourceError(f"cannot start {PROGRAM}: {os.strerror(error.errno or 0)}") from error
        self.heard = time.monotonic()  # a triggered camera may be silent from here on
        if self._ended:  # by the watchdog, meanwhile
            self.interrupt()
        assert self._process.stdout is not None
        self._place = f"pipe:{self._process.stdout.fileno()}"
        try:
            super().open()
        except SourceError as error:
            raise SourceError(self._reason_of_end() or f"writes no y4m: {error}") from error

    def read(self) -> Captured | Gap | None:
        """The next frame; raises SourceError with the pipeline's words at its end."""
        self._bound_complaints()
        try:
            item = super().read()
        except SourceError as error:
            raise SourceError(self._reason_of_end() or str(error)) from error
        if item is None:
            raise SourceError(self._reason_of_end() or "ended")
        return item

    def interrupt(self) -> None:
        """Kill the process, upon which a read of its pipe comes back."""
        self._ended = True
        if self._process is not None and self._process.poll() is None:
            with suppress(ProcessLookupError):  # it has ended since
                os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill the process and let go of its pipe; a second call does nothing."""
        self.interrupt()
        super().close()
        if self._process is not None and self._process.stdout is not None:
            self._process.wait()
            self._process.stdout.close()
        if self._complaints is not None:
            self._complaints.close()

    def _bound_complaints(self) -> None:
        """Drop what was complained of so far where it is much: pipelines run for months."""
        assert self._complaints is not None
        if os.fstat(self._complaints.fileno()).st_size > _MOST_BYTES:
            self._complaints.seek(0)  # the process writes on from there, for it shares the place
            self._complaints.truncate()

    def _reason_of_end(self) -> str:
        """Why the process ended, by its own words where it has some; "" while it runs."""
        assert self._process is not None
        complaints = self._complaints
        assert complaints is not None
        try:
            code = self._process.wait(_ENDS_S)  # it closes its pipe a moment before it ends
        except subprocess.TimeoutExpired:
            return ""
        complaints.seek(0)
        # all of them, for it may have said more than is kept since it was last looked at
        for read in iter(lambda: complaints.readline(_MOST_BYTES), b""):
            line = read.decode(errors="replace").rstrip("\n")
            for beginning in _COMPLAINTS:
                if line.startswith(beginning):
                    return f"ended: {self._hide(first_line(line.removeprefix(beginning)))}"
        return f"was killed by signal {-code}" if code < 0 else "ended"


def _arguments(pipeline: str, name: str) -> list[str]:
    """The command of a pipeline, or UsageError."""
    try:
        words = shlex.split(pipeline)
    except ValueError as error:
        raise UsageError(f"{name} has a quotation mark that is not closed") from error
    if not words:
        raise UsageError("gst: needs a pipeline, as in 'gst:videotestsrc is-live=true'")
    if shutil.which(PROGRAM) is None:
        raise UsageError(
            f"{name} needs {PROGRAM}, which is not installed: apt-get install gstreamer1.0-tools"
        )
    ending = [] if "y4menc" in words else _ENDING.split()
    return [PROGRAM, "-q", *words, *ending]


SOURCE = Gst
