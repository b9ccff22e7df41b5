"""What a row costs the scoring loop, whatever sinks are behind it.

python -m adae_edge.benchmarks.rows [--seconds 20] [--rate 100] [--json FILE]

Results are handed over as the loop does it, once with no sink and once with all of them: files, a
database, a broker, a webhook that is not there, and metrics. "put" is what one row costs the
loop: its thread's own time, and the wall's, in which others compute, too. "sinks_cpu" is what all
other threads of this process compute for a row.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from adae_edge.benchmarks import record
from adae_edge.benchmarks.peers.broker import broker
from adae_edge.benchmarks.peers.processes import free_port
from adae_edge.runtime.delivery import Delivery
from adae_edge.runtime.frame import Frame, Scored
from adae_edge.runtime.sinks.registry import open_sink

_WARM_UP = 50  # rows


def main(
    seconds: Annotated[float, typer.Option(min=1, help="How long each measurement is.")] = 20,
    rate: Annotated[float, typer.Option(min=1, help="Rows a second.")] = 100,
    json_file: Annotated[Path | None, typer.Option("--json", help="File of the results.")] = None,
) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder, broker(Path(folder) / "broker") as one:
        place = Path(folder)
        spool = f"spool={folder}"
        files = [str(place / f"rows.{kind}") for kind in ("jsonl", "csv", "db")]
        servers = [
            f"mqtt://127.0.0.1:{one.port}?{spool}",
            f"http://127.0.0.1:9/rows#{spool}",  # where nobody listens
            f"prometheus:127.0.0.1:{free_port()}",
        ]
        figures = {
            "no sink": cost([], seconds, rate),
            "files": cost(files, seconds, rate),
            "files and servers": cost([*files, *servers], seconds, rate),
        }
    record.finish(json_file, rate=rate, seconds=seconds, costs=figures)


def cost(sinks: Sequence[str], seconds: float, rate: float) -> dict[str, Any]:
    """Hand rows over at a rate: microseconds a row."""
    delivery = Delivery(lambda event: None)
    rows = int(seconds * rate)
    taken: list[tuple[int, int]] = []
    with contextlib.ExitStack() as opened:
        for name in sinks:
            delivery.add(opened.enter_context(open_sink(name)))
        with delivery.running(for_ever=True):
            begun = time.monotonic()
            for number in range(rows):
                if number == _WARM_UP:
                    cpu = time.process_time_ns() - time.thread_time_ns()
                time.sleep(max(0.0, begun + number / rate - time.monotonic()))
                scored = _scored(number)
                before = time.perf_counter_ns(), time.thread_time_ns()
                delivery.put([scored])
                after = time.perf_counter_ns(), time.thread_time_ns()
                taken.append((after[0] - before[0], after[1] - before[1]))
            cpu = time.process_time_ns() - time.thread_time_ns() - cpu
    wall, own = np.percentile(np.array(taken[_WARM_UP:]) / 1000, [50, 99], axis=0).T.round(1)
    return {
        "put_us": {"p50": float(own[0]), "p99": float(own[1])},
        "put_wall_us": {"p50": float(wall[0]), "p99": float(wall[1])},
        "sinks_cpu_us": round(cpu / 1000 / (rows - _WARM_UP), 1),
    }


def _scored(number: int) -> Scored:
    pixels = np.zeros((0, 0, 3), np.uint8)
    frame = Frame("camera:0", number, time.time(), pixels, full=(480, 640))
    return Scored(frame, 1.25, 2.0, 0.004, model="90f3d94cb19b")


if __name__ == "__main__":
    typer.run(main)
