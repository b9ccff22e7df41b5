"""Results as JSON Lines, one object a line."""

from __future__ import annotations

import json

from adae_edge.runtime.frame import Scored
from adae_edge.runtime.sinks.rows import RowFile, row_of
from adae_edge.runtime.sinks.sink import BOXES


class JsonLines(RowFile):
    """A file of one JSON object a line."""

    wants = frozenset({BOXES})

    def write(self, scored: Scored) -> None:
        """Append one line, with ``boxes`` where the model tells them."""
        row: dict[str, object] = {**row_of(scored)}
        if scored.boxes is not None:
            row["boxes"] = [box._asdict() for box in scored.boxes]
        self.append(json.dumps(row).encode() + b"\n")


SINK = JsonLines
