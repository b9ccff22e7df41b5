"""Results on the terminal, a line each."""

from __future__ import annotations

import os
import sys

import typer

from adae_edge.errors import SinkError, printable
from adae_edge.runtime.sinks.sink import Result


class Terminal:
    """One line a result on the standard output."""

    def write(self, result: Result) -> None:
        """Print one line, the anomalous ones in red where the terminal has colours."""
        verdict = (
            typer.style(result.verdict, fg="red", bold=True)
            if result.verdict == "anomalous"
            else result.verdict
        )
        place = f"{result.source} {result.frame}" if result.frame != 0 else result.source
        line = f"{result.score:9.4f}  {verdict}  {printable(place)}"
        try:
            try:
                typer.echo(line)
            except UnicodeEncodeError:  # letters that the terminal lacks
                typer.echo(line.encode("ascii", "backslashreplace").decode())
        except (
            BrokenPipeError
        ):  # the reader has enough, as in "| head": the end, and nothing to complain of
            raise
        except OSError as error:
            os.dup2(
                os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
            )  # what is left must not fail again at exit
            raise SinkError(f"cannot write the standard output: {error.strerror}") from None

    def close(self) -> None:
        """Nothing is held back."""
