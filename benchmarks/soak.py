"""Whether anything grows: memory, threads and descriptors of a run that is long.

python -m adae_edge.benchmarks.soak synthetic --frames 1000000 --json FILE
python -m adae_edge.benchmarks.soak rtsp --minutes 60 --json FILE

The second one kills the RTSP server once a minute and starts it again. What is measured are the
resident memory, the threads and the descriptors of the real command, once in some seconds. The
slope is that of a straight line through the memory of the second half of the run; its noise is
the standard error of that slope, by the spread of the slopes of ten parts of that half. Memory
grows by pages, in steps, so that this noise is too small where there are few of them: the growth
within the last quarter of the run says whether it goes on.
"""

from __future__ import annotations

import functools
import operator
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer

from adae_edge.benchmarks import record
from adae_edge.benchmarks.faults.lab import Lab, Run, judge_live
from adae_edge.benchmarks.faults.watching import BACK_S, Camera, camera

_PARTS = 10
_KEPT = 200  # measurements that the record keeps


class Sample(NamedTuple):
    """What a process holds at one time: seconds, megabytes and counts."""

    seconds: float
    memory_mb: float
    threads: int
    descriptors: int


def main(
    kind: Annotated[str, typer.Argument(help="synthetic or rtsp.")],
    frames: Annotated[int, typer.Option(min=1, help="How many made-up frames.")] = 1_000_000,
    minutes: Annotated[float, typer.Option(min=0.1, help="How long a camera is watched.")] = 60,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between measurements.")] = 2,
    json_file: Annotated[Path | None, typer.Option("--json", help="File of the results.")] = None,
) -> None:
    """Run the command for long and tell what grew."""
    if kind not in ("synthetic", "rtsp"):
        raise typer.BadParameter(f"no soak {kind}: choose synthetic or rtsp")
    with tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as folder:
        lab = Lab.at(Path(folder, "lab"))
        if kind == "synthetic":
            figures = soak_synthetic(lab, frames, every)
        else:
            figures = soak_rtsp(lab, minutes * 60, every)
    record.finish(json_file, soak=kind, **figures)


def soak_synthetic(lab: Lab, frames: int, every: float) -> dict[str, Any]:
    """Score so many made-up frames: what grew, and whether a row of each is there."""
    source = f"synthetic://?frames={frames}&size=64x48"
    with lab.score(source) as run:
        samples = list(_samples(run, every, lambda _: run.peer.process.poll() is None))
        samples = samples[:-1] or samples  # the last one may be of a process that ends
        code = run.end(None)
    rows = sum(b'"score": ' in line for line in run.rows_file.open("rb"))
    return {"frames": frames, "rows": rows, "exit_code": code, **figures_of(samples)}


def soak_rtsp(lab: Lab, seconds: float, every: float) -> dict[str, Any]:
    """Watch a camera that goes away once a minute: what grew, and what rows are wrong."""
    recovered: list[float] = []
    with camera(fps=10) as one, lab.score(one.url) as run:
        run.wait_for_rows(10)
        begun = time.monotonic()
        samples: list[Sample] = []
        while (now := time.monotonic() - begun) < seconds:
            left = min(seconds - now, 57)
            samples += [
                sample._replace(seconds=sample.seconds + now)
                for sample in _samples(run, every, functools.partial(operator.gt, left))
            ]
            if now + left < seconds:
                recovered.append(_interrupt(run, one))
        code = run.end()
        seen = judge_live(run, one.base, "", fps=10)
    return {
        "disconnections": len(recovered),
        "recovered_s": {
            "median": round(float(np.median(recovered or [0])), 2),
            "longest": round(max(recovered, default=0), 2),
        },
        "rows": len(run.rows()),
        "lost": seen.lost,
        "doubled": seen.doubled,
        "false": seen.false,
        "exit_code": code,
        **figures_of(samples),
    }


def _interrupt(run: Run, one: Camera) -> float:
    """Kill the server and start it again: the seconds until there are rows."""
    one.peer.kill()
    time.sleep(1)
    one.begin()
    return run.wait_for_rows(1, BACK_S)


def _samples(run: Run, every: float, goes_on: Callable[[float], bool]) -> Iterator[Sample]:
    """Measurements of a run's process, once in ``every`` seconds, while ``goes_on(seconds)``."""
    begun = time.monotonic()
    while goes_on(seconds := time.monotonic() - begun):
        try:
            sample = measure(run, seconds)
        except (OSError, IndexError):
            return  # it has ended
        if not sample.memory_mb:
            return  # it is ending
        yield sample
        time.sleep(every)


def measure(run: Run, seconds: float) -> Sample:
    """What a run's process holds now; raises OSError or IndexError where it has ended."""
    process = Path("/proc") / str(run.peer.process.pid)
    pages = int((process / "statm").read_text().split()[1])
    threads = len(os.listdir(process / "task"))  # noqa: PTH208
    descriptors = len(os.listdir(process / "fd"))  # noqa: PTH208
    return Sample(seconds, pages * os.sysconf("SC_PAGE_SIZE") / 1e6, threads, descriptors)


def figures_of(samples: list[Sample]) -> dict[str, Any]:
    """What a record says of measurements: slope and noise of memory, threads, descriptors."""
    half = np.array(samples[len(samples) // 2 :])
    figures: dict[str, Any] = {
        "seconds": round(samples[-1].seconds, 1),
        "samples": [
            [round(float(value), 2) for value in sample]
            for sample in samples[:: len(samples) // _KEPT + 1]
        ],
        "memory_mb": {
            "largest": round(max(sample.memory_mb for sample in samples), 1),
            "last_quarter": [
                round(sample.memory_mb, 2) for sample in (samples[-len(samples) // 4], samples[-1])
            ],
        },
    }
    for name in ("threads", "descriptors"):
        counts = [getattr(sample, name) for sample in samples]
        early = counts[min(len(counts) - 1, len(counts) // 20)]
        figures[name] = {"early": early, "last": counts[-1], "most": max(counts)}
    if len(half) >= 3 * _PARTS:
        hours, memory = half[:, 0] / 3600, half[:, 1]
        parts = np.array_split(np.arange(len(half)), _PARTS)
        slopes = [np.polyfit(hours[part], memory[part], 1)[0] for part in parts]
        # a part is ten times shorter, so its slope is 10 ** 1.5 times as noisy
        noise = float(np.std(slopes, ddof=1)) / _PARTS**1.5
        figures["memory_mb"] |= {
            "slope_an_hour": round(float(np.polyfit(hours, memory, 1)[0]), 3),
            "noise_an_hour": round(noise, 3),
        }
    return figures


if __name__ == "__main__":
    typer.run(main)
