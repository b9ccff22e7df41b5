"""``adae-edge reproduce``: a whole table of the paper, resumable at any point.

The folder of a table holds ``cells/`` with the files of each cell (see ``cell.py``), settings.json
with what its cells share, and what is made of the finished cells: TABLE.json, TABLE.md, scores.csv,
epochs.csv and pictures.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from adae_edge.errors import AdaeEdgeError, UsageError
from adae_edge.formats.files import write_json
from adae_edge.train.progress import TableProgress
from adae_edge.train.tables.cell import Cell, common_settings
from adae_edge.train.tables.pictures import write_pictures
from adae_edge.train.tables.request import TablePlan
from adae_edge.train.tables.summary import write_epochs, write_scores, write_table
from adae_edge.train.tables.workers import Workers

_SETTINGS = "settings.json"
_LOCK_WAIT_S = 10.0


def reproduce(plan: TablePlan) -> str:
    """Run the cells that are not finished, then write the table, its scores and its pictures.

    Returns:
        The table as Markdown.

    Raises:
        UsageError: the folder holds something else or cells of other settings, or the data set
            cannot be opened.
        DatasetError: the data set is damaged.
        AdaeEdgeError: some cells failed; the table holds the others.
    """
    settings = common_settings(_cell(plan, plan.classes[0], plan.seeds[0]))
    with _claimed(plan.out, settings) as lock:
        # cells, and those that are finished
        sha256 = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        cells = [
            _cell(plan, class_name, seed, sha256)
            for seed, class_name in itertools.product(plan.seeds, plan.classes)
        ]
        finished = {}
        for cell in cells:
            result = cell.load_result()
            if result is not None:
                finished[cell] = result
        write_table(plan, settings, finished)

        # run the others, and write the table after each
        failures: dict[Cell, str] = {}
        missing = [cell for cell in cells if cell not in finished]
        with TableProgress(len(cells), len(finished)) as progress, Workers(lock) as workers:
            for cell, failure in workers.run(missing, plan.jobs, progress):
                if failure is not None:
                    failures[cell] = failure
                    progress.failed(cell, failure)
                    continue
                result = cell.load_result()
                assert result is not None
                finished[cell] = result
                write_table(plan, settings, finished)
                progress.finished(cell, result["auroc"], result["training_seconds"])

        # put the finished ones together
        done = [cell for cell in cells if cell in finished]
        _write_together(plan, done, _failed(failures, len(cells)))
    if failures:
        raise AdaeEdgeError(_failed(failures, len(cells)))
    return (plan.out / f"{plan.name}.md").read_text()


def _cell(plan: TablePlan, class_name: str, seed: int, settings_sha256: str = "") -> Cell:
    """Make one cell of a table."""
    return Cell(
        table=plan.name,
        class_name=class_name,
        seed=seed,
        data=str(plan.data) if plan.data else None,
        recipe=plan.recipe,
        epochs=plan.epochs,
        device=plan.device,
        folder=str(plan.out / "cells"),
        settings_sha256=settings_sha256,
    )


def _failed(failures: dict[Cell, str], count: int) -> str:
    """Name the cells that failed; "" where none did."""
    if not failures:
        return ""
    names = "; ".join(map(str, failures))
    return f"{len(failures)} of {count} cells failed ({names}): the same command goes on with them"


def _write_together(plan: TablePlan, done: list[Cell], failed: str) -> None:
    """Write scores.csv, epochs.csv and the pictures of the finished cells.

    Raises:
        AdaeEdgeError: the cells do not go together; ``failed`` begins the sentence.
    """
    if not done:
        return
    try:
        write_scores(plan.out / "scores.csv", done)
        write_epochs(plan.out / "epochs.csv", done)
        write_pictures(plan, done)
    except AdaeEdgeError as error:
        if failed:
            raise AdaeEdgeError(f"{failed}; and {error}") from error
        raise


@contextlib.contextmanager
def _claimed(out: Path, settings: dict[str, Any]) -> Iterator[int]:
    """Make the table's folder this process's own, and its cells those of the settings.

    Yields:
        The file descriptor that holds the lock.

    Raises:
        UsageError: another process is at work in it, or it holds something else.
    """
    # a folder of this table, or a new one
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is no folder: choose another --out")
    known = out / _SETTINGS
    if out.is_dir() and not known.exists():
        foreign = sorted(path.name for path in out.iterdir() if path.name[0] != ".")
        if foreign:
            raise UsageError(
                f"{out} is not empty, and {foreign[0]} in it is of no table: choose another --out"
            )
    out.mkdir(parents=True, exist_ok=True)

    # its lock; the workers of a killed process need a moment to end
    descriptors: list[int] = []
    lock = FileLock(out / ".lock", timeout=_LOCK_WAIT_S, on_acquired=descriptors.append)
    try:
        claim = lock.acquire()
    except Timeout as error:
        raise UsageError(f"another adae-edge reproduce is at work in {out}") from error

    with claim:
        # what a killed process wrote half
        for path in (*out.glob(".*.tmp"), *(out / "cells").glob(".*.tmp")):
            path.unlink()
        if known.exists():
            _compare(known, settings)
        else:
            write_json(known, settings)
        (out / "cells").mkdir(exist_ok=True)
        yield descriptors[0]


def _compare(known: Path, settings: dict[str, Any]) -> None:
    """Refuse a folder whose cells have other settings."""
    try:
        before = _flat(json.loads(known.read_text()))
    except (ValueError, AttributeError) as error:
        raise UsageError(f"{known} is not of adae-edge reproduce: choose another --out") from error
    now = _flat(settings)
    for name in {**before, **now}:
        if before.get(name) == now.get(name):
            continue
        if name == "data_sha256":
            raise UsageError(f"{known.parent} holds cells of other data: choose another --out")
        raise UsageError(
            f"{known.parent} holds cells with {name} {before.get(name)}, not {now.get(name)}: "
            "choose another --out"
        )


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Turn {"recipe": {"batch": 64}} into {"recipe.batch": 64}."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{key}": item for key, item in value.items()}
        else:
            flat[name] = value
    return flat
