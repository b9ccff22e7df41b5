"""The command ``bench``: latency and throughput of a model, from raw frames to scores."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray

from adae_edge.batch import Batch
from adae_edge.benchmarks.apart import Apart
from adae_edge.benchmarks.figures import summary
from adae_edge.benchmarks.load import Load, ModelJob, check_memory, measure_model
from adae_edge.benchmarks.markdown import as_markdown
from adae_edge.benchmarks.record import record
from adae_edge.benchmarks.watch import Conditions, verdicts
from adae_edge.contract import Contract
from adae_edge.decoding.images import frame_size
from adae_edge.decoding.shrinking import Shrinking
from adae_edge.errors import UsageError
from adae_edge.formats.files import check_writable, write_atomically
from adae_edge.machine import available_threads
from adae_edge.runtime.scorer import Scorer

SCHEMA = 1


@dataclass(frozen=True)
class BenchRequest:
    """What is to be measured, and where the figures go.

    Attributes:
        model: path of a model file or an engine.
        batches: frames a call, each of which is measured with each of ``sizes``.
        sizes: of frames, as "640x480"; none for the usual ones.
        seconds: for each size and batch.
        device, threads: as for ``Scorer``.
        json_file, markdown_file: None for none.
        strict: whether a run that was disturbed is a failure.
    """

    model: Path
    batches: Sequence[int] = (1, 4, 16, 64)
    sizes: Sequence[str] = ()
    seconds: float = 2.0
    device: str | None = None
    threads: int | None = None
    json_file: Path | None = None
    markdown_file: Path | None = None
    strict: bool = False


@dataclass
class Outcome:
    """What a benchmark came to.

    Attributes:
        result: JSON types.
        failed: why the command fails though it has measured, in sentences.
    """

    result: dict[str, Any]
    failed: list[str]


def run_bench(
    request: BenchRequest, started: Callable[[Callable[[], None]], object] = lambda stop: None
) -> Outcome:
    """Measure, print the table, and write what is asked for.

    Args:
        request: what is measured.
        started: called with a function that has the measuring end early, before it begins.

    Raises:
        UsageError: an impossible size or batch, or a file that cannot be written.
        AdaeEdgeError: as ``Scorer``.
    """
    # refuse what cannot work
    _check(request)
    sizes = [frame_size(text) for text in request.sizes]

    # load, and score a first frame
    began = time.perf_counter()
    with Scorer(request.model, request.device, request.threads) as scorer:
        load_ms = _ms_since(began)
        contract, backend, graph = scorer.contract, scorer.backend.name, scorer.model
        sizes = sizes or usual_sizes(contract)
        for size in sizes:
            check_memory(contract, size, max(request.batches))
        frame = random_frames(1, sizes[0], contract.channels)
        began = time.perf_counter()
        scorer.score(*Batch.of_pictures(frame, contract).arrays())
        first_ms = _ms_since(began)

    # every size in every batch, each in a process of its own
    apart = Apart()
    started(apart.stop)
    rows = []
    for size in sizes:
        for batch in request.batches:
            job = ModelJob(
                request.model, request.device, request.threads, size, batch, request.seconds
            )
            if not apart.stopped:
                rows.append(row_of(job, apart.measure(measure_model, [job])))
    if not rows:  # stopped before there was anything
        return Outcome({}, [])

    # print and write
    result = record(
        schema=SCHEMA,
        model={
            "file": request.model.name,
            "sha256": hashlib.sha256(request.model.read_bytes()).hexdigest(),
            "graph": graph,
            "side": contract.side,
            "channels": contract.channels,
        },
        backend=backend,
        threads=request.threads or available_threads(),
        load_ms=round(load_ms, 2),
        first_inference_ms=round(first_ms, 2),
        stopped=apart.stopped,
        measurements=rows,
    )
    outcome = Outcome(result, _failures(request, result))
    _give(request, result)
    return outcome


def _check(request: BenchRequest) -> None:
    """Refuse what cannot work before anything is measured."""
    if not request.batches or min(request.batches) < 1:
        raise UsageError("a batch has at least one frame")
    check_writable(request.json_file)
    check_writable(request.markdown_file)


def row_of(job: ModelJob, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of a model alone, as JSON types.

    Args:
        job: what each process measured.
        found: what each of them returned, as ``measure_model``.
    """
    load = Load.merged([each["load"] for each in found])
    conditions = max((each["conditions"] for each in found), key=lambda seen: seen.waiting or 0)
    width, height = job.size
    figures = summary(load.times_s)
    rate = job.batch * figures["runs"] / load.wall_s
    return {
        "width": width,
        "height": height,
        "batch": job.batch,
        **figures,
        "frames_per_s": round(rate, 1),
        "peak_memory_mb": round(sum(each["peak_memory_mb"] for each in found), 1),
        **judged(conditions, figures, job.threads),
    }


def judged(
    conditions: Conditions, figures: Mapping[str, Any], threads: int | None, copies: int = 1
) -> dict[str, Any]:
    """Under what a run was made and what is wrong with it, as JSON types.

    Args:
        conditions: what was seen.
        figures: of the run, as ``figures.summary``.
        threads: of a scorer; None for as many as there may be.
        copies: scorers that compute at the same time.
    """
    cpus = available_threads()
    used = (threads or cpus) * copies
    told = verdicts(conditions, figures["runs"], figures["parts_p50_ms"], used, cpus)
    return {
        "conditions": conditions.as_json(),
        "verdicts": [verdict._asdict() for verdict in told],
    }


def _failures(request: BenchRequest, result: Mapping[str, Any]) -> list[str]:
    """Why a command that has measured fails, in sentences."""
    failed = []
    wrong = sum(bool(row["verdicts"]) for row in result["measurements"])
    if request.strict and wrong:
        failed.append(f"{wrong} of {len(result['measurements'])} measurements are not to be used")
    return failed


def _give(request: BenchRequest, result: Mapping[str, Any]) -> None:
    """Print the table, and write the files that are asked for."""
    markdown = as_markdown(result)
    typer.echo(markdown)
    if request.json_file is not None:
        write_atomically(request.json_file, as_json(result).encode())
    if request.markdown_file is not None:
        write_atomically(request.markdown_file, (markdown + "\n").encode())


def as_json(result: Mapping[str, Any]) -> str:
    """The result as JSON, with each list of numbers in one line."""
    text = json.dumps(result, indent=2) + "\n"
    return re.sub(r"\[\n\s+([^\[\]{}\"]*?)\n\s+\]", lambda found: _one_line(found[1]), text)


def _one_line(numbers: str) -> str:
    return f"[{' '.join(numbers.split())}]"


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


def random_frames(count: int, size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    """Noise, uint8 [count, height, width, channels]; ``size`` is width and height."""
    width, height = size
    return np.random.default_rng(0).integers(0, 256, (count, height, width, channels), np.uint8)


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1e3
