"""One section in this process: python -m adae_edge.benchmarks.gpu.section NAME SETTINGS FILE."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from adae_edge.benchmarks.gpu.results import Results, Settings


def main() -> None:
    """Measure a section, and leave its results in the file."""
    name, settings, path = sys.argv[1:]
    section = importlib.import_module(f"adae_edge.benchmarks.gpu.sections.{name}")
    section.measure(Settings.from_json(settings), Results(Path(path)))


if __name__ == "__main__":
    main()
