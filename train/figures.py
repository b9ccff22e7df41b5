"""Pictures of a table (Figures 2, 3 and 4 of the paper)."""

from __future__ import annotations

from typing import Any

from adae_edge.train.cell import Cell


def write_figures(request: Any, finished: dict[Cell, dict[str, Any]]) -> None:
    """Nothing yet."""
