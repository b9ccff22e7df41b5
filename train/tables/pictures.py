"""The pictures beside a table."""

from __future__ import annotations

from dataclasses import replace

from matplotlib.figure import Figure

from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.formats.files import write_atomically
from adae_edge.model import load_network
from adae_edge.train.figures import (
    Column,
    as_png,
    columns_of,
    draw_histogram,
    draw_reconstructions,
    draw_roc,
)
from adae_edge.train.tables.cell import Cell, Scores
from adae_edge.train.tables.request import TablePlan
from adae_edge.train.tables.tables import Table
from adae_edge.train.unseen import UnseenFrames

# About how many pictures of each kind of frame are shown.
_EXAMPLES = 6


def write_pictures(plan: TablePlan, cells: list[Cell]) -> None:
    """Write a table's roc.png, histogram.png and reconstructions.png.

    Args:
        plan: the table.
        cells: those that are finished, at least one.
    """
    first_seeds: dict[str, Cell] = {}
    for cell in cells:
        first_seeds.setdefault(cell.class_name, cell)
    first = list(first_seeds.values())

    examples: list[Column] = []
    for cell in first:
        examples += _examples(cell, plan.table, max(1, _EXAMPLES // len(first)))

    figures = {
        "roc": _curves(cells, plan.table),
        "histogram": _histograms(first, plan.table),
        "reconstructions": draw_reconstructions(examples),
    }
    for name, figure in figures.items():
        write_atomically(plan.out / f"{name}.png", as_png(figure))


def _curves(cells: list[Cell], table: Table) -> Figure:
    """Draw ROC curves of every class and seed, a panel for each named score."""
    read = {cell: Scores.read(cell.scores) for cell in cells}
    names = list(read[cells[0]].named)
    figure = Figure(figsize=(5.5 * len(names), 5.2), layout="constrained")
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    for axis, name in zip(axes, names, strict=True):
        labelled: set[str] = set()
        for cell, scores in read.items():
            label = "" if cell.class_name in labelled else table.classes[cell.class_name]
            labelled.add(cell.class_name)
            colour = f"C{list(table.classes).index(cell.class_name)}"
            draw_roc(axis, scores.named[name], scores.anomalous, color=colour, label=label)
        axis.set_title(f"ROC curves, score {name}")
        axis.legend(title=table.heading, loc="lower right", fontsize=8)
    return figure


def _histograms(cells: list[Cell], table: Table) -> Figure:
    """Draw both kinds' scores (Figure 4b), a row for each named score, a column for each cell."""
    read = {cell: Scores.read(cell.scores) for cell in cells}
    names = list(read[cells[0]].named)
    size = (2.6 * len(cells) + 0.6, 2.6 * len(names))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(names), len(cells), squeeze=False)
    for column, (cell, scores) in enumerate(read.items()):
        for row, name in enumerate(names):
            draw_histogram(axes[row, column], scores.named[name], scores.anomalous)
            axes[row, column].set(xlabel=name, title=_caption(cell, table), yticks=[])
    axes[0, 0].legend(fontsize=8)
    return figure


def _examples(cell: Cell, table: Table, shown: int) -> list[Column]:
    """Choose frames of a cell, normal and anomalous, whose score by the paper is the median."""
    network = load_network(Checkpoint.load(cell.checkpoint))
    scores = Scores.read(cell.scores)
    unseen = UnseenFrames(cell.open(), scores.frames, left_out=0)
    columns = columns_of(scores.named["l2"], unseen, network, shown)
    return [replace(column, title=f"{_caption(cell, table)}\n{column.title}") for column in columns]


def _caption(cell: Cell, table: Table) -> str:
    """Name a cell's class for people."""
    return f"{table.heading}: {table.classes[cell.class_name]}"
