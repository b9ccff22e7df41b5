"""What ``Scorer.score`` costs over the bare ONNX Runtime session that it wraps, side by side in one run.

python -m adae_edge.benchmarks.against.overhead MODEL [--size 640x480] [--json FILE]
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from adae_edge.benchmarks.bench import random_frames
from adae_edge.decoding.images import frame_size
from adae_edge.formats.files import write_atomically
from adae_edge.machine import machine
from adae_edge.runtime import Scorer
from adae_edge.runtime.backends.onnxruntime import OnnxRuntime

ROUNDS = 1000


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
    rows: list[dict[str, Any]] = []
    for width, height in [frame_size(text) for text in size or [f"{side}x{side}", "640x480"]]:
        for batch in (1, 64):
            frames = random_frames(batch, (width, height), scorer.contract.channels)
            times = np.empty((2, ROUNDS if batch == 1 else ROUNDS // 8))
            for turn in range(-5, times.shape[1]):  # the first five warm up
                begun = time.perf_counter()
                scorer.score(frames)
                between = time.perf_counter()
                bare.run(["score"], {"frames": frames})
                ended = time.perf_counter()
                if turn >= 0:
                    times[:, turn] = between - begun, ended - between
            scored, ran = np.median(times, axis=1) * 1e3
            ratio = float(scored / ran)
            rows.append(
                {
                    "width": width,
                    "height": height,
                    "batch": batch,
                    "scorer_ms": round(float(scored), 4),
                    "bare_ms": round(float(ran), 4),
                    "ratio": round(ratio, 3),
                }
            )
            typer.echo(
                f"{width}x{height} batch {batch:3}: Scorer {scored:.3f} ms, bare {ran:.3f} ms, "
                f"ratio {ratio:.3f}"
            )
    if json_file is not None:
        result = {
            "command": f"python -m adae_edge.benchmarks.against.overhead {model.name}",
            "machine": machine(),
            "rows": rows,
        }
        write_atomically(json_file, (json.dumps(result, indent=2) + "\n").encode())


if __name__ == "__main__":
    typer.run(main)
