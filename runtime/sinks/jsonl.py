"""Results as JSON Lines, one object a line."""

from __future__ import annotations

import json

from adae_edge.runtime.frame import Event, Scored
from adae_edge.runtime.sinks.rows import RowFile, event_row_of, row_of
from adae_edge.runtime.sinks.sink import ANOMALOUS, BOXES, Kept

# What rows of every version have, so that a file of an older one can go on.
_ALWAYS = frozenset({"source", "frame", "time", "score", "threshold", "verdict"})
_ALWAYS_OF_EVENTS = frozenset({"event", "source", "time", "detail"})
_BEGINNINGS = (b'{"source": ', b'{"event": ')


class JsonLines(RowFile):
    """A file of one JSON object a line."""

    wants, shows = frozenset({BOXES}), ANOMALOUS

    def write(self, scored: Scored) -> None:
        """Append one line."""
        self.append(json.dumps(row_of(scored)).encode() + b"\n")

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


SINK = JsonLines
