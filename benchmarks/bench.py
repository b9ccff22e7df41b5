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
from adae_edge.benchmarks.load import Load, ModelJob, Rate, check_memory, measure_model
from adae_edge.benchmarks.markdown import as_markdown
from adae_edge.benchmarks.record import record
from adae_edge.benchmarks.stages import StreamJob, measure_stream
from adae_edge.benchmarks.watch import Conditions, decode_bound, verdicts
from adae_edge.contract import Contract
from adae_edge.decoding.images import frame_size
from adae_edge.decoding.shrinking import Shrinking
from adae_edge.errors import UsageError, without_password
from adae_edge.formats.files import check_writable, write_atomically
from adae_edge.machine import available_threads
from adae_edge.runtime.opening import StreamRequest
from adae_edge.runtime.scorer import Scorer

SCHEMA = 1
BATCHES = (1, 4, 16, 64)
SECONDS = 2.0


@dataclass(frozen=True)
class BenchRequest:
    """What is to be measured, and where the figures go.

    Attributes:
        model: path of a model file or an engine.
        source: as for ``open_source``; None for made-up frames in memory, and the model alone.
        sinks: as for ``open_sink``; only with a source.
        batches: frames a call, each of which is measured with each of ``sizes``; none for the
            usual ones. Only without a source.
        sizes: of frames, as "640x480"; none for the usual ones. Only without a source.
        seconds: for each measurement; None for 2 without a source, and with one for as long as it
            lasts, but 10 at most.
        rate: frames that are due in a second, as ``Rate.parse``; None for closed loop.
        exact: as for ``open_source``.
        device, threads: as for ``Scorer``.
        json_file, markdown_file: None for none.
        strict: whether a run that was disturbed is a failure.
    """

    model: Path
    source: str | None = None
    sinks: Sequence[str] = ()
    batches: Sequence[int] = ()
    sizes: Sequence[str] = ()
    seconds: float | None = None
    rate: str | None = None
    exact: bool = False
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
    batches = request.batches or BATCHES
    rate = None if request.rate is None else Rate.parse(request.rate)

    # load, and score a first frame
    began = time.perf_counter()
    with Scorer(request.model, request.device, request.threads) as scorer:
        load_ms = _ms_since(began)
        contract, backend, graph = scorer.contract, scorer.backend.name, scorer.model
        sizes = sizes or usual_sizes(contract)
        for size in sizes:
            check_memory(contract, size, max(batches))
        frame = random_frames(1, sizes[0], contract.channels)
        began = time.perf_counter()
        scorer.score(*Batch.of_pictures(frame, contract).arrays())
        first_ms = _ms_since(began)

    # the source, or every size in every batch, each in a process of its own
    apart = Apart()
    started(apart.stop)
    rows, ended = [], ""
    if request.source is not None:
        stream = StreamJob(_stream_of(request), request.seconds, rate)
        found = apart.measure(measure_stream, [stream])[0]
        ended = found["ended"]
        rows += stream_rows(stream, found)
    for job in [] if request.source else _model_jobs(request, sizes, batches, rate):
        if not apart.stopped:
            rows.append(row_of(job, apart.measure(measure_model, [job])))
    if not rows:
        return Outcome({}, [ended] if ended else [])

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
        source=None if request.source is None else without_password(request.source),
        sinks=[without_password(sink) for sink in request.sinks],
        stopped=apart.stopped,
        ended_early=ended or None,
        measurements=rows,
    )
    outcome = Outcome(result, _failures(request, result))
    _give(request, result)
    return outcome


def _check(request: BenchRequest) -> None:
    """Refuse what cannot work before anything is measured."""
    if request.batches and min(request.batches) < 1:
        raise UsageError("a batch has at least one frame")
    if request.source is not None and (request.batches or request.sizes):
        raise UsageError(
            "--batch and --size are for made-up frames: a source has frames of its own"
        )
    if request.source is None and (request.sinks or request.exact):
        raise UsageError("--to and --exact go with a source: without one the model is alone")
    check_writable(request.json_file)
    check_writable(request.markdown_file)


def _stream_of(request: BenchRequest) -> StreamRequest:
    """The stream from the source to the sinks, in which each frame is scored alone."""
    return StreamRequest(
        request.model,
        (request.source or "",),
        tuple(request.sinks),
        device=request.device,
        threads=request.threads,
        max_latency=0.0,
        exact=request.exact,
    )


def _model_jobs(
    request: BenchRequest,
    sizes: Sequence[tuple[int, int]],
    batches: Sequence[int],
    rate: Rate | None,
) -> list[ModelJob]:
    """Every size in every batch."""
    seconds = SECONDS if request.seconds is None else request.seconds
    return [
        ModelJob(request.model, request.device, request.threads, size, batch, seconds, 1, rate)
        for size in sizes
        for batch in batches
    ]


def stream_rows(job: StreamJob, found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The figures of a stream as JSON types, in a list of one; none where no frame was timed.

    Args:
        job: what was measured.
        found: what ``measure_stream`` returned.
    """
    load, conditions = found["load"], found["conditions"]
    if not load.times_s or conditions is None:
        return []
    width, height = found["size"]
    figures, ages = summary(load.times_s), summary(found["ages_s"])
    first_s, stages = found["first_s"], found["stages_ms"]
    row = {
        "width": width,
        "height": height,
        "batch": 1,
        **figures,
        "frames_per_s": round(figures["runs"] / load.wall_s, 1),
        "peak_memory_mb": round(found["peak_memory_mb"], 1),
        "first_frame_ms": None if first_s is None else round(first_s * 1e3, 2),
        "stages_ms": stages,
        **{f"age_{name}_ms": ages[f"{name}_ms"] for name in ("p50", "p99", "max")},
        **_of_rate(found["rate"], load, found),
        **judged(conditions, figures, job.request.threads),
    }
    if found["rate"] is None and (verdict := decode_bound(stages)):
        row["verdicts"].append(verdict._asdict())
    return [row]


def _of_rate(rate: float | None, load: Load, found: Mapping[str, Any]) -> dict[str, Any]:
    """What an open loop, or a search for the highest rate, tells beside the times."""
    told = {name: found[name] for name in ("held", "tried") if name in found}
    if rate is None or not load.queue:
        return told
    return {
        "rate": round(rate, 2),
        "queue_max": max(load.queue),
        "queue": [int(max(part)) for part in np.array_split(load.queue, min(200, len(load.queue)))],
        **told,
    }


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
        **_of_rate(found[0]["rate"], load, found[0]),
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
    failed = [result["ended_early"]] if result["ended_early"] else []
    wrong = sum(
        any(verdict["name"] != "decode-bound" for verdict in row["verdicts"])
        for row in result["measurements"]
    )
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
