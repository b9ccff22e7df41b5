"""What is made of a table's finished cells: TABLE.json, TABLE.md, scores.csv and epochs.csv."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from adae_edge.errors import AdaeEdgeError
from adae_edge.formats.files import write_atomically, write_json
from adae_edge.train.tables.cell import Cell
from adae_edge.train.tables.epochs import best_epochs, read_aurocs
from adae_edge.train.tables.markdown import as_markdown
from adae_edge.train.tables.request import TablePlan

# The figures of the cells that are finished, by class and seed.
_Results = dict[tuple[str, int], dict[str, Any]]


def write_table(
    plan: TablePlan, settings: dict[str, Any], finished: dict[Cell, dict[str, Any]]
) -> None:
    """Write TABLE.json and TABLE.md of the cells finished so far; what is missing is null."""
    summary = summarise(plan, settings, finished)
    write_json(plan.out / f"{plan.name}.json", summary)
    write_atomically(plan.out / f"{plan.name}.md", as_markdown(plan, summary).encode())


def summarise(
    plan: TablePlan, settings: dict[str, Any], finished: dict[Cell, dict[str, Any]]
) -> dict[str, Any]:
    """Put the finished cells together, in JSON types.

    Means are over the finished cells: of each class over seeds, then over classes.

    Args:
        plan: the table.
        settings: what its cells share.
        finished: the figures of each cell that is finished.
    """
    results = {(cell.class_name, cell.seed): result for cell, result in finished.items()}
    every = list(results.values())
    epochs = sorted({result["epochs"] for result in every})
    devices = sorted({result["device"] for result in every})
    seconds = sum(result["training_seconds"] for result in every)
    patients = max((result["patients"] or 0 for result in every), default=0)
    return {
        "table": plan.table.title,
        "classes": {name: plan.table.classes[name] for name in plan.classes},
        "scores": _scores(plan, results),
        "yardsticks": _yardsticks(plan, results),
        "no_result_best_epoch_by_the_test_set": _best_epochs(plan, results),
        "paper": _paper(plan),
        "data_sha256": settings["data_sha256"],
        "test": {kind: _by_class(plan, results, "test", kind) for kind in ("normals", "anomalous")},
        "patients": patients or None,
        "recipe": {"name": plan.recipe, **settings["recipe"]},
        "epochs": epochs[0] if len(epochs) == 1 else epochs,
        "seeds": plan.seeds,
        "cells": {"finished": len(results), "wanted": len(plan.classes) * len(plan.seeds)},
        "training_seconds": round(seconds, 1),
        "command": plan.command(devices),
        "devices": devices,
        "machines": _machines(every),
        "note": _note(plan, every),
    }


def write_epochs(path: Path, cells: list[Cell]) -> None:
    """Write the AUROCs of the test frames after each epoch of every cell into one CSV file.

    Its columns are class, seed, epoch, and each score's name. Without epochs there is no file.

    Raises:
        UsageError: as ``read_aurocs``.
    """
    rows = [
        {"class": cell.class_name, "seed": cell.seed, **row}
        for cell in cells
        for row in read_aurocs(cell.epochs_file)
    ]
    if not rows:
        return
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    text = "".join(",".join(map(str, line)) + "\n" for line in lines)
    write_atomically(path, text.encode())


def write_scores(path: Path, cells: list[Cell]) -> None:
    """Write every score of every cell into one CSV file.

    Its columns are class, seed, frame, label, and each named score.

    Raises:
        AdaeEdgeError: some cells were scored by another version, which knew other scores.
    """
    first = _header(cells[0])
    lines = [b"class,seed," + first]
    for cell in cells:
        header, *rows = cell.scores.read_bytes().splitlines(keepends=True)
        if header != first:
            raise AdaeEdgeError(
                f"{cell.scores} has other scores than {cells[0].scores}: remove the .json files of "
                "those that lack some, and the same command scores them again without training"
            )
        lines += [f"{cell.class_name},{cell.seed},".encode() + row for row in rows]
    write_atomically(path, b"".join(lines))


def _header(cell: Cell) -> bytes:
    """Read the first line of a cell's scores."""
    with cell.scores.open("rb") as file:
        return file.readline()


def _scores(plan: TablePlan, results: _Results) -> dict[str, Any]:
    """Collect the AUROCs of each named score, and their means."""
    names = dict.fromkeys(name for result in results.values() for name in result["auroc"])
    scores = {name: _means(_by_class(plan, results, "auroc", name)) for name in names}
    if plan.table.development:
        for name, score in scores.items():
            outside = _means(_by_class(plan, results, "auroc_outside_development", name))
            kept = ("mean", "spread", "class_mean")
            score["outside_development"] = {figure: outside[figure] for figure in kept}
    if any("auroc_same_area" in result for result in results.values()):
        for name, score in scores.items():
            score["same_area"] = _means(_by_class(plan, results, "auroc_same_area", name))
    return scores


def _yardsticks(plan: TablePlan, results: _Results) -> dict[str, Any]:
    """Collect what simple scores reach: the best one of each class, and the best one for all.

    Those that a finished cell does not have, as the worse side of a property, are the best nowhere.
    """
    measured = {key: result.get("yardsticks", {}) for key, result in results.items()}
    every = {
        name: _means(_by_class(plan, results, "yardsticks", name))
        for name in dict.fromkeys(name for figures in measured.values() for name in figures)
    }

    def best_of(classes: list[str], means: dict[str, float]) -> str | None:
        cells = [figures for (name, _), figures in measured.items() if name in classes]
        shared = [name for name in means if all(name in figures for figures in cells)]
        return max(shared, key=means.__getitem__) if cells and shared else None

    best = {
        wanted: best_of([wanted], {name: every[name]["class_mean"][wanted] for name in every})
        for wanted in plan.classes
    }
    missing: list[float | None] = [None] * len(plan.seeds)
    auroc = {name: every[of]["auroc"][name] if of else missing for name, of in best.items()}
    alone = best_of(plan.classes, {name: figures["mean"] for name, figures in every.items()})
    return {
        "best": best,
        **_means(auroc),
        "one_for_all": {"name": alone, "mean": every[alone]["mean"] if alone else None},
        "every": {name: figures["class_mean"] for name, figures in every.items()},
    }


def _best_epochs(plan: TablePlan, results: _Results) -> dict[str, Any]:
    """Collect what a choice of the epoch by the test set would give, by score: no result."""
    chosen = {key: best_epochs(result.get("auroc_by_epoch", [])) for key, result in results.items()}
    names = dict.fromkeys(name for figures in chosen.values() for name in figures)
    return {
        name: {
            figure: _means(_by_class(plan, chosen, name, figure))
            for figure in ("last", "best", "lowest")
        }
        | {"epoch": _by_class(plan, chosen, name, "epoch")}
        for name in names
    }


def _by_class(plan: TablePlan, results: _Results, kind: str, name: str) -> dict[str, list[Any]]:
    """Look up one figure of each class, a list over the seeds; None where it is missing."""
    by_class = {}
    for class_name in plan.classes:
        of_seeds = [results.get((class_name, seed), {}) for seed in plan.seeds]
        by_class[class_name] = [result.get(kind, {}).get(name) for result in of_seeds]
    return by_class


def _means(auroc: dict[str, list[float | None]]) -> dict[str, Any]:
    """Add means and spreads to the AUROCs of each class and seed."""
    by_class = {class_name: _mean(figures) for class_name, figures in auroc.items()}
    by_seed = [_mean(list(figures)) for figures in zip(*auroc.values(), strict=True)]
    return {
        "auroc": auroc,
        "mean": _mean(list(by_class.values())),
        "spread": _spread(by_seed),
        "class_mean": by_class,
        "class_spread": {class_name: _spread(figures) for class_name, figures in auroc.items()},
    }


def _mean(figures: list[float | None]) -> float | None:
    """Average the figures that are known."""
    known = [figure for figure in figures if figure is not None]
    return round(float(np.mean(known)), 5) if known else None


def _spread(figures: list[float | None]) -> float | None:
    """Return the sample standard deviation of the figures that are known."""
    known = [figure for figure in figures if figure is not None]
    return round(float(np.std(known, ddof=1)), 5) if len(known) > 1 else None


def _paper(plan: TablePlan) -> dict[str, Any]:
    """Collect the paper's figures for the same classes."""
    paper = {}
    for method in plan.table.paper:
        figures, average = plan.table.paper_figures(method, plan.classes)
        paper[method] = {"auroc": figures, "mean": average}
    return paper


def _machines(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Count the cells that each machine made."""
    machines = Counter(json.dumps(result["machine"]) for result in results)
    return [{"cells": cells, **json.loads(host)} for host, cells in machines.items()]


def _note(plan: TablePlan, results: list[dict[str, Any]]) -> str:
    """Say in sentences what goes with every figure."""
    closed = plan.recipe == "linear"
    sentences = ["Fitted without epochs." if closed else "Every figure is of the last epoch."]
    if plan.table.note:
        sentences.append(plan.table.note)
    for note in sorted({result["note"] for result in results} - {""}):
        sentences.append(f"{note[0].upper()}{note[1:]}.")
    return " ".join(sentences)
