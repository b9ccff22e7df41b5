"""``adae-edge reproduce``: a whole table of the paper, a cell for each class and seed, resumable at any point.

The folder of a table: ``cells/`` with the files of each cell (see ``cell.py``), settings.json with
what its cells share, and what is made of the finished cells: TABLE.json, TABLE.md, scores.csv and
pictures.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from adae_edge.errors import AdaeEdgeError, UsageError
from adae_edge.formats.files import write_atomically
from adae_edge.train.progress import TableProgress
from adae_edge.train.tables.cell import Cell, common_settings
from adae_edge.train.tables.pictures import write_figures
from adae_edge.train.tables.summary import write_scores, write_table
from adae_edge.train.tables.tables import Request

_SETTINGS = "settings.json"
_LOCK_WAIT_S = 10.0


def reproduce(request: Request) -> str:
    """Run the cells that are not finished, then write the table, its scores and its pictures.

    Returns:
        The table as Markdown.

    Raises:
        UsageError: the folder holds something else or cells of other settings, or the data set
            cannot be opened.
        DatasetError: the data set is damaged.
        AdaeEdgeError: some cells failed; the table holds the others.
    """
    first = Cell(
        request.name, request.classes[0], request.seeds[0], str(request.data) if request.data else None,
        request.recipe, request.epochs, request.device, str(request.out / "cells"), settings_sha256="",
    )  # fmt: skip
    settings = common_settings(first)
    with _claimed(request.out, settings) as lock:
        sha256 = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        cells = [
            Cell(
                **asdict(first)
                | {"class_name": class_name, "seed": seed, "settings_sha256": sha256}
            )
            for seed, class_name in itertools.product(request.seeds, request.classes)
        ]
        finished = {cell: result for cell in cells if (result := load_result(cell)) is not None}
        write_table(request, settings, finished)
        failures = {}
        with TableProgress(len(cells), len(finished)) as progress, Workers(lock) as workers:
            for cell, failure in workers.run(
                [cell for cell in cells if cell not in finished], request.jobs, progress
            ):
                if failure is not None:
                    failures[cell] = failure
                    progress.failed(cell, failure)
                    continue
                result = load_result(cell)
                assert result is not None
                finished[cell] = result
                write_table(request, settings, finished)
                progress.finished(cell, result["auroc"], result["training_seconds"])
        failed = (
            f"{len(failures)} of {len(cells)} cells failed ({'; '.join(map(str, failures))}): "
            "the same command goes on with them"
        )
        if done := [cell for cell in cells if cell in finished]:
            try:
                write_scores(request.out / "scores.csv", done)
                write_figures(request, done)
            except AdaeEdgeError as error:
                if failures:
                    raise AdaeEdgeError(f"{failed}; and {error}") from None
                raise
    if failures:
        raise AdaeEdgeError(failed)
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
            assert process.stdin is not None
            process.stdin.close()
            process.wait()

    def run(
        self, cells: list[Cell], jobs: int, progress: TableProgress
    ) -> Iterator[tuple[Cell, str | None]]:
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
                with self._running.pop(cell) as process:
                    process.wait()
                for following in itertools.islice(waiting, 1):
                    self._start(following)
                yield cell, errors.get(cell) or _ended(process.returncode)
            elif message.get("wrong_use"):
                raise UsageError(message["error"])
            elif "error" in message:
                errors[cell] = message["error"]
            else:
                progress.epoch(cell, **message)

    def _start(self, cell: Cell) -> None:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "adae_edge.train.tables.cell", json.dumps(asdict(cell))],
            stdin=subprocess.PIPE,  # its end tells the worker that this process is gone
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=[
                self._lock
            ],  # a worker that outlives this process for a moment still holds the folder
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            # a terminal's Ctrl-C reaches this process alone, which ends its workers
            process_group=0,
        )
        self._running[cell] = process
        threading.Thread(target=self._listen, args=(cell, process), daemon=True).start()

    def _listen(self, cell: Cell, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        try:
            with process.stdout as lines:
                for line in lines:
                    self._messages.put((cell, json.loads(line)))
        finally:
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
    if (
        out.is_dir()
        and not known.exists()
        and (foreign := sorted(p.name for p in out.iterdir() if p.name[0] != "."))
    ):
        raise UsageError(
            f"{out} is not empty, and {foreign[0]} in it is of no table: choose another --out"
        )
    out.mkdir(parents=True, exist_ok=True)
    descriptors: list[int] = []
    # The workers of a killed process need a moment to end.
    lock = FileLock(out / ".lock", timeout=_LOCK_WAIT_S, on_acquired=descriptors.append)
    try:
        claim = lock.acquire()
    except Timeout as error:
        raise UsageError(f"another adae-edge reproduce is at work in {out}") from error
    with claim:
        for path in (*out.glob(".*.tmp"), *(out / "cells").glob(".*.tmp")):
            path.unlink()  # half-written by a process that was killed
        if known.exists():
            _compare(known, settings)
        else:
            write_atomically(known, (json.dumps(settings, indent=2) + "\n").encode())
        (out / "cells").mkdir(exist_ok=True)
        yield descriptors[0]


def _compare(known: Path, settings: dict[str, Any]) -> None:
    try:
        before = _flat(json.loads(known.read_text()))
    except (ValueError, AttributeError):
        raise UsageError(f"{known} is not of adae-edge reproduce: choose another --out") from None
    now = _flat(settings)
    for name in {**before, **now}:
        if before.get(name) != now.get(name):
            if name == "data_sha256":
                raise UsageError(f"{known.parent} holds cells of other data: choose another --out")
            raise UsageError(
                f"{known.parent} holds cells with {name} {before.get(name)}, not {now.get(name)}: "
                "choose another --out"
            )


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """{"recipe": {"batch": 64}} -> {"recipe.batch": 64}."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= (
            {f"{name}.{key}": item for key, item in value.items()}
            if isinstance(value, dict)
            else {name: value}
        )
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
        raise UsageError(
            f"{cell.result} is no finished cell: remove it, and the same command makes it again"
        ) from None
    if kept != (cell.table, cell.class_name, cell.seed, cell.settings_sha256):
        raise UsageError(f"{cell.result} is a cell of other settings: choose another --out")
    return result
