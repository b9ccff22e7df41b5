"""What the device pays beside the scores: start-up times and memory, each in a fresh process.

python -m adae_edge.benchmarks.footprint MODEL [--json FILE]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from adae_edge.benchmarks.record import record
from adae_edge.formats.files import write_json

REPEATS = 11
FRAMES = 2000

_LOAD = """
import sys, time
started = time.perf_counter()
from adae_edge.runtime import Scorer
Scorer(sys.argv[1])
print(time.perf_counter() - started)
"""
_SCORE = """
import sys
import numpy as np
from adae_edge.benchmarks.record import peak_memory_mb
from adae_edge.runtime import Scorer
scorer = Scorer(sys.argv[1])
random = np.random.default_rng(0)
for _ in range(int(sys.argv[2])):
    scorer.score(random.integers(0, 256, (1, 480, 640, scorer.contract.channels), np.uint8))
print(peak_memory_mb())
"""


def main(model: Path, json_file: Annotated[Path | None, typer.Option("--json")] = None) -> None:
    """Print medians of start-up times, and the peak memory of scoring 640x480 frames one by one."""
    help_s = statistics.median(_seconds(["-m", "adae_edge", "--help"]) for _ in range(REPEATS))
    load_s = statistics.median(float(_output(["-c", _LOAD, str(model)])) for _ in range(REPEATS))
    memory_mb = float(_output(["-c", _SCORE, str(model), str(FRAMES)]))
    typer.echo(f"adae-edge --help: {help_s:.3f} s, the whole process, median of {REPEATS}")
    typer.echo(
        f"import the runtime and load the model: {load_s:.3f} s, median of {REPEATS} fresh "
        "processes"
    )
    typer.echo(
        f"score {FRAMES} frames of 640x480 one by one: {memory_mb:.0f} MB resident at the peak"
    )
    if json_file is not None:
        figures = {
            "help_s": round(help_s, 4),
            "load_s": round(load_s, 4),
            "memory_mb": round(memory_mb, 1),
        }
        write_json(json_file, record(**figures))


def _seconds(arguments: list[str]) -> float:
    """How long a fresh Python takes with these arguments."""
    started = time.perf_counter()
    _output(arguments)
    return time.perf_counter() - started


def _output(arguments: list[str]) -> str:
    """What a fresh Python prints with these arguments."""
    return subprocess.run(  # noqa: S603
        [sys.executable, *arguments], check=True, capture_output=True, text=True
    ).stdout


if __name__ == "__main__":
    typer.run(main)
