"""Results as JSON Lines, one object a line."""

from __future__ import annotations

import json

from adae_edge.runtime.frame import Scored
from adae_edge.runtime.sinks.rows import RowFile, row_of


class JsonLines(RowFile):
    """A file of one JSON object a line."""

    def write(self, scored: Scored) -> None:
        """Append one line."""
        self.append(json.dumps(row_of(scored)).encode() + b"\n")


SINK = JsonLines
