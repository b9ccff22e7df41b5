"""Results as comma-separated values under a header."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from adae_edge.runtime.frame import Scored
from adae_edge.runtime.sinks.rows import FIELDS, RowFile, row_of


class Csv(RowFile):
    """A file of comma-separated values under a header."""

    def __init__(self, place: str) -> None:
        super().__init__(place, header=_line(FIELDS))

    def write(self, scored: Scored) -> None:
        """Append one line."""
        self.append(_line(row_of(scored).values()))


def _line(values: Iterable[object]) -> bytes:
    text = io.StringIO()
    # A value with a carriage return is quoted only if lines end with one, too.
    csv.writer(text, lineterminator="\r\n").writerow(values)
    line = text.getvalue().removesuffix("\r\n") + "\n"
    return line.encode(errors="backslashreplace")  # a file's name need not be UTF-8, a CSV file is


SINK = Csv
