"""The command ``bench``: latency and throughput of a model, from raw frames to scores."""

from __future__ import annotations

import hashlib
import itertools
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
from adae_edge.benchmarks.compare import check_alike, compared, read_result
from adae_edge.benchmarks.figures import Condition
from adae_edge.benchmarks.gpus import gpus
from adae_edge.benchmarks.load import ModelJob, Rate, measure_model
from adae_edge.benchmarks.markdown import as_markdown, given_up, name_of
from adae_edge.benchmarks.measurements import figure_names, load_of, row_of, stream_rows
from adae_edge.benchmarks.memory import check_memory
from adae_edge.benchmarks.page import as_html
from adae_edge.benchmarks.power import meters
from adae_edge.benchmarks.record import as_json, record
from adae_edge.benchmarks.stages import StreamJob, measure_stream
from adae_edge.benchmarks.watch import gpu_bound
from adae_edge.contract import Contract
from adae_edge.decoding.images import frame_size
from adae_edge.decoding.shrinking import Shrinking
from adae_edge.errors import AdaeEdgeError, UsageError, WriteError, without_password
from adae_edge.formats import enginefile
from adae_edge.formats.files import check_writable, real_path, write_atomically
from adae_edge.machine import available_threads
from adae_edge.runtime.opening import StreamRequest
from adae_edge.runtime.scorer import Scorer

SCHEMA = 1
BATCHES = (1, 4, 16, 64)
SECONDS = 2.0
MOST_STREAMS = 256


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
        device: as for ``Scorer``.
        threads: of a scorer, each of which is measured; none for as many as there may be.
        streams: how many scorers call at the same time, each of which is measured. Only without a
            source.
        processes: whether each of them has a process of its own, and not only a thread.
        json_file, markdown_file, html_file: None for none.
        compare: what ``json_file`` was of an earlier run; None for none.
        force: whether it may be of another model, source or frame size.
        fail_if: conditions on figures, as ``Condition.parse``, of which none may hold.
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
    threads: Sequence[int] = ()
    streams: Sequence[int] = (1,)
    processes: bool = False
    json_file: Path | None = None
    markdown_file: Path | None = None
    html_file: Path | None = None
    compare: Path | None = None
    force: bool = False
    fail_if: Sequence[str] = ()
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


@dataclass
class Plan:
    """What a request asks for, read and found possible.

    Attributes:
        sizes, batches: width and height, and frames a call, of the model alone.
        rate: None for closed loop.
        conditions: of which none may hold.
        old: the result to compare with; None for none.
    """

    sizes: list[tuple[int, int]]
    batches: Sequence[int]
    rate: Rate | None
    conditions: list[Condition]
    old: dict[str, Any] | None


def run_bench(
    request: BenchRequest, started: Callable[[Callable[[], None]], object] = lambda stop: None
) -> Outcome:
    """Measure, print the table, and write what is asked for.

    Args:
        request: what is measured.
        started: called with a function that has the measuring end early, before it begins.

    Raises:
        UsageError: what is asked for is impossible, or cannot be written or compared.
        AdaeEdgeError: as ``Scorer``, or as ``open_stream``.
    """
    # refuse what cannot work
    plan = _plan(request)
    facts = _open(request, plan)

    # the source, or every size in every batch, each in a process of its own
    apart = Apart()
    started(apart.stop)
    gpu = "onnxruntime" not in facts["backend"] or request.device in ("cuda", "tensorrt")
    rows, ended = [], ""
    if request.source is not None:
        stream = StreamJob(_stream_of(request), request.seconds, plan.rate, gpu)
        found = apart.measure(measure_stream, [stream])[0]
        ended = found["ended"]
        rows += stream_rows(stream, found)
    for jobs in [] if request.source else _model_jobs(request, plan, gpu):
        if not apart.stopped:
            rows.append(row_of(jobs, apart.measure(measure_model, jobs)))
    if not rows:
        return Outcome({}, [ended] if ended else [])
    for row in rows:
        row["swept"] = [name for name in ("threads",) if len(request.threads) > 1]
        if gpu and request.source is None and (bound := gpu_bound(row, rows)):
            row["verdicts"].append(bound._asdict())

    # print and write
    result = record(
        schema=SCHEMA,
        **facts,
        source=None if request.source is None else without_password(request.source),
        sinks=[without_password(sink) for sink in request.sinks],
        gpus=[each.state() for each in gpus()[0]] if gpu else [],
        no_energy=meters(gpu=gpu)[1],
        stopped=apart.stopped,
        ended_early=ended or None,
        measurements=rows,
    )
    if plan.old is not None and request.compare is not None:
        result["compared"] = compared(plan.old, result, request.compare.name, request.force)
    return Outcome(result, _failures(request, plan.conditions, result) + _give(request, result))


def _plan(request: BenchRequest) -> Plan:
    """Read what is asked for, and refuse what cannot work before anything is measured."""
    if request.batches and min(request.batches) < 1:
        raise UsageError("a batch has at least one frame")
    if min([1, *request.threads, *request.streams]) < 1:
        raise UsageError("there is at least one thread, and one stream")
    if max(request.streams) > MOST_STREAMS:
        raise UsageError(
            f"there are at most {MOST_STREAMS} streams, and not {max(request.streams)}"
        )
    several = len(request.threads) > 1 or request.processes or tuple(request.streams) != (1,)
    if request.source is not None and (request.batches or request.sizes or several):
        raise UsageError(
            "--batch, --size, --streams, --processes and several --threads are for made-up frames: "
            "a source has frames of its own"
        )
    if request.source is None and (request.sinks or request.exact):
        raise UsageError("--to and --exact go with a source: without one the model is alone")
    if request.rate is not None and tuple(request.streams) != (1,):
        raise UsageError("--rate goes with one stream")
    if request.force and request.compare is None:
        raise UsageError("--force goes with --compare")
    _check_files(request)
    rate = None if request.rate is None else Rate.parse(request.rate)
    batches = request.batches or BATCHES
    if rate is not None:
        rate.check_duration(1 if request.source is not None else max(batches), request.seconds)
    looked_for = rate is not None and rate.frames_per_s is None
    names = figure_names(request.source is not None, rate is not None, looked_for)
    return Plan(
        [frame_size(text) for text in request.sizes],
        batches,
        rate,
        [Condition.parse(text, names) for text in request.fail_if],
        None if request.compare is None else read_result(request.compare, SCHEMA),
    )


def _check_files(request: BenchRequest) -> None:
    """Refuse files that cannot be written, or that would take the place of one another."""
    taken = {real_path(request.model)}
    for file in (request.json_file, request.markdown_file, request.html_file):
        if file is None:
            continue
        try:
            check_writable(file)
        except WriteError as error:  # nothing was measured: it is the use that is wrong
            raise UsageError(str(error)) from error
        if file.exists() and not file.is_file():
            raise UsageError(f"cannot write {file}: it is there, and no file")
        if real_path(file) in taken:
            raise UsageError(f"cannot write {file}: it is the model, or asked for twice")
        taken.add(real_path(file))


def _open(request: BenchRequest, plan: Plan) -> dict[str, Any]:
    """Load the model once and score a first frame; refuse what does not fit to it.

    Returns:
        What is written down of the model, as JSON types. The plan gets its usual sizes.
    """
    threads = max(request.threads, default=None)
    began = time.perf_counter()
    with Scorer(request.model, request.device, threads) as scorer:
        load_ms = _ms_since(began)
        contract = scorer.contract
        plan.sizes = plan.sizes or usual_sizes(contract)
        if plan.old is not None and request.compare is not None:
            planned, old = _planned(request, plan), (plan.old, request.compare)
            check_alike(*old, scorer.model, request.source, planned, request.force)
        frame = random_frames(1, plan.sizes[0], contract.channels)
        began = time.perf_counter()
        scorer.score(*Batch.of_pictures(frame, contract).arrays())
        first_ms = _ms_since(began)
        for size in plan.sizes if request.source is None else ():
            check_memory(scorer, size, max(plan.batches), max(request.streams))
    model = {
        "file": request.model.name,
        "sha256": hashlib.sha256(request.model.read_bytes()).hexdigest(),
        "graph": scorer.model,
        "side": contract.side,
        "channels": contract.channels,
    }
    return {
        "model": model,
        "build_s": _build_s(request.model),
        "backend": scorer.backend.name,
        "threads": threads or available_threads(),
        "load_ms": round(load_ms, 2),
        "first_inference_ms": round(first_ms, 2),
    }


def _build_s(model: Path) -> float | None:
    """How long an engine took to build, seconds; None for model files and older engines."""
    seconds = enginefile.read(model).options.get("build_s") if enginefile.is_engine(model) else None
    return float(seconds) if isinstance(seconds, (int, float)) else None


def _stream_of(request: BenchRequest) -> StreamRequest:
    """The stream from the source to the sinks, in which each frame is scored alone."""
    return StreamRequest(
        request.model,
        (request.source or "",),
        tuple(request.sinks),
        device=request.device,
        threads=max(request.threads, default=None),
        max_latency=0.0,
        exact=request.exact,
    )


def _model_jobs(request: BenchRequest, plan: Plan, gpu: bool) -> list[list[ModelJob]]:
    """Every size in every batch by every number of threads and streams.

    Jobs of one list run at the same time.
    """
    jobs = []
    for size, batch in itertools.product(plan.sizes, plan.batches):
        for threads, streams in itertools.product(request.threads or (None,), request.streams):
            job = ModelJob(
                request.model,
                request.device,
                threads or (None if streams == 1 else max(1, available_threads() // streams)),
                size,
                batch,
                SECONDS if request.seconds is None else request.seconds,
                1 if request.processes else streams,
                plan.rate,
                gpu,
            )
            jobs.append([job] * (streams if request.processes else 1))
    return jobs


def _planned(request: BenchRequest, plan: Plan) -> dict[str, Any]:
    """What is going to be measured, as a result has it, without figures."""
    if request.source is None:
        loads = [load_of(jobs) for jobs in _model_jobs(request, plan, gpu=False)]
    else:
        loads = [load_of([StreamJob(_stream_of(request), request.seconds)])]
    asked = {} if plan.rate is None else plan.rate.asked
    rows = [load | asked for load in loads]
    return {"machine": {"usable_cpus": available_threads()}, "measurements": rows}


def _failures(
    request: BenchRequest, conditions: Sequence[Condition], result: Mapping[str, Any]
) -> list[str]:
    """Why a command that has measured fails, in sentences."""
    failed = [result["ended_early"]] if result["ended_early"] else []
    failed += [given_up(row) for row in result["measurements"] if row.get("given_up")]
    if "compared" in result and not result["compared"]["ratios"]:
        failed.append(f"{result['compared']['with']} has nothing of what was measured now")
    wrong = sum(
        any(not verdict["name"].endswith("-bound") for verdict in row["verdicts"])
        for row in result["measurements"]
    )
    if request.strict and wrong:
        failed.append(f"{wrong} of {len(result['measurements'])} measurements are not to be used")
    for row in result["measurements"]:
        figures = {**result, **row}
        for condition in conditions:
            value, holds = figures.get(condition.name), condition.holds(figures)
            if holds is None:
                failed.append(f"{name_of(row)}: {condition.text} cannot be judged by so few calls")
            elif holds:
                failed.append(f"{name_of(row)}: {condition.text}, it is {value:g}")
    return failed


def _give(request: BenchRequest, result: Mapping[str, Any]) -> list[str]:
    """Write the files that are asked for, and print the table; why files could not be written."""
    markdown = as_markdown(result)
    failed = []
    for file, text in (
        (request.json_file, as_json(result)),
        (request.markdown_file, markdown + "\n"),
        (request.html_file, as_html(result)),
    ):
        try:
            if file is not None:
                write_atomically(file, text.encode())
        except AdaeEdgeError as error:  # a full disk costs no other file
            failed.append(str(error))
    typer.echo(markdown)
    return failed


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
