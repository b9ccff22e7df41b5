"""Slices of series, read by the processes that decode DICOM files for this one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from adae_edge.decoding.planes import File, Plane, from_json
from adae_edge.decoding.workers import Workers
from adae_edge.errors import FrameError


class PlaneWorkers:
    """Reads as ``planes_of``, ``values_of`` and ``segments_of`` do, in other processes."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def planes(self, files: Iterable[File]) -> Iterator[list[Plane] | FrameError]:
        """What the frames of each file say of themselves, or why it has none."""
        for file, answer in self._workers.ahead(files, self._workers.planes):
            try:
                yield [from_json(file, fields) for fields, _ in answer]
            except FrameError as error:
                yield error

    def segments(
        self, path: Path, numbers: list[int] | None = None
    ) -> Iterator[tuple[Any, NDArray[Any] | None]]:
        """What the frames of a segmentation say of themselves, or the masks of some of them."""
        return self._workers.segments(path, numbers)

    def values(self, wanted: Iterable[tuple[File, list[Plane]]]) -> Iterator[NDArray[Any]]:
        """The values of frames of files in order.

        Raises:
            FrameError: a frame cannot be decoded.
        """

        def ask(one: tuple[File, list[Plane]]) -> Iterator[Any]:
            file, planes = one
            return self._workers.values(file, [plane.number for plane in planes], planes[0].stored)

        for _, answer in self._workers.ahead(wanted, ask):
            for _, values in answer:
                yield values
