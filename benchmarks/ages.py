"""How old the frames of live cameras are when their score is known, beside a bare reader.

python -m adae_edge.benchmarks.ages --seconds 60 --json FILE
python -m adae_edge.benchmarks.ages --cameras 10 --fps 10 --json FILE

RTSP servers on this machine send pictures that show when they were made, and the model's score is
what a picture shows. So the ages of the command need no clock. It runs as a process. Beside
it PyAV reads the first camera and does nothing with its frames.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Annotated

import av
import numpy as np
import typer

from adae_edge.benchmarks import record
from adae_edge.benchmarks.faults.lab import Lab, Run, seconds_of
from adae_edge.benchmarks.faults.watching import STARTS_S, Camera, camera
from adae_edge.formats.files import write_json

_OPTIONS = {"rtsp_transport": "tcp", "allowed_media_types": "video", "fflags": "nobuffer"}
_SETTLES_S = 3.0  # until the sender's clock is known


def main(
    cameras: Annotated[int, typer.Option(min=1, help="How many cameras.")] = 1,
    fps: Annotated[int, typer.Option(min=1, help="Frames a second of each.")] = 30,
    seconds: Annotated[float, typer.Option(min=5, help="How long.")] = 60,
    json_file: Annotated[Path | None, typer.Option("--json", help="File of the results.")] = None,
) -> None:
    """Watch cameras by the command and by a bare reader, and tell the ages of both."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as opened:
        lab = Lab.at(Path(name) / "lab")
        watched = [opened.enter_context(camera(fps=fps)) for _ in range(cameras)]
        bare: list[float] = []
        reader = threading.Thread(target=_read, args=(watched[0], bare, seconds), daemon=True)
        with lab.score(*(one.url for one in watched)) as run:
            run.wait_for_rows(10, STARTS_S)
            time.sleep(_SETTLES_S)
            reader.start()
            before, spent, begun = len(run.rows()), _cpu_s(run), time.time()
            time.sleep(seconds)
            rows, spent = run.rows()[before:], _cpu_s(run) - spent
            lasted = time.time() - begun
            run.end()
        reader.join()
    bases = {one.url: one.base for one in watched}
    ages = [
        seconds_of(row) + row["age"] - bases[row["source"]] - row["score"] / fps for row in rows
    ]
    told = [abs(row["age"] - age) for row, age in zip(rows, ages, strict=True)]
    figures = {
        "cameras": cameras,
        "fps": fps,
        "frames": len(rows),
        "frames_sent": round(lasted * fps * cameras),
        "twice": len(rows) - len({(row["source"], row["frame"]) for row in rows}),
        "skipped": run.skipped(),
        "age_ms": _percentiles(ages),
        "bare_reader_age_ms": _percentiles(bare),
        "age_told_is_off_by_ms": _percentiles(told),
        "cpu_ms_a_frame": round(1e3 * spent / max(1, len(rows)), 3),
    }
    for key, value in figures.items():
        typer.echo(f"{key:<24}{value}")
    if json_file is not None:
        write_json(json_file, record.record(**figures))


def _read(one: Camera, ages: list[float], seconds: float) -> None:
    """Read a camera and do nothing, but for the ages of its frames."""
    # By the sender's clock, which is this machine's and right to within a millisecond.
    with av.open(one.url, options=_OPTIONS, timeout=10) as container:
        until = time.time() + seconds
        for frame in container.decode(video=0):
            now = time.time()
            if now > until:
                return
            start = container.start_time_realtime
            if start is not None and frame.time is not None:
                ages.append(now - start / 1e6 - frame.time)


def _cpu_s(run: Run) -> float:
    """The CPU seconds of the command so far."""
    stat = Path(f"/proc/{run.peer.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def _percentiles(values: list[float]) -> dict[str, float]:
    """In milliseconds."""
    if not values:
        return {}
    p50, p99 = np.percentile(values, [50, 99]) * 1e3
    return {"p50": round(float(p50), 2), "p99": round(float(p99), 2)}


if __name__ == "__main__":
    typer.run(main)
