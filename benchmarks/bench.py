"""The command ``bench``: latency and throughput of a model, from raw frames to scores."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray

from adae_edge.batch import Batch
from adae_edge.benchmarks.figures import summary
from adae_edge.benchmarks.load import Rotation, closed, warm_up
from adae_edge.benchmarks.record import record
from adae_edge.contract import Contract
from adae_edge.decoding.images import frame_size
from adae_edge.decoding.shrinking import Shrinking
from adae_edge.errors import UsageError
from adae_edge.formats.files import check_writable, write_atomically, write_json
from adae_edge.machine import available_threads
from adae_edge.runtime.scorer import Scorer

SCHEMA = 1
# Columns of the table: a figure's name, and what stands above it.
_COLUMNS = {
    "min_ms": "min",
    "p50_ms": "p50",
    "p90_ms": "p90",
    "p95_ms": "p95",
    "p99_ms": "p99",
    "p999_ms": "p99.9",
    "max_ms": "max",
    "mean_over_p50": "mean/p50",
    "frames_per_s": "frames/s",
}


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
            measurements.append(measure(scorer, size, batch, seconds))

    # print and write
    result = record(
        schema=SCHEMA,
        model={"file": model.name, "side": contract.side, "channels": contract.channels},
        backend=scorer.backend.name,
        threads=threads or available_threads(),
        load_ms=round(load_ms, 2),
        first_inference_ms=round(first_ms, 2),
        peak_memory_mb=round(peak_memory_mb(), 1),
        measurements=measurements,
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


def measure(scorer: Scorer, size: tuple[int, int], batch: int, seconds: float) -> dict[str, Any]:
    """Time calls of ``Scorer.score`` with made-up frames, for some seconds, after a warm-up.

    Args:
        scorer: the model.
        size: width and height of the frames, pixels.
        batch: frames a call.
        seconds: how long.

    Returns:
        JSON types: what was scored, and the figures of ``figures.summary``.
    """
    frames = Rotation(scorer.contract, size, batch)

    def call() -> None:
        scorer.score(*frames.turn())

    warm_up(call)
    load = closed(call, seconds)
    figures = summary(load.times_s)
    rate = batch * figures["runs"] / load.wall_s
    width, height = size
    shape = {"width": width, "height": height, "batch": batch}
    return {**shape, **figures, "frames_per_s": round(rate, 1)}


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
        "times in ms; a percentile with fewer than ten calls above it is no figure",
        "",
        *table(result["measurements"]),
    ]
    return "\n".join(lines)


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The lines of a Markdown table of measurements."""
    heads = ["frame", "batch", *_COLUMNS.values()]
    cells = [
        [f"{row['width']}x{row['height']}", str(row["batch"])]
        + [_cell(name, row[name]) for name in _COLUMNS]
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    rule = [
        f":{'-' * width}-" if place == 0 else f"{'-' * width}-:"
        for place, width in enumerate(widths)
    ]
    lines = [
        " | ".join(
            text.ljust(width) if place == 0 else text.rjust(width)
            for place, (text, width) in enumerate(zip(texts, widths, strict=True))
        )
        for texts in [heads, *cells]
    ]
    return [f"| {lines[0]} |", f"|{'|'.join(rule)}|", *(f"| {line} |" for line in lines[1:])]


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "too few"
    return f"{value:.0f}" if name == "frames_per_s" else f"{value:.3f}"


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def random_frames(count: int, size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    """Noise, uint8 [count, height, width, channels]; ``size`` is width and height."""
    width, height = size
    return np.random.default_rng(0).integers(0, 256, (count, height, width, channels), np.uint8)
