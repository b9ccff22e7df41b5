"""The slices of scans: NIfTI volumes and DICOM series."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from adae_edge.decoding.folders import Listing
from adae_edge.decoding.kinds import Member, is_archive, is_dicomdir
from adae_edge.decoding.plane_workers import PlaneWorkers
from adae_edge.decoding.scans import Scan, dicom_files, nifti_scans, series_scans
from adae_edge.decoding.series import Found
from adae_edge.decoding.workers import Workers
from adae_edge.errors import FrameError, NoPicture, SourceError, UsageError
from adae_edge.machine import available_threads
from adae_edge.runtime.frame import Event, Frame
from adae_edge.runtime.sources.ends import Ends
from adae_edge.runtime.sources.slices import scan_frames
from adae_edge.runtime.sources.source import Source, Wanted, failure


class Volumes(Source):
    """The slices of scans from the feet up, but those with hardly anything of the object.

    Attributes:
        complete: by what its series are known to be complete, one of ``frame.COMPLETE``.
    """

    complete = "files"

    def __init__(self, place: str, wanted: Wanted) -> None:
        """
        Args:
            place: path of a NIfTI volume or a DICOM file, or of a folder of them at any depth; of a
                ZIP archive or a DICOMDIR with DICOM files.
            wanted: the frames that the model takes, with the brain masks if there are any.

        Raises:
            UsageError: there are no scans, a mask is missing, or pictures are wanted.
            FrameError: a volume has several masks.
        """
        if wanted.window is not None:
            raise UsageError("--window is for pictures, and this model takes the slices of volumes")
        if wanted.kind != "modality":
            raise UsageError(f"{place} gives slices of volumes, and this model takes pictures")
        path, masks = Path(place), wanted.brain_mask
        for there in filter(None, (path, masks)):
            if not there.exists():
                raise UsageError(f"there is no {there}: give a volume, a series or a folder")
        self._place, self._wanted, self._masks = place, wanted, masks
        self._rule = wanted.object or "nonzero"
        if masks is not None and self._rule == "head":
            raise UsageError("this model looks at the whole head: leave out --brain-mask")
        self._scans = nifti_scans(path, masks, wanted.modality)
        self._workers = Workers(wanted.jobs or available_threads())
        try:
            self._dicoms = self._find(path)
        except FrameError as error:
            raise SourceError(str(error)) from error
        self.left_out: Counter[str] = self._dicoms.left_out
        if not self._scans and not self._dicoms.files:
            raise UsageError(
                f"{place} gives no NIfTI volumes and no DICOM series, and this model takes the "
                "slices of volumes alone"
            )
        if not self._scans:
            wanted.check_series(place)

    def _find(self, path: Path) -> Listing[Path] | Listing[Path | Member]:
        """The DICOM files at a place."""
        if path.is_file() and (is_archive(path) or is_dicomdir(path)):
            with Workers(1) as reader:
                return reader.list_files(path)
        return Listing(dicom_files(path))

    def __iter__(self) -> Iterator[Frame | Event]:
        """The slices of each scan, or why one cannot be read."""
        for sentence in self._dicoms.unreadable:
            yield failure(self._place, sentence)
        for scan in self._scans:
            yield from self._slices(scan)
        if self._dicoms.files:
            try:
                yield from self._series()
            finally:
                self._workers.close()

    def _series(self) -> Iterator[Frame | Event]:
        """The slices of each DICOM series, and why others are no volumes."""
        found, ends = Found(), Ends()
        reader = PlaneWorkers(self._workers)
        for scan in series_scans(self._dicoms.files, self._masks, found, reader):
            if self._stopping:
                return
            assert scan.series is not None
            origin = scan.series.planes[0].origin
            if not ends.has(origin):
                yield from ends.events(self._place, self.complete, self._rule)
            ends.add(origin, len(scan.series.planes))
            yield from self._slices(scan)
        self.left_out += found.left_out
        if self._stopping:
            return
        yield from ends.events(self._place, self.complete, self._rule)
        alone = not self._scans and not found.series
        for error in found.refused:
            if isinstance(error, NoPicture) and not alone:
                yield Event(self._place, time.time(), "note", f"{error}: it is left out")
            else:
                yield failure(self._place, error)
        if alone and not found.refused:
            yield failure(self._place, f"{self._place} gives no slices of volumes")

    def _slices(self, scan: Scan) -> Iterator[Frame | Event]:
        """The frames of one scan; nothing more of it once the source is stopped."""
        for item in scan_frames(scan, self._wanted):
            if self._stopping and isinstance(item, Event):
                return
            yield item

    def stop(self) -> None:
        """Ask the source to end soon, and end what decodes for it."""
        super().stop()
        self._workers.stop()

    def close(self) -> None:
        """End the processes that decode."""
        self._workers.close()


SOURCE = Volumes
