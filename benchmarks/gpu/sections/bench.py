"""The project's own commands: ``adae-edge doctor``, and ``adae-edge bench`` on the device."""

from __future__ import annotations

import json
from typing import Any

from adae_edge.benchmarks.gpu.commands import adae_edge
from adae_edge.benchmarks.gpu.results import Results, Settings

MODEL = "a1-any"
LEAST_S = 0.1  # bench takes no less


def measure(settings: Settings, results: Results) -> None:
    """Run the commands, and keep what they print and write."""
    results.attempt("doctor", adae_edge, "doctor")
    results.attempt("bench", _bench, settings)


def _bench(settings: Settings) -> dict[str, Any]:
    figures = settings.work / "bench.json"
    model = settings.models / f"{MODEL}.onnx"
    seconds = max(settings.seconds, LEAST_S)
    options = ["--device", settings.device, "--batch", "1,64", "--seconds", str(seconds)]
    printed = adae_edge("bench", model, *options, "--json", figures)
    return printed | {"figures": json.loads(figures.read_text())}
