"""What a broker and a scraper themselves say of a run, beside what the command says of it.

python -m adae_edge.benchmarks.views --minutes 60 --json FILE

Made-up frames come as from a camera. mosquitto_sub writes down what it receives, and a Prometheus
server is asked for its counters once every row is there.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from adae_edge.benchmarks import record
from adae_edge.benchmarks.faults.lab import Lab, Run
from adae_edge.benchmarks.peers.broker import broker
from adae_edge.benchmarks.peers.processes import free_port, peer, program
from adae_edge.benchmarks.peers.scraper import scraper

_SCRAPE_MS = 2000
_LATE_S = 120  # what a row, a message or a scrape takes at most, once the last frame is there
_SUMMARY = r"(\d+) frames scored, (\d+) anomalous[^,;]*(?:, (\d+) skipped)?"
# What Prometheus is asked of the camera: by the name of each answer, the query.
_QUERIES = {
    "frames": "adae_edge_frames_total{%s}",
    "anomalous": "adae_edge_anomalous_frames_total{%s}",
    "skipped": "adae_edge_skipped_frames_total{%s}",
    "failed": "adae_edge_failed_frames_total{%s}",
    "scrapes_that_saw_it_down": "count_over_time((adae_edge_up{%s} == 0)[1d:2s]) or vector(0)",
    "age_p95_s": "histogram_quantile(0.95, adae_edge_age_seconds_bucket{%s})",
}


def main(
    minutes: Annotated[float, typer.Option(min=0.05, help="How long frames come.")] = 60,
    fps: Annotated[int, typer.Option(min=1, max=1000, help="Frames a second.")] = 30,
    json_file: Annotated[Path | None, typer.Option("--json", help="File of the results.")] = None,
) -> None:
    """Compare counts of rows, of a broker's subscriber and of a Prometheus server."""
    with tempfile.TemporaryDirectory(prefix="views-", ignore_cleanup_errors=True) as folder:
        figures = views(Lab.at(Path(folder, "lab")), round(minutes * 60 * fps), fps)
    record.finish(json_file, **figures)


def views(lab: Lab, frames: int, fps: int) -> dict[str, Any]:
    """What each of them counts of so many frames, of which none is anomalous."""
    port, heard = free_port(), lab.folder / "heard.txt"
    camera, rest = f"synthetic://?fps={fps}&frames={frames}&size=64x48", lab.folder / "rest"
    for name in ("rest", "spool", "scraper"):
        (lab.folder / name).mkdir()
    with (
        broker(lab.folder / "mosquitto") as one,
        heard.open("w") as lines,
        peer(_subscriber(one.port), stdout=lines),
        scraper(lab.folder / "scraper", port, _SCRAPE_MS) as prometheus,
        # The empty folder has no end, so that the metrics can be asked for when the camera has one.
        lab.score(
            camera,
            f"watch:{rest}",
            sinks=[
                f"mqtt://127.0.0.1:{one.port}?spool={lab.folder}/spool",
                f"prometheus:127.0.0.1:{port}",
            ],
        ) as run,
    ):
        run.wait_for("last frame", lambda: _last(run) == frames - 1, frames / fps + _LATE_S)
        rows = len(run.rows())
        run.wait_for("last message", lambda: _heard(heard)[0] >= rows, _LATE_S)
        label = f'source="{camera}"'
        run.wait_for(
            "last scrape", lambda: prometheus.ask(_QUERIES["frames"] % label) == rows, _LATE_S
        )
        asked = {name: prometheus.ask(query % label) for name, query in _QUERIES.items()}
        code = run.end()
    scored, anomalous, skipped = re.search(_SUMMARY, run.text).groups(default="0")  # type: ignore[union-attr]
    received, once = _heard(heard)
    return {
        "frames_made": frames,
        "exit_code": code,
        "summary": {"frames": int(scored), "anomalous": int(anomalous), "skipped": int(skipped)},
        "rows_of_jsonl": rows,
        "mosquitto_sub": {"rows": received, "different_rows": once},
        "prometheus": asked,
    }


def _subscriber(port: int) -> list[object]:
    """What starts mosquitto's own subscriber, which prints a message a line."""
    command = [program("mosquitto_sub"), "-p", port, "-t", "adae-edge/frames"]
    return [*command, "-q", 1, "-i", "views", "-c", "-F", "%p"]


def _last(run: Run) -> int:
    """The number of the last frame that has a row; -1 before the first."""
    if not run.rows_file.exists():
        return -1
    with run.rows_file.open("rb") as lines:
        lines.seek(max(0, run.rows_file.stat().st_size - 4096))
        frames = re.findall(rb'"frame": (\d+)', lines.read())
    return int(frames[-1]) if frames else -1


def _heard(path: Path) -> tuple[int, int]:
    """How many rows a subscriber wrote down, and how many of them differ by their ids."""
    ids = re.findall(r'"id": (\d+), "spool"', path.read_text())
    return len(ids), len(set(ids))


if __name__ == "__main__":
    typer.run(main)
