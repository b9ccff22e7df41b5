"""Results as comma-separated values under a header."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from adae_edge.runtime.frame import Event, Scored
from adae_edge.runtime.sinks.rows import EVENT_FIELDS, FIELDS, RowFile, event_row_of, flat, row_of
from adae_edge.runtime.sinks.sink import ANOMALOUS, BOXES, ROWS, Keeping, Kept

COLUMNS = (*FIELDS, *(name for name in EVENT_FIELDS if name not in FIELDS))
_EARLIER = b"source,frame,time,"


class Csv(RowFile):
    """A file of comma-separated values under a header; what a row lacks is empty."""

    wants, shows = frozenset({BOXES}), ANOMALOUS

    def __init__(self, place: str, keeping: Keeping = ROWS) -> None:
        """As ``RowFile``."""
        super().__init__(place, keeping, header=_line(COLUMNS))

    def write(self, scored: Scored) -> None:
        """Append one line."""
        self.append(_line([*flat(row_of(scored)), *[None] * (len(COLUMNS) - len(FIELDS))]))

    def event(self, event: Event) -> None:
        """Append one line."""
        row = event_row_of(event)
        self.append(_line(row.get(name) for name in COLUMNS))

    def read(self, row: bytes) -> Kept | None:
        """What a line says, or None for one that is damaged."""
        try:
            (cells,) = csv.reader(io.StringIO(row.decode(), newline=""), strict=True)
            said = dict(zip(COLUMNS, cells, strict=True))
            if said["event"]:
                return Kept(said["source"], event=said["event"], detail=said["detail"])
            return Kept(said["source"], said["frame"], said["model"], float(said["threshold"]))
        except (ValueError, csv.Error):
            return None

    def holds_rows(self, first: bytes) -> bool:
        """Whether it is the header."""
        return first == self.header

    def why_not(self, first: bytes) -> str:
        """Why a file with another first line is refused."""
        if first.startswith(_EARLIER) and first.endswith(b"\n"):
            return "has the columns of an earlier version"
        return super().why_not(first)

    def whole(self, row: bytes) -> bool:
        """Whether every quote is closed: a line may end within one."""
        return row.endswith(b"\n") and row.count(b'"') % 2 == 0

    def line_end(self, half: bytes) -> bytes:
        """What ends the line of half a row, which may end within a quote."""
        return b"\n" if half.count(b'"') % 2 == 0 else b'"\n'


def _line(values: Iterable[object]) -> bytes:
    text = io.StringIO()
    # A value with a carriage return is quoted only if lines end with one, too.
    csv.writer(text, lineterminator="\r\n").writerow(values)
    line = text.getvalue().removesuffix("\r\n") + "\n"
    return line.encode(errors="backslashreplace")  # a file's name need not be UTF-8, a CSV file is


SINK = Csv
