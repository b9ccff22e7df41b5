"""Results on the terminal, a line each."""

from __future__ import annotations

import os
import sys

import typer

from adae_edge.errors import SinkError, printable
from adae_edge.runtime.frame import Scored
from adae_edge.runtime.sinks.sink import BOXES, ROWS, Keeping, Sink

_BOXES_SHOWN = 3


class Terminal(Sink):
    """One line a result on the standard output."""

    wants = frozenset({BOXES})

    def __init__(self, place: str = "terminal", keeping: Keeping = ROWS) -> None:
        """
        Args:
            place: the sink's name, which says nothing more.
            keeping: nothing is kept here.
        """

    def write(self, scored: Scored) -> None:
        """Print one line, the anomalous ones in red where the terminal has colours."""
        verdict = scored.verdict
        if verdict == "anomalous":
            verdict = typer.style(verdict, fg="red", bold=True)
        line = f"{scored.score:9.4f}  {verdict}  {printable(scored.frame.place)}{_where(scored)}"
        try:
            try:
                typer.echo(line)
            except UnicodeEncodeError:  # letters that the terminal lacks
                typer.echo(line.encode("ascii", "backslashreplace").decode())
        except BrokenPipeError:  # the reader has enough, as in "| head": nothing to complain of
            raise
        except OSError as error:
            # What is left must not fail again when Python flushes it at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SinkError(f"cannot write the standard output: {error.strerror}") from error


def _where(scored: Scored) -> str:
    """The first boxes, and how many more there are."""
    if not scored.boxes:
        return ""
    shown = "; ".join(map(str, scored.boxes[:_BOXES_SHOWN]))
    more = len(scored.boxes) - _BOXES_SHOWN
    return f"  at {shown}" + (f" and {more} more" if more > 0 else "")


SINK = Terminal
