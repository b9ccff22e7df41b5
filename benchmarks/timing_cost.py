"""What the loop of ``adae-edge bench`` costs: ``Scorer.score`` timed by it, and timed bare.

python -m adae_edge.benchmarks.timing_cost MODEL [--rounds 41] [--json FILE]

Both make equally many calls with the same frames, in turns. Bare, the clock is read before the
first call and after the last one. The bench's loop reads it around each, and keeps every time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from adae_edge.benchmarks.load import Rotation, closed, warm_up
from adae_edge.benchmarks.record import record
from adae_edge.formats.files import write_json
from adae_edge.runtime import Scorer

MOST = 1.01
BATCHES = (1, 64)
BLOCK_S = 0.2


def main(
    model: Annotated[Path, typer.Argument(help="A model file.")],
    rounds: Annotated[int, typer.Option(min=1, help="Of each batch.")] = 41,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Print the time of a call in the bench's loop over that of a bare call."""
    rows = []
    with Scorer(model) as scorer:
        side = scorer.contract.side
        for batch in BATCHES:
            frames = Rotation(scorer.contract, (side, side), batch)
            call = partial(_score, scorer, frames)
            rows.append({"batch": batch} | measure(call, rounds))
            typer.echo("batch {batch}: {ratio:.4f} times, {goal}".format(**rows[-1]))
    if json_file is not None:
        write_json(json_file, record(rounds=rounds, rows=rows))


def _score(scorer: Scorer, frames: Rotation) -> None:
    scorer.score(*frames.turn())


def measure(call: Callable[[], object], rounds: int) -> dict[str, Any]:
    """Blocks of calls in turns, every second round backwards; JSON types."""
    warm_up(call)
    calls = max(3, round(BLOCK_S / (bare_s(call, 3) / 3)))
    ways = (bare_s, looped_s)
    times = np.empty((2, rounds))
    for turn in range(rounds):
        for way in (0, 1) if turn % 2 else (1, 0):
            times[way, turn] = ways[way](call, calls) / calls
    bare, looped = np.median(times, axis=1) * 1e3
    low, ratio, high = np.percentile(times[1] / times[0], (25, 50, 75))
    return {
        "calls": calls,
        "bare_ms": round(float(bare), 5),
        "looped_ms": round(float(looped), 5),
        "ratio": round(float(ratio), 4),
        "quartile_1": round(float(low), 4),
        "quartile_3": round(float(high), 4),
        "goal": f"at most {MOST:g}",
        "met": bool(ratio <= MOST),
    }


def bare_s(call: Callable[[], object], calls: int) -> float:
    """Seconds of so many calls, with nothing between them."""
    began = time.perf_counter()
    for _ in range(calls):
        call()
    return time.perf_counter() - began


def looped_s(call: Callable[[], object], calls: int) -> float:
    """Seconds of so many calls in the bench's own loop."""
    began = time.perf_counter()
    closed(call, 0.0, least=calls)
    return time.perf_counter() - began


if __name__ == "__main__":
    typer.run(main)
