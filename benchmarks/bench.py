"""``adae-edge bench``: latency and throughput of a model on this machine, from raw frames to scores."""

from __future__ import annotations

import json
import resource
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray

from adae_edge import __version__
from adae_edge.decoding.images import frame_size
from adae_edge.errors import UsageError
from adae_edge.formats.files import write_atomically
from adae_edge.machine import available_threads, machine
from adae_edge.runtime.scorer import Scorer

WARM_UP_S = 0.3
MIN_RUNS = 20


@dataclass(frozen=True)
class Measurement:
    """Times of calls of ``Scorer.score`` with one batch of random frames; none is left out.

    Attributes:
        width, height: of the frames, pixels.
        batch: frames a call.
        runs: calls that were timed.
        p50_ms, p90_ms, p99_ms, max_ms: percentiles of a call's time.
        frames_per_s: frames scored divided by the time that all calls took.
    """

    width: int
    height: int
    batch: int
    runs: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    frames_per_s: float


def run_bench(
    model: Path,
    batches: list[int],
    sizes: list[str],
    seconds: float,
    device: str | None,
    threads: int | None,
    json_file: Path | None,
    markdown_file: Path | None,
) -> None:
    """Measure, print the table, and write what is asked for.

    Raises:
        UsageError: an impossible size or batch.
        As ``Scorer``.
    """
    if not batches or min(batches) < 1:
        raise UsageError("a batch has at least one frame")
    begun = time.perf_counter()
    scorer = Scorer(model, device, threads)
    load_ms = (time.perf_counter() - begun) * 1e3
    side = scorer.contract.side
    left, top, width, height = scorer.contract.region or (0, 0, 1, 1)
    usual = [(max(w, left + width), max(h, top + height)) for w, h in ((side, side), (640, 480))]
    if scorer.form.size:
        usual = [scorer.form.size[::-1]]
    frame_sizes = [frame_size(text) for text in sizes] or list(dict.fromkeys(usual))

    first = random_frames(1, frame_sizes[0], scorer.contract.channels)
    begun = time.perf_counter()
    scorer.score(*inputs_for(scorer, first))
    first_ms = (time.perf_counter() - begun) * 1e3
    measurements = [
        measure(scorer, random_frames(batch, size, scorer.contract.channels), seconds)
        for size in frame_sizes
        for batch in batches
    ]
    result: dict[str, Any] = {
        "command": "adae-edge " + " ".join(sys.argv[1:]),
        "machine": machine(),
        "model": {"file": model.name, "side": side, "channels": scorer.contract.channels},
        "backend": scorer.backend.name,
        "threads": threads or available_threads(),
        "adae_edge": __version__,
        "load_ms": round(load_ms, 2),
        "first_inference_ms": round(first_ms, 2),
        "peak_memory_mb": round(peak_memory_mb(), 1),
        "measurements": [asdict(measurement) for measurement in measurements],
    }
    markdown = as_markdown(result)
    typer.echo(markdown)
    if json_file is not None:
        write_atomically(json_file, (json.dumps(result, indent=2) + "\n").encode())
    if markdown_file is not None:
        write_atomically(markdown_file, (markdown + "\n").encode())


def measure(scorer: Scorer, frames: NDArray[np.uint8], seconds: float) -> Measurement:
    """Time calls with the same frames, uint8 [N, H, W, C], after a warm-up, until ``seconds`` are over."""
    inputs = inputs_for(scorer, frames)
    until = time.perf_counter() + WARM_UP_S
    while time.perf_counter() < until:
        scorer.score(*inputs)
    times: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(times) < MIN_RUNS:
        begun = time.perf_counter()
        scorer.score(*inputs)
        times.append(time.perf_counter() - begun)
    ms = np.array(times) * 1e3
    count, height, width, _ = frames.shape
    p50, p90, p99 = (round(float(value), 4) for value in np.percentile(ms, [50, 90, 99]))
    rate = count * len(ms) / float(ms.sum()) * 1e3
    return Measurement(
        width, height, count, len(ms), p50, p90, p99, round(float(ms.max()), 4), round(rate, 1)
    )


def as_markdown(result: dict[str, Any]) -> str:
    """The result as a Markdown table under a description of the machine."""
    host = result["machine"]
    lines = [
        f"{result['model']['file']} on {host['cpu']}, {result['threads']} threads; "
        f"{result['backend']}; "
        f"adae-edge {result['adae_edge']}, Python {host['python']}, {host['system']}",
        "",
        f"load {result['load_ms']} ms, first inference {result['first_inference_ms']} ms, "
        f"peak memory of all this {result['peak_memory_mb']} MB",
        "",
        "| frame     | batch | p50 ms   | p90 ms   | p99 ms   | max ms   | frames/s |",
        "|-----------|------:|---------:|---------:|---------:|---------:|---------:|",
    ]
    for row in result["measurements"]:
        size = f"{row['width']}x{row['height']}"
        times = " | ".join(f"{row[key]:8.3f}" for key in ("p50_ms", "p90_ms", "p99_ms", "max_ms"))
        lines.append(f"| {size:<9} | {row['batch']:5} | {times} | {row['frames_per_s']:8.0f} |")
    return "\n".join(lines)


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def random_frames(count: int, size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    """Noise, uint8 [count, height, width, channels]; ``size`` is width and height."""
    width, height = size
    return np.random.default_rng(0).integers(0, 256, (count, height, width, channels), np.uint8)


def inputs_for(scorer: Scorer, frames: NDArray[np.uint8]) -> list[NDArray[Any]]:
    """Frames of any kind from those of images; the values of z-scores make no difference to the time."""
    if scorer.contract.kind == "image":
        return [frames]
    return [
        frames.astype(np.float32),
        np.full(len(frames), 127, np.float32),
        np.full(len(frames), 60, np.float32),
    ]
