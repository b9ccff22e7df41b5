"""Processes that decode DICOM files, each within limits: one that dies or hangs costs one file.

Decoders in C have crashed on a few changed bytes, and would take the whole program with them. What
a process may take, and how long a frame may, is in ``worker.py``, which runs there.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from adae_edge.contract import Window
from adae_edge.decoding.dicom_header import Header
from adae_edge.decoding.folders import Listing
from adae_edge.decoding.instances import Origin
from adae_edge.decoding.kinds import Member
from adae_edge.decoding.stored import Stored
from adae_edge.decoding.worker import FRAME_S, MEMORY_MB, OUT_OF_MEMORY, WAITING_S
from adae_edge.errors import AdaeEdgeError, DeviceError, FrameError, MissingExtra, NoPicture

if TYPE_CHECKING:
    from typing import Self

# The path is this process's: with the working directory in it, a CD could bring modules of its own.
_CODE = (
    "import sys; sys.path[:] = sys.argv[1:]\nfrom adae_edge.decoding import worker; worker.main()"
)
_ASKED = 2  # what a process has to do: one request that it works on, and the next
# Where all processes are there, each has this many, so that none waits while this one is busy; they
# are short, so that the pipe holds them and one more of any length.
_ASKED_BY_ALL, _SHORT = 8, 2**12
_LONGEST_LINE = 2**20
_ENDING_S = 5.0
_MOST_VALUES = 2**28  # of an array
_PIPE_BYTES = 2**20
_DTYPES = frozenset({"uint8", "int8", "uint16", "int16", "float32"})
_SLOW = {
    "SIGPROF": f"a frame takes more than {FRAME_S:g} s of the processor",
    "SIGALRM": f"a frame does not come within {WAITING_S:g} s",
}

_Item = TypeVar("_Item")
Answer: TypeAlias = Iterator[tuple[Origin, NDArray[np.uint8] | FrameError]]


class Workers:
    """A few processes, which are started when there is work, and end with the context.

    Requests are answered in the order in which they were asked, and their answers are read so.
    """

    def __init__(self, jobs: int) -> None:
        """
        Args:
            jobs: how many processes work at once, at the most. The next one is started when those
                that are there have enough to do.
        """
        self._jobs = jobs
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def has_room(self) -> bool:
        """Whether a request would be worked on soon, so that it is worth asking it ahead."""
        return self._free() is not None

    def frames(self, place: Path | Member, window: Window | None = None) -> Answer:
        """Ask for the frames of a DICOM file, as ``decode_dicom`` gives them, and their origins.

        Raises, when the first frame is taken:
            As ``decode_dicom`` and ``open_member``.
            DeviceError: the system gives no more processes.
        """
        answer = self._ask(str(place), {"task": "frames", **_where(place), "window": window})
        return ((Origin(*about), found) for about, found in answer)

    def planes(self, place: Path | Member) -> Iterator[Any]:
        """Ask for what the frames of a DICOM file say of themselves, as ``planes_of`` gives it."""
        return self._ask(str(place), {"task": "planes", **_where(place)})

    def values(
        self, place: Path | Member, numbers: list[int], stored: Stored | None = None
    ) -> Iterator[Any]:
        """Ask for the values of frames of a DICOM file, as ``values_of`` gives them."""
        request = {"task": "values", **_where(place), "numbers": numbers, "stored": stored}
        return self._ask(str(place), request)

    def segments(self, path: Path, numbers: list[int] | None = None) -> Iterator[Any]:
        """Ask for frames of a DICOM segmentation, as ``segments_of`` gives them."""
        return self._ask(str(path), {"task": "segments", "place": str(path), "numbers": numbers})

    def header(self, path: Path) -> Header:
        """What a DICOM file says of its frames, as ``read_header`` gives it."""
        [(fields, _)] = self._ask(str(path), {"task": "header", "place": str(path)})
        axes = [np.array(axes) for axes in fields["orientations"]]
        return Header(**fields | {"size": tuple(fields["size"]), "orientations": axes})

    def picture(self, path: Path, number: int, window: Window | None = None) -> NDArray[np.uint8]:
        """One frame of a DICOM file by its number from 0, as ``decode_one`` gives it."""
        request = {"task": "picture", "place": str(path), "number": number, "window": window}
        [(_, picture)] = self._ask(str(path), request)
        return np.asarray(picture)

    def ahead(
        self, items: Iterable[_Item], ask: Callable[[_Item], Iterator[Any]]
    ) -> Iterator[tuple[_Item, Iterator[Any]]]:
        """Ask for each item, some before the answers of those before them are read.

        What is left of the answers is read at the end, so that the processes can go on.
        """
        asked: deque[tuple[_Item, Iterator[Any]]] = deque()
        try:
            for item in items:
                while asked and not self.has_room:
                    yield asked[0]
                    asked.popleft()
                asked.append((item, ask(item)))
            while asked:
                yield asked[0]
                asked.popleft()
        finally:
            for _, answer in asked:
                with contextlib.suppress(FrameError):
                    deque(answer, maxlen=0)

    def list_files(self, path: Path) -> Listing[Path | Member]:
        """The files that a ZIP archive holds, or a DICOMDIR names.

        Raises:
            As ``list_archive`` and ``list_dicomdir``, and DeviceError as ``frames``.
        """
        listing: Listing[Path | Member] = Listing()
        for (kind, what), _ in self._ask(str(path), {"task": "files", "place": str(path)}):
            if kind == "file":
                listing.files.append(Path(what))
            elif kind == "member":
                listing.files.append(Member(path, what))
            elif kind == "unreadable":
                listing.unreadable.append(what)
            else:
                listing.left_out[what] += 1
        return listing

    def _ask(self, name: str, request: dict[str, Any]) -> Iterator[Any]:
        """Have a process work on a request, and give its answer."""
        if not self._workers and find_spec("pydicom") is None:
            raise MissingExtra("Reading DICOM files", "dicom")
        worker = self._free() or min(self._workers, key=lambda worker: len(worker.asked))
        worker.ask(request)
        return worker.answer(name)

    def _free(self) -> _Worker | None:
        """A process that has room for a request; where all are busy, one more is started."""
        started = [worker for worker in self._workers if worker.is_ready()]
        able = started or self._workers[:1]
        least = min(able, key=lambda worker: len(worker.asked), default=None)
        if least is not None and len(least.asked) < _ASKED:
            return least
        most = min(self._jobs, 2 * max(len(started), 1))  # they take long to start
        if len(self._workers) < most:
            self._workers.append(_Worker())
        if least is None:
            return self._workers[0]
        return least if len(started) == self._jobs and least.has_room else None

    def stop(self) -> None:
        """End the processes at once; what was asked fails. For threads and signal handlers."""
        for worker in self._workers:
            worker.stop()

    def close(self) -> None:
        """End the processes, and wait until they are gone; a second call does nothing."""
        self.stop()
        for worker in self._workers:
            worker.end()
        self._workers.clear()


def _where(place: Path | Member) -> dict[str, str | None]:
    archive, member = place if isinstance(place, Member) else (place, None)
    return {"place": str(archive), "member": member}


class _DiedError(Exception):
    """A process ended before it had answered, by an exit code; ``slow`` if it worked too long."""

    def __init__(self, code: int) -> None:
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        self.slow = how == "SIGPROF"
        reason = _SLOW.get(how, f"its decoder crashed ({how})")
        if code == OUT_OF_MEMORY:
            reason = f"it takes more than {MEMORY_MB} MB of memory"
        super().__init__(reason)


class _Worker:
    """One process, and in its place another one if it dies.

    Attributes:
        asked: what it has not answered, in order.
    """

    def __init__(self) -> None:
        self.asked: deque[bytes] = deque()
        self._stopped = False
        self._start()

    def _start(self) -> None:
        """Start a process, and ask it for all that is not answered."""
        self._ready = self._served = False
        try:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-c", _CODE, *sys.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
        except OSError as error:
            raise DeviceError(f"no process can be started: {error.strerror}") from error
        _widen(self._process.stdout)
        for request in self.asked:
            self._write(request)

    def _write(self, request: bytes) -> None:
        """Give the process a request; whether it has died is found where it is to answer."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError, ValueError):  # or it is closed
            self._process.stdin.write(request)
            self._process.stdin.flush()

    def is_ready(self) -> bool:
        """Whether the process has started; does not wait for it."""
        if not (self._ready or self._stopped):
            poll = select.poll()
            poll.register(self._process.stdout, select.POLLIN)  # type: ignore[arg-type]
            if poll.poll(0):
                with contextlib.suppress(_DiedError):  # stopped meanwhile
                    self._await_start()
        return self._ready

    @property
    def has_room(self) -> bool:
        """Whether it may be given more than it needs at once."""
        return len(self.asked) < _ASKED_BY_ALL and sum(map(len, self.asked)) < _SHORT

    def ask(self, request: dict[str, Any]) -> None:
        """Give the process one more request."""
        text = json.dumps(request, ensure_ascii=False) + "\n"
        self.asked.append(text.encode(errors="surrogateescape"))
        self._write(self.asked[-1])

    def answer(self, name: str) -> Iterator[tuple[Any, Any]]:
        """The items of the first request that is not answered.

        If the process dies over it and had served others, these may have damaged it. The request
        gets another process then, unless something was given already. So it does if the process
        waited too long: a lock may have been left closed, or the machine stood still.
        """
        given = False
        while True:
            try:
                if not self._ready:
                    self._await_start()
                header = self._header()
                found = self._found(header)
            except _DiedError as death:
                if self._served and not given and not (self._stopped or death.slow):
                    self._restart()
                    continue
                self.asked.popleft()
                self._restart()
                raise FrameError(f"{name} cannot be decoded: {death}") from death
            if "about" not in header:
                self.asked.popleft()
                self._served = True
                if "raised" in header:
                    raise _error(header)
                return
            given = True
            yield header["about"], found

    def _await_start(self) -> None:
        """Wait until the process has started."""
        try:
            header = self._header()
        except _DiedError as death:
            if self._stopped:
                raise
            raise DeviceError(f"the process that decodes DICOM does not start: {death}") from death
        if "raised" in header:
            raise _error(header)
        self._ready = True

    def _header(self) -> dict[str, Any]:
        """The next line of the process, which announces what follows it."""
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError):  # nothing, or something else than JSON
            header = json.loads(self._process.stdout.readline(_LONGEST_LINE))
            if isinstance(header, dict):
                return header
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_ENDING_S)  # it says why, if it is ending
        raise _DiedError(self.end())

    def _found(self, header: dict[str, Any]) -> NDArray[Any] | FrameError | None:
        """What a line announces: an array behind it, why there is none, or nothing."""
        if "failure" in header:
            return FrameError(header["failure"])
        if "shape" not in header:
            return None
        shape, dtype = header["shape"], header["dtype"]
        if dtype in _DTYPES and math.prod(shape) <= _MOST_VALUES:
            assert self._process.stdout is not None
            array = np.empty(shape, dtype)
            if self._process.stdout.readinto(array.data.cast("B")) == array.nbytes:  # type: ignore[attr-defined]
                return array
        raise _DiedError(self.end())

    def _restart(self) -> None:
        if not self._stopped:
            self._start()

    def stop(self) -> None:
        """End the process soon, and start no other one."""
        self._stopped = True
        self._process.kill()

    def end(self) -> int:
        """End the process; its exit code, which is its own if it had ended already."""
        self._process.kill()
        code = self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        return code


def _widen(pipe: IO[bytes] | None) -> None:
    """Let a pipe hold a frame, so that the process can write it at once and go on."""
    import fcntl  # not there on Windows

    assert pipe is not None
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # the system's limit is lower
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _error(header: dict[str, Any]) -> AdaeEdgeError:
    """The error of which a process told."""
    kinds = {"FrameError": FrameError, "NoPicture": NoPicture}
    if header["raised"] == "MissingExtra":
        return MissingExtra("Reading DICOM files", "dicom")
    return kinds.get(header["raised"], AdaeEdgeError)(header["words"])
