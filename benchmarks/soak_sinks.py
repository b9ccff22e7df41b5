"""Whether anything grows while made-up frames go through every sink at once.

python -m adae_edge.benchmarks.soak_sinks --frames 1000000 --json FILE

The peers are real: a mosquitto with a subscriber, a web server that takes rows, and a scraper. One
frame of a hundred is a picture of a folder and anomalous, so that it is saved. Rows that the end of
the run leaves in a spool are counted as waiting.

Measurements are appended to FILE.samples as they come, and stay there if the machine goes down. An
interrupted run ends as the command does, and its figures are those of the frames until then.
"""

from __future__ import annotations

import contextlib
import csv
import http.client
import json
import re
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Annotated, Any

import typer
from PIL import Image

from adae_edge.benchmarks import record
from adae_edge.benchmarks.faults.lab import Lab, Run
from adae_edge.benchmarks.peers.broker import broker, subscriber
from adae_edge.benchmarks.peers.numbers import picture
from adae_edge.benchmarks.peers.processes import free_port
from adae_edge.benchmarks.peers.webhook import webhook
from adae_edge.benchmarks.soak import Sample, figures_of, measure

_RING = "10MB"  # what pictures, and what videos may take
_ONE_OF = 100  # frames, this one is anomalous


class _Counted(list[Any]):
    """In place of a list of rows: keeps which came, and not what was in them."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[int] = set()

    def append(self, row: Any) -> None:
        if "score" in row:
            self.ids.add(row["id"])

    def extend(self, rows: Iterable[Any]) -> None:
        for row in rows:
            self.append(row)


def main(
    frames: Annotated[int, typer.Option(min=1, help="How many made-up frames.")] = 1_000_000,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between measurements.")] = 2,
    json_file: Annotated[Path | None, typer.Option("--json", help="File of the results.")] = None,
) -> None:
    """Score made-up frames into every sink at once, and tell what grew."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        kept = json_file.with_name(f"{json_file.name}.samples") if json_file else folder / "samples"
        with kept.open("w") as samples:
            figures = soak_sinks(Lab.at(folder / "lab"), frames, every, samples)
    record.finish(json_file, soak="sinks", **figures)
    if json_file:
        kept.unlink()


def soak_sinks(lab: Lab, frames: int, every: float, kept: IO[str]) -> dict[str, Any]:
    """What grew over so many frames, and how many rows each sink has or still holds back.

    Measurements are also written to ``kept``, a line each.
    """
    with broker(lab.folder / "mosquitto") as one, subscriber(one.port) as heard, webhook() as hook:
        heard.received = by_mqtt = _Counted()
        hook.received = by_http = _Counted()
        hook.posts = _Counted()  # none of them
        port = free_port()
        sinks = [
            "terminal",
            f"csv:{lab.folder}/rows.csv",
            f"sqlite:{lab.folder}/rows.sqlite",
            f"prometheus:127.0.0.1:{port}",
            f"mqtt://127.0.0.1:{one.port}?limit=4GB&spool={lab.folder}/spool",
            f"http://127.0.0.1:{hook.port}/rows#limit=4GB&spool={lab.folder}/spool",
            f"pictures:{lab.folder}/pictures?limit={_RING}",
            f"video:{lab.folder}/all.mp4?limit={_RING}&minutes=1",
        ]
        (lab.folder / "spool").mkdir()
        sources = _sources(lab.folder / "anomalous", frames)
        options = "--threshold", 0, "--alarm", "3/10"
        with lab.score(*sources, sinks=sinks, options=options, stdout=subprocess.DEVNULL) as run:
            samples: list[Sample] = []
            interrupted = None
            try:
                for sample in _watched(run, every, port):
                    samples.append(sample)
                    print(json.dumps(sample), file=kept, flush=True)
            except KeyboardInterrupt:
                interrupted = signal.SIGTERM
            code = run.end(interrupted)
    waiting = {
        name.split(":")[0]: int(count)
        for count, name in re.findall(r"(\d+) wait for (\S+)", run.text)
    }
    with open(run.rows_file, "rb") as lines:  # noqa: PTH123
        by_lines = sum(b'"score": ' in line for line in lines)
    return {
        "frames": frames,
        "interrupted": interrupted is not None,
        "exit_code": code,
        "rows": {
            "jsonl": by_lines,
            "csv": _csv_rows(lab.folder / "rows.csv"),
            "sqlite": _sqlite_rows(lab.folder / "rows.sqlite"),
            "mqtt": len(by_mqtt.ids),
            "http": len(by_http.ids),
        },
        "waiting": waiting,
        "pictures_mb": _megabytes(lab.folder / "pictures", "**/*.*"),
        "videos_mb": _megabytes(lab.folder, "*.mp4"),
        **figures_of(samples),
    }


def _sources(folder: Path, frames: int) -> list[str]:
    """Made-up frames, numbered pictures, which are anomalous, and made-up frames again."""
    folder.mkdir()
    pictures = max(1, frames // _ONE_OF)
    first = folder / "000000.png"
    Image.fromarray(picture(7, 64, 48)).save(first)
    for number in range(1, pictures):
        (folder / f"{number:06}.png").hardlink_to(first)
    half = (frames - pictures) // 2
    rest = frames - pictures - half
    made_up = [f"synthetic://?frames={half}&size=64x48", f"synthetic://?frames={rest}&size=64x40"]
    return [made_up[0], str(folder), made_up[1]]


def _watched(run: Run, every: float, port: int) -> Iterable[Sample]:
    """Measurements while the process runs; it is scraped at each."""
    begun = time.monotonic()
    while run.peer.process.poll() is None:
        with contextlib.suppress(OSError, IndexError):
            sample = measure(run, time.monotonic() - begun)
            scraper = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            with contextlib.closing(scraper):
                scraper.request("GET", "/metrics")
                scraper.getresponse().read()
            yield sample
        time.sleep(every)


def _megabytes(folder: Path, pattern: str) -> float:
    return round(sum(path.stat().st_size for path in folder.glob(pattern)) / 1e6, 2)


def _csv_rows(path: Path) -> int:
    with path.open(newline="") as lines:
        return sum(bool(row["score"]) for row in csv.DictReader(lines))


def _sqlite_rows(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return int(database.execute("SELECT COUNT(*) FROM frames").fetchone()[0])


if __name__ == "__main__":
    typer.run(main)
