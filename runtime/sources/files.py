"""Image and DICOM files, one by one or in folders."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from adae_edge.decoding.folders import Listing, left_out_words, list_folder
from adae_edge.decoding.images import decode_image, decode_shrunk
from adae_edge.decoding.instances import dataset_of
from adae_edge.decoding.kinds import Member, is_archive, is_dicom, is_dicomdir
from adae_edge.decoding.rules import DICOM, PICTURES, TIFF, rule_of
from adae_edge.decoding.workers import Answer, Workers
from adae_edge.errors import FrameError, NoPicture, SourceError, UsageError
from adae_edge.machine import available_threads
from adae_edge.runtime.frame import Event, Frame, Whole
from adae_edge.runtime.sources.ends import Ends, instance_of
from adae_edge.runtime.sources.source import Source, Wanted, failure
from adae_edge.runtime.threads import in_order

_Place = Path | Member
_log = logging.getLogger(__name__)


class Files(Source):
    """Image and DICOM files, each frame once, in order of path.

    Attributes:
        complete: by what its series are known to be complete, one of ``frame.COMPLETE``.
    """

    complete = "files"

    def __init__(self, place: str, wanted: Wanted) -> None:
        """
        Args:
            place: path of a file, or of a folder with images and DICOM files at any depth; a ZIP
                archive or a DICOMDIR with DICOM files.
            wanted: the frames that the model takes; its window is for DICOM files.

        Raises:
            UsageError: there is no such path, or other frames are wanted.
            SourceError: the folder holds no such files, or what lists them is damaged.
        """
        wanted.check_pictures(place)
        self._place, self._window, self._bits = place, wanted.window, wanted.bits
        self._jobs, self._shrinking, self._done = wanted.jobs, wanted.shrinking, wanted.done
        self._workers = Workers(wanted.jobs or available_threads())
        try:
            listing = self._find(place)
        except FrameError as error:
            raise SourceError(str(error)) from error
        self._paths: Sequence[_Place] = listing.files
        self._ends = Ends()
        self.left_out: Counter[str] = listing.left_out
        self._unreadable = listing.unreadable
        self._is_folder = [*self._paths] != [Path(place)]
        _log.info("%d files in %s", len(self._paths), place)
        if not self._paths and not self.endless:
            why = "; ".join([*self._unreadable, left_out_words(self.left_out)]).strip("; ")
            raise SourceError(
                f"there are no images and no DICOM files in {place}{f': {why}' if why else ''}"
            )

    def _find(self, place: str) -> Listing[Path] | Listing[Path | Member]:
        """The files at a place; raises UsageError where there is none."""
        path = Path(place)
        if path.is_dir():
            return list_folder(path)
        if path.is_file() and (is_archive(path) or is_dicomdir(path)):
            with Workers(1) as reader:
                return reader.list_files(path)
        if path.is_file():
            return Listing([path])
        raise UsageError(f"there is no source {place}: give a file, a folder or camera:0")

    def __iter__(self) -> Iterator[Frame | Event]:
        """Each frame of each file, or the failure of what cannot be read; then series' ends."""
        self._ends = Ends()
        for sentence in self._unreadable:
            yield failure(self._place, sentence)
        try:
            for path, frames in self._ahead():
                try:
                    if isinstance(frames, FrameError):
                        raise frames
                    yield from frames
                except FrameError as error:
                    if self._stopping:
                        return
                    if isinstance(error, NoPicture) and self._is_folder:
                        self.left_out["without a picture"] += 1
                    else:
                        yield failure(str(path), error)
            if not self._stopping:
                yield from self._ends.events(self._place, self.complete)
        finally:
            self._workers.close()

    def _ahead(self) -> Iterator[tuple[_Place, Iterable[Frame | Event] | FrameError]]:
        """What each file gives; DICOM files are asked for ahead, so that no process waits."""
        asked: deque[tuple[_Place, Iterable[Frame | Event]]] = deque()
        found = in_order(self._found, self._paths, self._jobs or 1)
        for path, frames in zip(self._paths, found, strict=True):
            while asked and not (frames is None and self._workers.has_room):
                yield asked.popleft()
            if frames is None:
                asked.append((path, self._asked(path)))
            else:
                yield path, frames
        yield from asked

    def _found(self, path: _Place) -> Iterable[Frame | Event] | FrameError | None:
        """The picture of a file, decoded now; None for a DICOM file, which a process decodes."""
        if self._done(str(path), 0):
            return []
        try:
            if isinstance(path, Member) or is_dicom(path):
                return None
            return [self._picture(path)]
        except FrameError as error:
            return error

    def _picture(self, path: Path) -> Frame:
        pixels, full = decode_shrunk(path, self._bits, self._shrinking)
        rule = TIFF if path.suffix.lower() in (".tif", ".tiff") else PICTURES
        decoding = rule_of(rule, shrunk=full is not None)
        whole = None
        if full is not None and self._shrinking is not None and self._shrinking.keep:
            whole = Whole(lambda: decode_image(path, self._bits))
        return Frame(str(path), 0, time.time(), pixels, decoding=decoding, full=full, whole=whole)

    def _asked(self, path: _Place) -> Iterator[Frame | Event]:
        """The frames of a DICOM file, for which a process is asked now."""
        return self._slices(path, self._workers.frames(path, self._window))

    def _slices(self, path: _Place, answer: Answer) -> Iterator[Frame | Event]:
        for origin, pixels in answer:
            self._ends.add(origin)
            if isinstance(pixels, FrameError):
                yield failure(str(path), pixels)
            elif not self._done(str(path), origin.id):
                instance = instance_of(origin, partial(dataset_of, path))
                now = time.time()
                yield Frame(str(path), origin.id, now, pixels, decoding=DICOM, instance=instance)

    def stop(self) -> None:
        """Ask the source to end soon, and end what decodes for it."""
        super().stop()
        self._workers.stop()

    def close(self) -> None:
        """End the processes that decode."""
        self._workers.close()


SOURCE = Files
