"""A table of the paper, all ten classes with one seed: how long it takes, and its figures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from adae_edge.benchmarks.gpu.commands import adae_edge
from adae_edge.benchmarks.gpu.results import Results, Settings


def measure(settings: Settings, results: Results) -> None:
    """Run the table of MNIST, or a cell of scikit-learn's digits where that would take hours."""
    folder = settings.work / "table"
    shutil.rmtree(folder, ignore_errors=True)
    options = ["--seeds", "0", "--device", settings.device, "--out", str(folder)]
    if settings.mnist is None:
        results.skip("mnist", "there is no MNIST")
    elif settings.on_gpu:
        results.attempt("mnist", _table, folder, "mnist", str(settings.mnist), *options)
    else:
        results.skip("mnist", "it would take hours")
    if not settings.on_gpu:
        options += ["--classes", "0", "--epochs", "1"]
        results.attempt("digits", _table, folder, "digits", *options)


def _table(folder: Path, table: str, *arguments: str) -> dict[str, Any]:
    printed = adae_edge("reproduce", table, *arguments)
    return printed | {"figures": json.loads((folder / f"{table}.json").read_text())}
