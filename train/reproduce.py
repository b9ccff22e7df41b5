"""``adae-edge reproduce``: a whole table of the paper, a cell for each class and seed, resumable at any point.

The folder of a table: ``cells/`` with three files for each cell (see ``cell.py``), settings.json with what
its cells share, and what is made of the finished cells: TABLE.json, TABLE.md, scores.csv and pictures.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adae_edge import __version__
from adae_edge.errors import AdaeEdgeError, UsageError
from adae_edge.files import write_atomically
from adae_edge.machine import available_threads, machine
from adae_edge.train.cell import Cell, common_settings
from adae_edge.train.progress import TableProgress
from adae_edge.train.tables import Table, find_table

JOBS_ON_A_GPU = 5
_SETTINGS = "settings.json"
_LOCK_WAIT_S = 10.0


@dataclass(frozen=True)
class Request:
    """A table as it was asked for.

    Attributes:
        name: of the table.
        data: the data set's folder, or None where the table needs none.
        out: the table's folder.
        classes, seeds: those that are wanted, in the table's order.
        recipe, epochs, device: as for ``train``.
        jobs: cells at a time.
    """

    name: str
    data: Path | None
    out: Path
    classes: list[str]
    seeds: list[int]
    recipe: str
    epochs: int | None
    jobs: int
    device: str

    @property
    def table(self) -> Table:
        """What is known of it."""
        return find_table(self.name)

    def command(self) -> str:
        """The command that gives the same figures, without the places of this machine."""
        parts = ["adae-edge reproduce", self.name, *(["DIR"] if self.data else []), "--out", self.out.name]
        if self.classes != list(self.table.classes):
            parts += ["--classes", ",".join(self.classes)]
        if self.seeds != list(self.table.seeds):
            parts += ["--seeds", ",".join(map(str, self.seeds))]
        parts += ["--recipe", self.recipe] if self.recipe != "default" else []
        parts += ["--epochs", str(self.epochs)] if self.epochs else []
        parts += ["--device", self.device] if self.device != "cpu" else []
        return " ".join(parts)


def reproduce(request: Request) -> str:
    """Run the cells that are not finished, then write the table, its scores and its pictures.

    Returns:
        The table as Markdown.

    Raises:
        UsageError: the folder holds something else or cells of other settings, or the data set cannot be opened.
        DatasetError: the data set is damaged.
        AdaeEdgeError: some cells failed; the table holds the others.
    """
    from adae_edge.train.figures import write_figures

    first = Cell(
        request.name, request.classes[0], request.seeds[0], str(request.data) if request.data else None,
        request.recipe, request.epochs, request.device, str(request.out / "cells"), settings_sha256="",
    )  # fmt: skip
    settings = common_settings(first)
    with _claimed(request.out, settings) as lock:
        sha256 = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        cells = [
            Cell(**asdict(first) | {"class_name": class_name, "seed": seed, "settings_sha256": sha256})
            for seed, class_name in itertools.product(request.seeds, request.classes)
        ]
        finished = {cell: result for cell in cells if (result := load_result(cell)) is not None}
        write_table(request, settings, finished)
        failures = {}
        with TableProgress(len(cells), len(finished)) as progress, Workers(lock) as workers:
            for cell, failure in workers.run([cell for cell in cells if cell not in finished], request.jobs, progress):
                if failure is not None:
                    failures[cell] = failure
                    progress.failed(cell, failure)
                    continue
                finished[cell] = load_result(cell) or {}
                write_table(request, settings, finished)
                progress.finished(cell, finished[cell]["auroc"], finished[cell]["training_seconds"])
        if finished:
            write_scores(request.out / "scores.csv", [cell for cell in cells if cell in finished])
            write_figures(request, finished)
    if failures:
        raise AdaeEdgeError(
            f"{len(failures)} of {len(cells)} cells failed ({'; '.join(map(str, failures))}): "
            "the same command goes on with them"
        )
    return (request.out / f"{request.name}.md").read_text()


class Workers:
    """The processes of the cells that run; all of them end with the context, or with this process."""

    def __init__(self, lock: int) -> None:
        self._lock = lock
        self._running: dict[Cell, subprocess.Popen[str]] = {}
        self._messages: queue.Queue[tuple[Cell, dict[str, Any] | None]] = queue.Queue()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._running.values():
            process.kill()  # a cell survives that
        for process in self._running.values():
            process.wait()

    def run(self, cells: list[Cell], jobs: int, progress: TableProgress) -> Iterator[tuple[Cell, str | None]]:
        """Run the cells, ``jobs`` at a time; yields each when it ends, with a sentence if it failed.

        Raises:
            UsageError: a cell that cannot be run, for a reason that all cells share.
        """
        waiting = iter(cells)
        errors: dict[Cell, str] = {}
        for cell in itertools.islice(waiting, jobs):
            self._start(cell)
        while self._running:
            cell, message = self._messages.get()
            if message is None:
                code = self._running.pop(cell).wait()
                for following in itertools.islice(waiting, 1):
                    self._start(following)
                yield cell, errors.get(cell) or _ended(code)
            elif message.get("wrong_use"):
                raise UsageError(message["error"])
            elif "error" in message:
                errors[cell] = message["error"]
            else:
                progress.epoch(cell, **message)

    def _start(self, cell: Cell) -> None:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "adae_edge.train.cell", json.dumps(asdict(cell))],
            stdin=subprocess.PIPE,  # its end tells the worker that this process is gone
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=[self._lock],  # a worker that outlives this process for a moment still holds the folder
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        self._running[cell] = process
        threading.Thread(target=self._listen, args=(cell, process), daemon=True).start()

    def _listen(self, cell: Cell, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._messages.put((cell, json.loads(line)))
        self._messages.put((cell, None))


def _ended(code: int) -> str | None:
    if code == 0:
        return None
    if code < 0:
        name = signal.Signals(-code).name
        reason = ", perhaps for want of memory: fewer --jobs need less" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{reason}"
    return f"its process ended with exit code {code}"


@contextlib.contextmanager
def _claimed(out: Path, settings: dict[str, Any]) -> Iterator[int]:
    """Make the table's folder this process's own, and its cells those of the settings.

    Yields:
        The file descriptor that holds the lock.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is no folder: choose another --out")
    known = out / _SETTINGS
    if out.is_dir() and not known.exists() and (foreign := sorted(p.name for p in out.iterdir() if p.name[0] != ".")):
        raise UsageError(f"{out} is not empty, and {foreign[0]} in it is of no table: choose another --out")
    (out / "cells").mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as lock:
        _wait_for(lock.fileno(), out)
        for path in (*out.glob(".*.tmp"), *(out / "cells").glob(".*.tmp")):
            path.unlink()  # half-written by a process that was killed
        if known.exists():
            _compare(known, settings)
        else:
            write_atomically(known, (json.dumps(settings, indent=2) + "\n").encode())
        yield lock.fileno()


def _wait_for(lock: int, out: Path) -> None:
    """Lock the folder; the workers of a killed process need a moment to end."""
    until = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise UsageError(f"another adae-edge reproduce is at work in {out}") from None
            time.sleep(0.1)


def _compare(known: Path, settings: dict[str, Any]) -> None:
    try:
        before = _flat(json.loads(known.read_text()))
    except (ValueError, AttributeError):
        raise UsageError(f"{known} is not of adae-edge reproduce: choose another --out") from None
    now = _flat(settings)
    for name in {**before, **now}:
        if before.get(name) != now.get(name):
            raise UsageError(
                f"{known.parent} holds cells with {name} {before.get(name)}, not {now.get(name)}: choose another --out"
            )


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """{"recipe": {"batch": 64}} -> {"recipe.batch": 64}."""
    flat = {}
    for name, value in settings.items():
        flat |= {f"{name}.{key}": item for key, item in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def load_result(cell: Cell) -> dict[str, Any] | None:
    """The figures of a finished cell, or None.

    Raises:
        UsageError: the file is not of this table, or of other settings.
    """
    if not cell.result.exists():
        return None
    try:
        result: dict[str, Any] = json.loads(cell.result.read_text())
        kept = (result["table"], result["class"], result["seed"], result["settings_sha256"])
    except (ValueError, TypeError, KeyError):
        raise UsageError(f"{cell.result} is no finished cell: remove it, and the same command makes it again") from None
    if kept != (cell.table, cell.class_name, cell.seed, cell.settings_sha256):
        raise UsageError(f"{cell.result} is a cell of other settings: choose another --out")
    return result


def write_table(request: Request, settings: dict[str, Any], finished: dict[Cell, dict[str, Any]]) -> None:
    """Write TABLE.json and TABLE.md of the cells that are finished so far; what is missing is null."""
    summary = summarise(request, settings, finished)
    write_atomically(request.out / f"{request.name}.json", (json.dumps(summary, indent=2) + "\n").encode())
    write_atomically(request.out / f"{request.name}.md", as_markdown(request, summary).encode())


def summarise(request: Request, settings: dict[str, Any], finished: dict[Cell, dict[str, Any]]) -> dict[str, Any]:
    """The table in JSON types. Means are over the finished cells: of each class over seeds, then over classes."""
    results = {(cell.class_name, cell.seed): result for cell, result in finished.items()}
    names = list(dict.fromkeys(name for result in results.values() for name in result["auroc"]))
    scores = {}
    for name in names:
        auroc = {
            class_name: [results.get((class_name, seed), {}).get("auroc", {}).get(name) for seed in request.seeds]
            for class_name in request.classes
        }
        by_class = {class_name: _mean(figures) for class_name, figures in auroc.items()}
        by_seed = [_mean([figures[at] for figures in auroc.values()]) for at in range(len(request.seeds))]
        scores[name] = {
            "auroc": auroc,
            "mean": _mean(list(by_class.values())),
            "spread": _spread(by_seed),
            "class_mean": by_class,
            "class_spread": {class_name: _spread(figures) for class_name, figures in auroc.items()},
        }
    paper = {}
    for method in request.table.paper:
        figures, average = request.table.paper_figures(method, request.classes)
        paper[method] = {"auroc": figures, "mean": average}
    epochs = sorted({result["epochs"] for result in results.values()})
    return {
        "table": request.table.title,
        "classes": {class_name: request.table.classes[class_name] for class_name in request.classes},
        "scores": scores,
        "paper": paper,
        "recipe": {"name": request.recipe, **settings["recipe"]},
        "epochs": epochs[0] if len(epochs) == 1 else epochs,
        "seeds": request.seeds,
        "cells": {"finished": len(results), "wanted": len(request.classes) * len(request.seeds)},
        "training_seconds": round(sum(result["training_seconds"] for result in results.values()), 1),
        "command": request.command(),
        "devices": sorted({result["device"] for result in results.values()}),
        "machine": machine() | {"torch": torch.__version__, "adae_edge": __version__},
        "note": " ".join(["Every figure is of the last epoch.", request.table.note]).strip(),
    }


def as_markdown(request: Request, summary: dict[str, Any]) -> str:
    """The table for people: the paper's columns beside ours, a row for each class."""
    scores, paper = summary["scores"], summary["paper"]
    rows = [["anomaly", *(f"{method}, paper" for method in paper), *(f"{name}, ours" for name in scores)]]
    for class_name, title in summary["classes"].items():
        printed = [f"{column['auroc'][class_name]:.3f}" for column in paper.values()]
        ours = [_figure(own["class_mean"][class_name], own["class_spread"][class_name]) for own in scores.values()]
        rows.append([title, *printed, *ours])
    printed = [f"{column['mean']:.3f}" for column in paper.values()]
    rows.append(["**mean**", *printed, *(f"**{_figure(own['mean'], own['spread'])}**" for own in scores.values())])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"| {' | '.join(text.ljust(width) for text, width in zip(row, widths, strict=True))} |" for row in rows]
    lines.insert(1, f"|{'|'.join('-' * (width + 2) for width in widths)}|")

    cells, host = summary["cells"], summary["machine"]
    seeds = ", ".join(map(str, request.seeds))
    part = f" {cells['finished']} of {cells['wanted']} cells are finished." if len(set(cells.values())) > 1 else ""
    return "\n".join(
        [
            f"# {summary['table']}",
            "",
            "AUROC for each class that is anomalous"
            + (": mean ± standard deviation" if len(request.seeds) > 1 else "")
            + f" of seeds {seeds}; recipe {request.recipe}, epochs {summary['epochs']}.{part} {summary['note']}",
            "",
            *lines,
            "",
            f"`{summary['command']}`",
            "",
            f"{host['cpu']}, {host['usable_cpus']} CPUs; trained on {', '.join(summary['devices'])} for "
            f"{summary['training_seconds']} s in all cells together; PyTorch {host['torch']}, Python {host['python']}, "
            f"adae-edge {host['adae_edge']}",
            "",
        ]
    )


def write_scores(path: Path, cells: list[Cell]) -> None:
    """Every score of every cell in one CSV file: class, seed, frame, label, and a column for each score."""
    parts: list[bytes] = []
    for cell in cells:
        header, _, rows = cell.scores.read_bytes().partition(b"\n")
        parts = parts or [b"class,seed," + header + b"\n"]
        parts += [f"{cell.class_name},{cell.seed},".encode() + row for row in rows.splitlines(keepends=True)]
    write_atomically(path, b"".join(parts))


def make_request(
    name: str,
    data: Path | None,
    out: Path | None,
    classes: str | None,
    seeds: str | None,
    recipe: str,
    epochs: int | None,
    jobs: int | None,
    device: str,
) -> Request:
    """Check what was asked for, and fill in what was left open.

    Raises:
        UsageError: an unknown table or class, no class, a seed that is no number, or the data set's folder is missing.
    """
    table = find_table(name)
    if table.needs_data and (data is None or not data.is_dir()):
        raise UsageError(f"the table {name} needs the folder of its data set, and {data or 'none'} is there")
    if not table.needs_data and data is not None:
        raise UsageError(f"the table {name} needs no data set: leave out {data}")
    wanted = list(table.classes) if classes is None else _listed(classes, "--classes")
    for class_name in wanted:
        if class_name not in table.classes:
            raise UsageError(f"the table {name} has no class {class_name}: choose {', '.join(table.classes)}")
    numbers = list(table.seeds)
    if seeds is not None:
        numbers = [int(seed) if seed.isdecimal() else -1 for seed in _listed(seeds, "--seeds")]
        if not all(0 <= seed < 2**31 for seed in numbers):
            raise UsageError(f"--seeds takes whole numbers from 0 to 2147483647, and {seeds} is something else")
    return Request(
        name=name,
        data=data,
        out=out or Path(name),
        classes=[class_name for class_name in table.classes if class_name in wanted],
        seeds=list(dict.fromkeys(numbers)),
        recipe=recipe,
        epochs=epochs,
        jobs=jobs or (available_threads() if device == "cpu" else JOBS_ON_A_GPU),
        device=device,
    )


def _listed(text: str, option: str) -> list[str]:
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise UsageError(f"{option} takes names with commas between them, and '{text}' leaves one out")
    return parts


def _mean(figures: list[float | None]) -> float | None:
    known = [figure for figure in figures if figure is not None]
    return round(float(np.mean(known)), 5) if known else None


def _spread(figures: list[float | None]) -> float | None:
    """Sample standard deviation."""
    known = [figure for figure in figures if figure is not None]
    return round(float(np.std(known, ddof=1)), 5) if len(known) > 1 else None


def _figure(mean: float | None, spread: float | None) -> str:
    if mean is None:
        return "-"
    return f"{mean:.3f}" if spread is None else f"{mean:.3f} ± {spread:.3f}"
