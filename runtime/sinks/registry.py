"""Opens a sink by its name on the command line."""

from __future__ import annotations

from pathlib import Path

from adae_edge.errors import UsageError
from adae_edge.runtime.sinks.rows import Csv, JsonLines
from adae_edge.runtime.sinks.sink import Sink
from adae_edge.runtime.sinks.terminal import Terminal


def open_sink(spec: str) -> Sink:
    """Open a sink by its name on the command line: "terminal", "jsonl:FILE", "csv:FILE", or a file with such a suffix.

    Raises:
        UsageError: of no known kind, or in a folder that does not exist.
        SinkError: the file cannot be written, or is a CSV file of something else.
    """
    if spec == "terminal":
        return Terminal()
    kind, _, name = spec.partition(":")
    if kind not in ("jsonl", "csv"):
        kind, name = Path(spec).suffix.lower().removeprefix("."), spec
    if kind == "jsonl" and name:
        return JsonLines(Path(name))
    if kind == "csv" and name:
        return Csv(Path(name))
    raise UsageError(f"there is no sink {spec}: give terminal, jsonl:FILE or csv:FILE")
