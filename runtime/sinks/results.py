"""What an archive is told of a DICOM series: results that are gathered until it has ended."""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from adae_edge.errors import FrameError, SinkError, WriteError
from adae_edge.extras import needs
from adae_edge.formats.files import write_atomically
from adae_edge.runtime.frame import Scored, SeriesEnd

with needs("Results as DICOM objects", "pacs"):
    from adae_edge.runtime.dicom.results.capture import capture
    from adae_edge.runtime.dicom.results.identity import written_of
    from adae_edge.runtime.dicom.results.parametric_map import MOST_BYTES, parametric_map
    from adae_edge.runtime.dicom.results.report import report
    from adae_edge.runtime.dicom.results.result import SeriesResult, Written

REPORT, CAPTURE, MAPS = "sr", "sc", "map"
_KINDS = {REPORT: report, CAPTURE: capture, MAPS: parametric_map}
_KEPT_S = 30 * 24 * 60 * 60.0  # how long a report can be named as the one that is replaced
_OLD = 100  # reports after which those are weeded out


def kinds_of(text: str) -> tuple[str, ...]:
    """The kinds of objects in "sr,sc"."""
    kinds = tuple(text.split(","))
    if len(set(kinds)) < len(kinds) or not all(kind in _KINDS for kind in kinds):
        raise ValueError(f"some of {', '.join(_KINDS)}, with commas between them")
    return kinds


@dataclass
class Gathered:
    """Results of a series that has not ended.

    Attributes:
        with_maps: whether slices keep their maps, as long as these fit into a parametric map.
        slices: all, without pixels.
        highest: the one with the highest score, with its pixels.
    """

    with_maps: bool = False
    slices: list[Scored] = field(default_factory=list)
    highest: Scored | None = None
    _bytes: int = 0

    def add(self, scored: Scored) -> None:
        """Take a result; the highest one keeps its picture and its map."""
        if self.highest is None or scored.score > self.highest.score:
            self.highest = scored
        frame = scored.frame.without_pixels()
        maps = scored.anomaly_map if self.with_maps else None
        self.slices.append(replace(scored, frame=frame, anomaly_map=maps))
        self._bytes += 0 if maps is None else maps.nbytes
        if self._bytes > MOST_BYTES:  # they would fit into no parametric map
            self.with_maps, self._bytes = False, 0
            self.slices = [replace(each, anomaly_map=None) for each in self.slices]


class Reports:
    """Makes the objects of a series, and remembers which report a later one replaces."""

    def __init__(self, kinds: Sequence[str], secret: str | None, folder: Path) -> None:
        """
        Args:
            kinds: of objects, some of "sr", "sc" and "map".
            secret: the site's, with which UIDs are keyed; None for none.
            folder: where the reports are noted, a small file for each series.
        """
        self._kinds, self._folder, self._made = kinds, folder, 0
        self._secret = None if secret is None else secret.encode()

    def of(self, gathered: Gathered, end: SeriesEnd) -> tuple[list[tuple[str, bytes]], list[str]]:
        """The objects of a series, each with its SOP instance UID, and why others are missing.

        Raises:
            SinkError: a report cannot be noted.
        """
        highest = gathered.highest
        assert highest is not None
        assert highest.contract is not None
        if len({scored.model for scored in gathered.slices}) > 1:
            return [], ["its slices were scored by two models"]
        noted = self._folder / f"{hashlib.sha256(end.uid.encode()).hexdigest()[:32]}.json"
        result = SeriesResult(
            slices=tuple(gathered.slices),
            highest=highest,
            end=end,
            contract=highest.contract,
            model=highest.file,
            replaces=_read(noted) if end.revision > 1 else None,
        )
        objects, missing = [], []
        for kind in self._kinds:
            try:
                made = _KINDS[kind](result, self._secret)
            except FrameError as error:
                missing.append(f"no {kind}: {error}")
                continue
            file = io.BytesIO()
            made.save_as(file, enforce_file_format=True)
            objects.append((str(made.SOPInstanceUID), file.getvalue()))
            if kind == REPORT:
                self._note(noted, written_of(made))
        return objects, missing

    def _note(self, path: Path, written: Written) -> None:
        """Note a report, and forget those that are too old to be replaced."""
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            write_atomically(path, json.dumps(written).encode())
            if self._made % _OLD == 0:
                for old in self._folder.glob("*.json"):
                    if old.stat().st_mtime < time.time() - _KEPT_S:
                        old.unlink()
        except (OSError, WriteError) as error:
            raise SinkError(f"cannot write {self._folder}: {error}") from error
        self._made += 1


def _read(path: Path) -> Written | None:
    """The report that was noted; None where none was."""
    try:
        return Written(*map(str, json.loads(path.read_bytes())))
    except (OSError, ValueError, TypeError):
        return None
