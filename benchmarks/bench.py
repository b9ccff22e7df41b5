"""The command ``bench``: latency and throughput of a model, from raw frames to scores."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray

from adae_edge.batch import Batch
from adae_edge.benchmarks.record import record
from adae_edge.contract import Contract
from adae_edge.decoding.images import frame_size
from adae_edge.decoding.shrinking import Shrinking
from adae_edge.errors import UsageError
from adae_edge.formats.files import check_writable, write_atomically, write_json
from adae_edge.machine import available_threads
from adae_edge.runtime.scorer import Scorer

WARM_UP_S = 0.3
MIN_RUNS = 20


@dataclass(frozen=True)
class Measurement:
    """How long calls of ``Scorer.score`` took with one batch of random frames; none is left out.

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
        UsageError: an impossible size or batch, or a file that cannot be written.
        AdaeEdgeError: as ``Scorer``.
    """
    if not batches or min(batches) < 1:
        raise UsageError("a batch has at least one frame")

    check_writable(json_file)
    check_writable(markdown_file)

    # load, and score a first frame
    started = time.perf_counter()
    scorer = Scorer(model, device, threads)
    load_ms = _ms_since(started)
    contract = scorer.contract
    frame_sizes = [frame_size(text) for text in sizes] or usual_sizes(contract)
    first = Batch.of_pictures(random_frames(1, frame_sizes[0], contract.channels), contract)
    started = time.perf_counter()
    scorer.score(*first.arrays())
    first_ms = _ms_since(started)

    # every size in every batch
    measurements = []
    for size in frame_sizes:
        for batch in batches:
            frames = random_frames(batch, size, contract.channels)
            measurements.append(measure(scorer, frames, seconds))

    # print and write
    result = record(
        model={"file": model.name, "side": contract.side, "channels": contract.channels},
        backend=scorer.backend.name,
        threads=threads or available_threads(),
        load_ms=round(load_ms, 2),
        first_inference_ms=round(first_ms, 2),
        peak_memory_mb=round(peak_memory_mb(), 1),
        measurements=[asdict(measurement) for measurement in measurements],
    )
    markdown = as_markdown(result)
    typer.echo(markdown)
    if json_file is not None:
        write_json(json_file, result)
    if markdown_file is not None:
        write_atomically(markdown_file, (markdown + "\n").encode())


def usual_sizes(contract: Contract) -> list[tuple[int, int]]:
    """Width and height of the frames that are scored unless others are asked for.

    The network's and 640x480, both large enough for the region, and what a video of 640x480 is
    shrunk to where that is done; or the fixed one alone.
    """
    if contract.form.size is not None:
        height, width = contract.form.size
        return [(width, height)]
    left, top, inner_width, inner_height = contract.region or (0, 0, 1, 1)
    least_width, least_height = left + inner_width, top + inner_height
    sizes = [
        (max(width, least_width), max(height, least_height))
        for width, height in ((contract.side, contract.side), (640, 480))
    ]
    if shrinking := Shrinking.by(contract):
        height, width = shrinking.size(480, 640)
        sizes.insert(1, (width, height))
    return list(dict.fromkeys(sizes))


def measure(scorer: Scorer, frames: NDArray[np.uint8], seconds: float) -> Measurement:
    """Time calls with the same frames, uint8 [N, H, W, C], after a warm-up, for some seconds."""
    arrays = Batch.of_pictures(frames, scorer.contract).arrays()
    until = time.perf_counter() + WARM_UP_S
    while time.perf_counter() < until:
        scorer.score(*arrays)
    times: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(times) < MIN_RUNS:
        started = time.perf_counter()
        scorer.score(*arrays)
        times.append(_ms_since(started))
    ms = np.array(times)
    count, height, width, _ = frames.shape
    p50, p90, p99, longest = (
        round(float(value), 4) for value in np.percentile(ms, [50, 90, 99, 100])
    )
    rate = count * len(ms) / float(ms.sum()) * 1e3
    return Measurement(width, height, count, len(ms), p50, p90, p99, longest, round(rate, 1))


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1e3


def as_markdown(result: dict[str, Any]) -> str:
    """The result as a Markdown table under a description of the machine."""
    host = result["machine"]
    lines = [
        f"{result['model']['file']} on {host['cpu']}, {result['threads']} threads; "
        f"{result['backend']}; adae-edge {result['versions']['adae_edge']}, "
        f"Python {host['python']}, {host['system']}",
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
