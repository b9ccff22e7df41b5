"""Kills ``score --resume`` at random moments, and compares its rows with those of an unbroken run.

    python -m adae_edge.benchmarks.kills OUT [--kills 200] [--seed 0]

The pictures are numbered and a row's score is its picture's number, so that no two are alike. One
process writes JSON Lines, CSV and SQLite at once, and sends rows to a webhook that stays, with
a spool between. It gets SIGKILL, and the command is repeated until the source is at its end; then
the rows are compared one by one, and files are begun anew. OUT keeps a line for each such pass, so
that the benchmark itself goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import csv
import json
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from adae_edge.benchmarks.peers import numbers
from adae_edge.benchmarks.peers.broker import once
from adae_edge.benchmarks.peers.webhook import webhook
from adae_edge.benchmarks.record import record
from adae_edge.errors import AdaeEdgeError
from adae_edge.formats.files import write_atomically, write_json

FILES = {"JSON Lines": "rows.jsonl", "CSV": "rows.csv", "SQLite": "rows.db"}
SPOOLED = "spool, webhook"
FAULTS = ("lost", "doubled", "half", "differing")
_COMPARED = ("source", "frame", "video_time", "score", "threshold", "verdict", "wants", "model")
_LONGEST_S = 600
_Row = tuple[str, ...]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="folder for pictures, rows, passes and the table")
    parser.add_argument("--kills", type=int, default=200, help="how many, of all sinks")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    asked = parser.parse_args()
    run_kills(*write_pictures(asked.out), asked.out, asked.kills, asked.seed)


def write_pictures(folder: Path, count: int = 2000) -> tuple[Path, str]:
    """Write numbered pictures into a folder, and the model that reads them: both paths."""
    model, pictures = folder / "model.onnx", folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    model.write_bytes(numbers.model())
    for number in range(1, count + 1):
        Image.fromarray(numbers.picture(number)).save(pictures / f"{number:04}.png")
    return model, str(pictures)


def run_kills(model: Path, source: str, out: Path, kills: int, seed: int = 0) -> dict[str, Any]:
    """Kill, resume and compare until this many kills are done.

    Args:
        model: path of a model file.
        source: as for ``open_source``; it ends, and has no two frames of one score.
        out: folder for everything.
        kills: how many.
        seed: of the moments; a benchmark that goes on draws others.

    Returns:
        The record that is written as kills.json, with a count of each of ``FAULTS`` for each sink.

    Raises:
        AdaeEdgeError: a run that was not killed failed, or frames have the same score.
    """
    out.mkdir(parents=True, exist_ok=True)
    passes = out / "passes.jsonl"
    done = [json.loads(line) for line in passes.read_text().splitlines()] if passes.exists() else []
    started = _first_row_s(model, source, out / "unbroken")
    wanted = {name: _rows(out / "unbroken" / file)[0] for name, file in FILES.items()}
    scores = {row[_COMPARED.index("score")] for row in wanted["JSON Lines"]}
    if len(scores) < len(wanted["JSON Lines"]):
        raise AdaeEdgeError("frames with the same score would hide that their rows were swapped")
    random = np.random.default_rng([seed, len(done)])
    while (left := kills - sum(one["kills"] for one in done)) > 0:
        folder = out / "killed"
        with webhook() as hook:
            killed = _killed_run(model, source, folder, hook.port, started, left, random)
        found = {
            name: _compare(*_rows(folder / file), wanted[name]) for name, file in FILES.items()
        }
        frames = [row for row in once(hook.received) if "score" in row]
        found[SPOOLED] = _compare([_texts(row) for row in frames], 0, wanted["JSON Lines"])
        again = len(hook.received) - len(once(hook.received))
        done.append({"kills": killed, "sinks": found, "again": again})
        with passes.open("a") as file:
            file.write(json.dumps(done[-1]) + "\n")
        print(f"{kills - left + killed} of {kills} kills: {found}", flush=True)
    figures = record(
        kills=sum(one["kills"] for one in done),
        passes=len(done),
        rows=len(wanted["JSON Lines"]),
        sinks={
            name: {fault: sum(one["sinks"][name][fault] for one in done) for fault in FAULTS}
            for name in [*FILES, SPOOLED]
        },
        sent_twice_and_told_by_id=sum(one["again"] for one in done),
    )
    write_json(out / "kills.json", figures)
    write_atomically(out / "kills.md", _page(figures).encode())
    return figures


def _command(model: Path, source: str, folder: Path, port: int | None = None) -> list[str]:
    sinks = [str(folder / file) for file in FILES.values()]
    if port is not None:
        sinks.append(f"http://127.0.0.1:{port}/rows#spool={folder}")
    to = [word for sink in sinks for word in ("--to", sink)]
    return [sys.executable, "-m", "adae_edge", "score", str(model), source, "--resume", *to]


def _begin(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for file in folder.iterdir():
        file.unlink()


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603


def _first_row_s(model: Path, source: str, folder: Path) -> float:
    """Make an unbroken run; the seconds until its first row."""
    _begin(folder)
    began, seconds = time.monotonic(), 0.0
    process = _start(_command(model, source, folder))
    rows = folder / FILES["JSON Lines"]
    while process.poll() is None:
        if not seconds and rows.exists() and rows.stat().st_size:
            seconds = time.monotonic() - began
        time.sleep(0.005)
    if process.returncode or not seconds:
        raise AdaeEdgeError(f"an unbroken run ended with exit code {process.returncode}")
    return seconds


def _killed_run(
    model: Path,
    source: str,
    folder: Path,
    port: int,
    started: float,
    most: int,
    random: np.random.Generator,
) -> int:
    """Kill runs that resume each other until one ends by itself; the number of kills."""
    _begin(folder)
    killed = 0
    while True:
        process = _start(_command(model, source, folder, port))
        try:
            wait = random.uniform(0.2, 2.5) * started if killed < most else _LONGEST_S
            code = process.wait(wait)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
            continue
        if code:
            raise AdaeEdgeError(f"a resumed run ended with exit code {code}")
        return killed


def _rows(path: Path) -> tuple[list[_Row], int]:
    """The rows of frames in a file, as texts of what is compared, and how many are not whole."""
    if path.suffix == ".db":
        database = sqlite3.connect(path)
        try:
            database.row_factory = sqlite3.Row
            found = [dict(row) for row in database.execute("SELECT * FROM frames")]
            whole = database.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        finally:
            database.close()
        return [_texts(row) for row in found], int(not whole)
    lines = path.read_text().splitlines(keepends=True)
    half = sum(not line.endswith("\n") for line in lines)
    if path.suffix == ".csv":
        cells = list(csv.reader(lines))
        half += sum(len(row) != len(cells[0]) for row in cells)
        return [_texts(dict(zip(cells[0], row, strict=False))) for row in cells[1:]], half
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            half += 1
    return [_texts(row) for row in found], half


def _texts(row: dict[str, Any]) -> _Row:
    return tuple("" if row.get(name) is None else str(row[name]) for name in _COMPARED)


def _compare(rows: Sequence[_Row], half: int, wanted: Sequence[_Row]) -> dict[str, int]:
    """How many rows of an unbroken run are lost, doubled, not whole or others."""
    expected = {row[:2]: row for row in wanted}
    counts = Counter(row[:2] for row in rows)
    return {
        "lost": len(expected.keys() - counts.keys()),
        "doubled": sum(count - 1 for count in counts.values()),
        "half": half,
        "differing": sum(expected.get(row[:2]) != row for row in rows),
    }


def _page(figures: dict[str, Any]) -> str:
    """The table as Markdown."""
    rows = [
        f"| {name} | " + " | ".join(str(found[fault]) for fault in FAULTS) + " |"
        for name, found in figures["sinks"].items()
    ]
    return "\n".join(
        [
            "# Killed and resumed",
            "",
            f"`{figures['command']}`",
            "",
            f"{figures['kills']} times SIGKILL at a random moment of `score --resume`, which wrote "
            "all three files at once and sent rows to a webhook with a spool between; "
            f"{figures['passes']} times to the end of {figures['rows']} rows. Each row is compared "
            "with an unbroken run's, but for its `time` and `age`. The webhook leaves out what "
            "comes again with the same `spool` and `id`: "
            f"{figures['sent_twice_and_told_by_id']} rows did.",
            "",
            "| sink | " + " | ".join(FAULTS) + " |",
            "|---|" + "---:|" * len(FAULTS),
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    main()
