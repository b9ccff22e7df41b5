"""A table of the paper, all ten classes with one seed: how long it takes, and its figures."""

from __future__ import annotations

import json
import shutil
from typing import Any

from adae_edge.benchmarks.gpu.commands import adae_edge
from adae_edge.benchmarks.gpu.results import Results, Settings


def measure(settings: Settings, results: Results) -> None:
    """Run the table of MNIST, or of scikit-learn's digits where MNIST is not there."""
    table = "mnist" if settings.mnist else "digits"
    folder = settings.work / "table"
    shutil.rmtree(folder, ignore_errors=True)
    data = [settings.mnist] if settings.mnist else []
    options = ["--seeds", "0", "--device", settings.device, "--out", str(folder)]
    if not settings.on_gpu:
        options += ["--classes", "0", "--epochs", "1"]

    def run() -> dict[str, Any]:
        printed = adae_edge("reproduce", table, *data, *options)
        figures = json.loads((folder / f"{table}.json").read_text())
        return printed | {"figures": figures}

    results.attempt(table, run)
