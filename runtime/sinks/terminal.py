"""Results on the standard output: a line each, and on a terminal a table after the first ones."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

import typer
from rich.console import Console

from adae_edge.errors import SinkError, printable
from adae_edge.runtime.frame import Scored
from adae_edge.runtime.sinks.sink import ANOMALOUS, BOXES, ROWS, Keeping, Place, Sink
from adae_edge.runtime.sinks.table import LiveTable

_BOXES_SHOWN = 3
_LINES = 20  # on a terminal, before the table


class Terminal(Sink):
    """One line a result on the standard output.

    On a terminal these are the first 20, and then a table takes their place.
    """

    wants, shows = frozenset({BOXES}), ANOMALOUS
    keeps_rows = False

    def __init__(self, place: str = "terminal", keeping: Keeping = ROWS) -> None:
        """
        Args:
            place: the sink's name, which says nothing more.
            keeping: nothing is kept here.
        """
        console = Console()
        following = console.is_terminal and sys.stdout.isatty() and not console.is_dumb_terminal
        self._table = LiveTable(console) if following else None
        self._lines = 0

    @classmethod
    def where(cls, place: str) -> Place:
        """The one place that it has."""
        return Place(place)

    def write(self, scored: Scored) -> None:
        """Print one line, the anomalous ones in red where the terminal has colours, or count it."""
        where = f"{printable(scored.frame.place)}{_where(scored)}"
        with _writing():
            self._lines += 1
            if self._table is None or self._lines <= _LINES:
                _print(f"{scored.score:9.4f}  {_in_colour(scored.verdict)}  {where}")
            elif self._lines == _LINES + 1:
                self._table.start()
            if self._table is not None:
                self._table.take(scored, f"{scored.score:9.4f}  {where}", self._lines > _LINES)

    def flush(self) -> None:
        """Draw the table anew: rates fall where no frames come."""
        if self._table is not None and self._lines > _LINES:
            with _writing():
                self._table.draw()

    def close(self) -> None:
        """Leave the table as it is at the end; a second call does nothing."""
        table, self._table = self._table, None
        if table is not None and self._lines > _LINES:
            with _writing():
                table.stop()


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    """Write on the standard output within; where it is gone, what is left goes nowhere.

    Raises:
        SinkError: it cannot be written.
        BrokenPipeError: the reader has enough, as in "| head".
    """
    try:
        yield
    except OSError as error:
        # What is left must not fail again when Python flushes it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise SinkError(f"cannot write the standard output: {error.strerror}") from error


def _print(line: str) -> None:
    try:
        typer.echo(line)
    except UnicodeEncodeError:  # letters that the terminal lacks
        typer.echo(line.encode("ascii", "backslashreplace").decode())


def _in_colour(verdict: str) -> str:
    if verdict == "uncalibrated":
        return typer.style(verdict, fg="yellow")
    return typer.style(verdict, fg="red", bold=True) if verdict == "anomalous" else verdict


def _where(scored: Scored) -> str:
    """The first boxes, and how many more there are."""
    boxes = scored.boxes_in_slice
    if not boxes or scored.verdict != "anomalous":
        return ""
    shown = "; ".join(map(str, boxes[:_BOXES_SHOWN]))
    more = len(boxes) - _BOXES_SHOWN
    return f"  at {shown}" + (f" and {more} more" if more > 0 else "")


SINK = Terminal
