"""Results as JSON Lines, one object a line."""

from __future__ import annotations

import json
import warnings

from adae_edge.runtime.frame import Event, Frame, Scored
from adae_edge.runtime.sinks.rows import RowFile, event_row_of, row_of
from adae_edge.runtime.sinks.sink import ANOMALOUS, BOXES, Kept

# What rows of every version have, so that a file of an older one can go on.
_ALWAYS = frozenset({"source", "frame", "time", "score", "threshold", "verdict"})
_ALWAYS_OF_EVENTS = frozenset({"event", "source", "time", "detail"})
_BEGINNINGS = (b'{"source": ', b'{"event": ')


class JsonLines(RowFile):
    """A file of one JSON object a line."""

    wants, shows = frozenset({BOXES}), ANOMALOUS

    _series = ""  # whose patient is known
    _patient: dict[str, str] | None = None

    def write(self, scored: Scored) -> None:
        """Append one line."""
        row = row_of(scored)
        if self._keeping.with_patient:
            row["patient"] = self._patient_of(scored.frame)
        self.append(json.dumps(row).encode() + b"\n")

    def event(self, event: Event) -> None:
        """Append one line, whose first field is the event's kind."""
        self.append(json.dumps(event_row_of(event)).encode() + b"\n")

    def read(self, row: bytes) -> Kept | None:
        """What a line says, or None for one that is damaged."""
        try:
            said = json.loads(row)
            if "event" in said:
                return Kept(said["source"], event=said["event"], detail=said["detail"])
            model = said.get("model") or ""
            return Kept(said["source"], said["frame"], model, float(said["threshold"]))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    def holds_rows(self, first: bytes) -> bool:
        """Whether it is a row of any version, or the only row and cut short."""
        if not first.endswith(b"\n"):
            return first.startswith(_BEGINNINGS)
        try:
            row = json.loads(first)
        except (ValueError, RecursionError):
            return False
        if not isinstance(row, dict):
            return False
        return row.keys() >= _ALWAYS or row.keys() >= _ALWAYS_OF_EVENTS

    def _patient_of(self, frame: Frame) -> dict[str, str] | None:
        """Whom a DICOM slice shows, read once for each series; None where that cannot be told."""
        if frame.instance is None:
            return None
        if frame.instance.series != self._series:
            about = {"name": "PatientName", "id": "PatientID"}
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # pydicom's quote values
                    header = frame.instance.dataset()
                    said = {key: str(header.get(name) or "") for key, name in about.items()}
            except Exception:  # the file has gone, or a value is damaged: the row is kept
                return None
            self._series, self._patient = frame.instance.series, said
        return self._patient


SINK = JsonLines
