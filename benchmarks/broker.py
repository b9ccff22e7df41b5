"""A broker that is away for minutes: what scoring notices, and what arrives afterwards.

python -m adae_edge.benchmarks.broker --minutes 10 --rate 30 --json FILE

The real command scores made-up frames, and sends rows to mosquitto and to a file. The broker is
there for a while, is stopped, and is begun again. Ages are those in the rows: seconds from a
frame's time until its score was known. "cpu" is the share of a core that the process takes.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer

from adae_edge.benchmarks import record
from adae_edge.benchmarks.faults.lab import Lab, Row, Run, seconds_of
from adae_edge.benchmarks.peers.broker import Subscriber, broker, once, subscriber, wait_until
from adae_edge.benchmarks.soak import Sample, figures_of, measure

_THERE_S = 60.0  # how long the broker is there before and after
_SETTLES_S = 5.0  # until the command has started
_EVERY_S = 2.0


class Phase(NamedTuple):
    """A part of the run: its name, its two ends in seconds since 1970, and its share of a core."""

    name: str
    begun: float
    ended: float
    cpu: float


def main(
    minutes: Annotated[float, typer.Option(min=0.1, help="How long the broker is away.")] = 10,
    rate: Annotated[float, typer.Option(min=1, help="Frames a second.")] = 30,
    json_file: Annotated[Path | None, typer.Option("--json", help="File of the results.")] = None,
) -> None:
    """Run the command without its broker, and tell what became of the rows."""
    with tempfile.TemporaryDirectory(prefix="broker-", ignore_cleanup_errors=True) as folder:
        figures = broker_away(Lab.at(Path(folder, "lab")), minutes * 60, rate)
    record.finish(json_file, **figures)


def broker_away(lab: Lab, seconds: float, rate: float) -> dict[str, Any]:
    """Stop the broker for so long: what the record says."""
    source = f"synthetic://?fps={rate:g}&size=320x240"
    there = min(_THERE_S, seconds)
    samples: list[Sample] = []
    with broker(lab.folder / "broker") as one, subscriber(one.port) as heard:
        sink = f"mqtt://127.0.0.1:{one.port}?spool={lab.folder}"
        with lab.score(source, sinks=[sink]) as run:
            run.wait_for_rows(int(_SETTLES_S * rate))
            phases = [_watch(run, "there", there, samples)]
            one.stop()
            phases.append(_watch(run, "away", seconds, samples))
            waited = len(run.rows()) - len(heard.frames)
            one.begin()
            phases.append(_watch(run, "there again", there, samples))
            code = run.end()
        rows = run.rows()
        frames = [row["frame"] for row in rows]
        with contextlib.suppress(TimeoutError):  # what does not arrive is counted as lost
            wait_until(lambda: len(heard.frames) >= len(frames))
    told = [event["detail"] for event in run.events() if event["event"] == "sink"]
    return {
        "rate": rate,
        "minutes_away": seconds / 60,
        "exit_code": code,
        "phases": {phase.name: _of_phase(phase, rows) for phase in phases},
        "waited_when_it_came_back": waited,
        "rows": len(rows),
        **_arrived(heard, frames),
        "told": [detail.replace(str(lab.folder), "LAB") for detail in told],
        **figures_of([each._replace(seconds=each.seconds - phases[0].begun) for each in samples]),
    }


def _watch(run: Run, name: str, seconds: float, samples: list[Sample]) -> Phase:
    """Let so much time go by, and measure."""
    begun, cpu = time.time(), _cpu_s(run)
    while (left := begun + seconds - time.time()) > 0:
        samples.append(measure(run, time.time()))
        time.sleep(min(left, _EVERY_S))
    ended = time.time()
    return Phase(name, begun, ended, (_cpu_s(run) - cpu) / (ended - begun))


def _cpu_s(run: Run) -> float:
    """Seconds that the process computed so far."""
    stat = Path(f"/proc/{run.peer.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def _of_phase(phase: Phase, rows: list[Row]) -> dict[str, float]:
    """Rate and ages of the frames that were captured in a phase."""
    ages = [row["age"] for row in rows if phase.begun <= seconds_of(row) < phase.ended]
    percentiles = np.percentile(ages or [0], [50, 99, 100]) * 1000
    return {
        "seconds": round(phase.ended - phase.begun, 1),
        "rate": round(len(ages) / (phase.ended - phase.begun), 2),
        **dict(zip(("age_p50_ms", "age_p99_ms", "age_max_ms"), percentiles.round(1), strict=True)),
        "cpu": round(phase.cpu, 3),
    }


def _arrived(heard: Subscriber, frames: list[int]) -> dict[str, int | bool]:
    """What became of the rows: those that came twice are told by their spool and id."""
    arrived = [row["frame"] for row in heard.frames]
    return {
        "arrived": len(arrived),
        "lost": len(set(frames) - set(arrived)),
        "doubled": len(arrived) - len(set(arrived)),
        "sent_twice_and_told_by_id": len(heard.received) - len(once(heard.received)),
        "in_order": arrived == sorted(arrived),
    }


if __name__ == "__main__":
    typer.run(main)
