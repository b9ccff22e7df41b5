"""What is made of a table's finished cells: TABLE.json, TABLE.md and scores.csv."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from adae_edge.errors import AdaeEdgeError
from adae_edge.formats.files import write_atomically
from adae_edge.train.tables.cell import Cell
from adae_edge.train.tables.tables import Request


def write_table(
    request: Request, settings: dict[str, Any], finished: dict[Cell, dict[str, Any]]
) -> None:
    """Write TABLE.json and TABLE.md of the cells that are finished so far; what is missing is null."""
    summary = summarise(request, settings, finished)
    write_atomically(
        request.out / f"{request.name}.json", (json.dumps(summary, indent=2) + "\n").encode()
    )
    write_atomically(request.out / f"{request.name}.md", as_markdown(request, summary).encode())


def summarise(
    request: Request, settings: dict[str, Any], finished: dict[Cell, dict[str, Any]]
) -> dict[str, Any]:
    """The table in JSON types. Means are over the finished cells: of each class over seeds, then over classes."""
    results = {(cell.class_name, cell.seed): result for cell, result in finished.items()}
    names = list(dict.fromkeys(name for result in results.values() for name in result["auroc"]))

    def by_class(kind: str, name: str) -> dict[str, list[Any]]:
        """Of each class and seed, what the cell's result has."""
        return {
            class_name: [
                results.get((class_name, seed), {}).get(kind, {}).get(name)
                for seed in request.seeds
            ]
            for class_name in request.classes
        }

    scores = {name: _means(by_class("auroc", name)) for name in names}
    if request.table.development:
        for name in names:
            others = _means(by_class("auroc_outside_development", name))
            scores[name]["outside_development"] = {
                key: others[key] for key in ("mean", "spread", "class_mean")
            }
    paper = {}
    for method in request.table.paper:
        figures, average = request.table.paper_figures(method, request.classes)
        paper[method] = {"auroc": figures, "mean": average}
    epochs = sorted({result["epochs"] for result in results.values()})
    devices = sorted({result["device"] for result in results.values()})
    machines = Counter(json.dumps(result["machine"]) for result in results.values())
    notes = sorted({result["note"] for result in results.values()} - {""})
    return {
        "table": request.table.title,
        "classes": {
            class_name: request.table.classes[class_name] for class_name in request.classes
        },
        "scores": scores,
        "paper": paper,
        "data_sha256": settings["data_sha256"],
        "test": {kind: by_class("test", kind) for kind in ("normals", "anomalous")},
        "patients": max((result["patients"] or 0 for result in results.values()), default=0)
        or None,
        "recipe": {"name": request.recipe, **settings["recipe"]},
        "epochs": epochs[0] if len(epochs) == 1 else epochs,
        "seeds": request.seeds,
        "cells": {"finished": len(results), "wanted": len(request.classes) * len(request.seeds)},
        "training_seconds": round(
            sum(result["training_seconds"] for result in results.values()), 1
        ),
        "command": request.command(devices),
        "devices": devices,
        "machines": [{"cells": cells, **json.loads(host)} for host, cells in machines.items()],
        "note": " ".join(
            filter(
                None,
                ["Every figure is of the last epoch.", request.table.note, *map(_sentence, notes)],
            )
        ),
    }


def as_markdown(request: Request, summary: dict[str, Any]) -> str:
    """The table for people: the paper's columns beside ours, a row for each class."""
    scores, paper = summary["scores"], summary["paper"]
    rows = [
        [
            request.table.heading,
            *(f"{method}, paper" for method in paper),
            *(f"{name}, ours" for name in scores),
        ]
    ]
    for class_name, title in summary["classes"].items():
        printed = [_figure(column["auroc"].get(class_name), None) for column in paper.values()]
        ours = [
            _figure(own["class_mean"][class_name], own["class_spread"][class_name])
            for own in scores.values()
        ]
        rows.append([title, *printed, *ours])
    printed = [f"{column['mean']:.3f}" for column in paper.values()]
    rows.append(
        [
            "**mean**",
            *printed,
            *(f"**{_figure(own['mean'], own['spread'])}**" for own in scores.values()),
        ]
    )
    if request.table.development:
        others = [own["outside_development"] for own in scores.values()]
        rows.append(
            [
                "mean of others",
                *("-" for _ in paper),
                *(_figure(o["mean"], o["spread"]) for o in others),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        f"| {' | '.join(text.ljust(width) for text, width in zip(row, widths, strict=True))} |"
        for row in rows
    ]
    lines.insert(1, f"|{'|'.join('-' * (width + 2) for width in widths)}|")

    cells = summary["cells"]
    numbers = ", ".join(map(str, request.seeds))
    seeds = (
        f"mean ± standard deviation of seeds {numbers}"
        if len(request.seeds) > 1
        else f"seed {numbers}"
    )
    part = (
        f" {cells['finished']} of {cells['wanted']} cells are finished."
        if len(set(cells.values())) > 1
        else ""
    )
    return "\n".join(
        [
            f"# {summary['table']}",
            "",
            f"AUROC {request.table.measured}, {seeds}; recipe {request.recipe}, "
            f"epochs {summary['epochs']}.{part} {summary['note']}",
            *([_frames(summary)] if scores else []),
            "",
            *lines,
            "",
            f"`{summary['command']}`",
            "",
            f"Trained for {summary['training_seconds']} s in all cells together.",
            "",
            *(
                f"- {host['cells']} cell{'s' * (host['cells'] > 1)}: "
                f"{host['gpu'] + ', ' if host['gpu'] else ''}{host['cpu']}, "
                f"{host['usable_cpus']} CPUs; PyTorch {host['torch']}, Python {host['python']}, "
                f"adae-edge {host['adae_edge']}"
                for host in summary["machines"]
            ),
            "",
        ]
    )


def write_scores(path: Path, cells: list[Cell]) -> None:
    """Every score of every cell in one CSV file: class, seed, frame, label, and a column for each score.

    Raises:
        AdaeEdgeError: some cells were scored by another version, which knew other scores.
    """
    parts: list[bytes] = []
    for cell in cells:
        header, _, rows = cell.scores.read_bytes().partition(b"\n")
        parts = parts or [b"class,seed," + header + b"\n"]
        if not parts[0].endswith(b"," + header + b"\n"):
            raise AdaeEdgeError(
                f"{cell.scores} has other scores than {cells[0].scores}: remove the .json files "
                "of those "
                "that lack some, and the same command scores them again without training"
            )
        parts += [
            f"{cell.class_name},{cell.seed},".encode() + row
            for row in rows.splitlines(keepends=True)
        ]
    write_atomically(path, b"".join(parts))


def _means(auroc: dict[str, list[float | None]]) -> dict[str, Any]:
    """A score's figures of each class and seed, and what is made of them."""
    by_class = {class_name: _mean(figures) for class_name, figures in auroc.items()}
    by_seed = [_mean(list(figures)) for figures in zip(*auroc.values(), strict=True)]
    return {
        "auroc": auroc,
        "mean": _mean(list(by_class.values())),
        "spread": _spread(by_seed),
        "class_mean": by_class,
        "class_spread": {class_name: _spread(figures) for class_name, figures in auroc.items()},
    }


def _frames(summary: dict[str, Any]) -> str:
    """How many frames a cell tests, as "7 to 9" where cells differ, and of how many patients all cells are."""
    ranges = {}
    for kind, by_class in summary["test"].items():
        counts = {
            count for of_seeds in by_class.values() for count in of_seeds if count is not None
        }
        ranges[kind] = " to ".join(map(str, sorted({min(counts), max(counts)})))
    patients = (
        f"; {summary['patients']} patients in all cells together" if summary["patients"] else ""
    )
    return f"Test frames of a cell: {ranges['normals']} normal, {ranges['anomalous']} anomalous{patients}."


def _sentence(note: str) -> str:
    return f"{note[0].upper()}{note[1:]}."


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
