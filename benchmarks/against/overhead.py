"""What ``Scorer.score`` costs over the bare ONNX Runtime session that it wraps, in one run.

python -m adae_edge.benchmarks.against.overhead MODEL [--size 640x480] [--json FILE]
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime
import typer

from adae_edge.batch import Batch
from adae_edge.benchmarks.bench import random_frames
from adae_edge.benchmarks.record import record
from adae_edge.decoding.images import frame_size
from adae_edge.formats.files import write_json
from adae_edge.interface import INPUTS
from adae_edge.runtime import Scorer
from adae_edge.runtime.backends.onnxruntime import OnnxRuntime

ROUNDS = 1000
WARM_UP = 5  # rounds


def main(
    model: Path,
    size: Annotated[list[str] | None, typer.Option(help="WIDTHxHEIGHT; may be repeated.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Print the ratio of the medians, Scorer to bare session, at batch 1 and 64."""
    scorer = Scorer(model)
    if not isinstance(scorer.backend, OnnxRuntime):
        raise typer.BadParameter("an engine has no session of ONNX Runtime to compare with")
    # The same session, because two of them in turn would measure how their spinning threads get in
    # each other's way.
    bare = scorer.backend.session
    side = scorer.contract.side
    rows = []
    for width, height in [frame_size(text) for text in size or [f"{side}x{side}", "640x480"]]:
        for batch in (1, 64):
            pictures = random_frames(batch, (width, height), scorer.contract.channels)
            frames = Batch.of_pictures(pictures, scorer.contract)
            rounds = ROUNDS if batch == 1 else ROUNDS // 8
            row = {"width": width, "height": height, "batch": batch}
            rows.append(row | measure(scorer, bare, frames, rounds))
            typer.echo(
                "{width}x{height} batch {batch:3}: Scorer {scorer_ms:.3f} ms, bare {bare_ms:.3f} "
                "ms, ratio {ratio:.3f}".format(**rows[-1])
            )
    if json_file is not None:
        write_json(json_file, record(rows=rows))


def measure(
    scorer: Scorer, bare: onnxruntime.InferenceSession, batch: Batch, rounds: int
) -> dict[str, Any]:
    """Time both with the same frames in turns: medians, and their ratio."""
    arrays = batch.arrays()
    inputs = dict(zip(INPUTS, arrays, strict=False))
    times = np.empty((2, rounds))
    for turn in range(-WARM_UP, rounds):
        started = time.perf_counter()
        scorer.score(*arrays)
        between = time.perf_counter()
        bare.run(["score"], inputs)
        ended = time.perf_counter()
        if turn >= 0:
            times[:, turn] = between - started, ended - between
    scorer_ms, bare_ms = (np.median(times, axis=1) * 1e3).tolist()
    return {
        "scorer_ms": round(scorer_ms, 4),
        "bare_ms": round(bare_ms, 4),
        "ratio": round(scorer_ms / bare_ms, 3),
    }


if __name__ == "__main__":
    typer.run(main)
