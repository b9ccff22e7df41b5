"""Processes that decode DICOM files, lent to threads: each thread has one for itself meanwhile."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from adae_edge.decoding.plane_workers import PlaneWorkers
from adae_edge.decoding.planes import File, Plane
from adae_edge.decoding.workers import Workers
from adae_edge.errors import FrameError
from adae_edge.machine import available_threads


class Lender:
    """As many processes as CPUs at the most; they end when nobody has the lender any more."""

    def __init__(self) -> None:
        self._idle: list[Workers] = []
        self._left = threading.BoundedSemaphore(available_threads())
        weakref.finalize(self, _close, self._idle)

    @contextlib.contextmanager
    def lend(self) -> Iterator[Workers]:
        """Lend a process, whose answers are read to their end; waits until one is free."""
        with self._left:
            worker = self._idle.pop() if self._idle else Workers(1)
            try:
                yield worker
            except FrameError:
                self._idle.append(worker)
                raise
            except BaseException:  # it may still be answering
                worker.close()
                raise
            self._idle.append(worker)

    def planes(self, files: Iterable[File]) -> Iterator[list[Plane] | FrameError]:
        """What the frames of each file say of themselves, or why it has none, in order."""
        with Workers(available_threads()) as workers:
            yield from PlaneWorkers(workers).planes(files)

    def values(self, wanted: Iterable[tuple[File, list[Plane]]]) -> Iterator[NDArray[Any]]:
        """The values of frames of files in order; for any thread."""
        with self.lend() as worker:
            yield from PlaneWorkers(worker).values(wanted)

    def segments(
        self, path: Path, numbers: list[int] | None = None
    ) -> Iterator[tuple[Any, NDArray[Any] | None]]:
        """The frames of a segmentation, as ``segments_of`` gives them; for any thread."""
        with self.lend() as worker:
            yield from worker.segments(path, numbers)


def _close(idle: list[Workers]) -> None:
    for worker in idle:
        worker.close()
