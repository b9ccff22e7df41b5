"""The figures of one measurement, as JSON types: what ``adae-edge bench`` writes down of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from adae_edge.benchmarks.figures import PERCENTILES, summary
from adae_edge.benchmarks.load import Load, ModelJob
from adae_edge.benchmarks.stages import StreamJob
from adae_edge.benchmarks.watch import Conditions, decode_bound, verdicts
from adae_edge.machine import available_threads

_COMMON = (
    "min_ms",
    *(f"{name}_ms" for name in PERCENTILES),
    "max_ms",
    "mean_ms",
    "mean_over_p50",
    "frames_per_s",
    "peak_memory_mb",
)
_OF_ALL = ("load_ms", "first_inference_ms")
_OF_STREAMS = ("first_frame_ms", "age_p50_ms", "age_p99_ms", "age_max_ms")


def figure_names(source: bool, rate: bool, looked_for: bool) -> tuple[str, ...]:
    """The names of the figures on which a condition may rest.

    Args:
        source: whether there is one.
        rate: whether frames have due times.
        looked_for: whether the highest rate is looked for.
    """
    names = _COMMON + _OF_ALL + (_OF_STREAMS if source else ())
    return names + (("queue_max",) if rate else ()) + (("held",) if looked_for else ())


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
        **load_of([job]),
        **figures,
        "frames_per_s": round(figures["runs"] / load.wall_s, 1),
        "peak_memory_mb": round(found["peak_memory_mb"], 1),
        "first_frame_ms": None if first_s is None else round(first_s * 1e3, 2),
        "stages_ms": stages,
        **{f"age_{name}_ms": ages[f"{name}_ms"] for name in ("p50", "p99", "max")},
        **_of_rate(found["rate"], load, found),
        **_energy(found, figures["runs"] + 1),
        **judged(conditions, figures, job.request.threads, queue=max(load.queue, default=0)),
    }
    if found["rate"] is None and (verdict := decode_bound(stages)):
        row["verdicts"].append(verdict._asdict())
    return [row]


def load_of(jobs: Sequence[ModelJob] | Sequence[StreamJob]) -> dict[str, int]:
    """Of what and under what load is measured, as a row has it; of a stream without sizes."""
    job = jobs[0]
    if isinstance(job, StreamJob):
        shape, streams, threads = {"batch": 1}, 1, job.request.threads
    else:
        width, height = job.size
        shape = {"width": width, "height": height, "batch": job.batch}
        streams, threads = len(jobs) * job.streams, job.threads
    load = {"threads": threads or available_threads(), "streams": streams, "processes": len(jobs)}
    return shape | load


def _of_rate(rate: float | None, load: Load, found: Mapping[str, Any]) -> dict[str, Any]:
    """What an open loop, or a search for the highest rate, tells beside the times."""
    told = {name: found[name] for name in ("held", "tried") if name in found}
    if rate is None or not load.queue:
        return told
    return {
        "rate": round(rate, 2),
        "queue_max": max(load.queue),
        "given_up": load.given_up,
        "queue": [int(max(part)) for part in np.array_split(load.queue, min(200, len(load.queue)))],
        **told,
    }


def row_of(jobs: Sequence[ModelJob], found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of a model alone, as JSON types.

    Args:
        jobs: what each process measured; they differ in nothing.
        found: what each of them returned, as ``measure_model``.
    """
    load = Load.merged([each["load"] for each in found])
    conditions = max((each["conditions"] for each in found), key=lambda seen: seen.waiting or 0)
    job, shape = jobs[0], load_of(jobs)
    figures = summary(load.times_s)
    rate = job.batch * figures["runs"] / load.wall_s
    return {
        **shape,
        **figures,
        "frames_per_s": round(rate, 1),
        "peak_memory_mb": round(sum(each["peak_memory_mb"] for each in found), 1),
        **_of_rate(found[0]["rate"], load, found[0]),
        **_energy(found[0], job.batch * figures["runs"]),
        **judged(conditions, figures, job.threads, shape["streams"], max(load.queue, default=0)),
    }


def _energy(found: Mapping[str, Any], frames: int) -> dict[str, Any]:
    """What each meter told of so many frames; nothing without meters."""
    told = [energy.as_json(frames) for energy in found.get("energy", [])]
    return {"energy": told} if told else {}


def judged(
    conditions: Conditions,
    figures: Mapping[str, Any],
    threads: int | None,
    copies: int = 1,
    queue: int = 0,
) -> dict[str, Any]:
    """Under what a run was made and what is wrong with it, as JSON types.

    Args:
        conditions: what was seen.
        figures: of the run, as ``figures.summary``.
        threads: of a scorer; None for as many as there may be.
        copies: scorers that compute at the same time.
        queue: how many calls were due and not done at most.
    """
    cpus = available_threads()
    used = (threads or cpus) * copies
    told = verdicts(conditions, figures["runs"], figures["parts_p50_ms"], used, cpus, queue)
    return {
        "conditions": conditions.as_json(),
        "verdicts": [verdict._asdict() for verdict in told],
    }
