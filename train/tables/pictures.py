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
from adae_edge.train.tables.cell import Cell, read_scores
from adae_edge.train.tables.tables import Request, Table
from adae_edge.train.unseen import UnseenFrames


def write_figures(request: Request, cells: list[Cell]) -> None:
    """Write a table's roc.png, histogram.png and reconstructions.png.

    Args:
        request: the table.
        cells: those that are finished, at least one.
    """
    first = list({cell.class_name: cell for cell in reversed(cells)}.values())[
        ::-1
    ]  # of each class, its first seed
    examples = [
        column
        for cell in first
        for column in _examples(cell, request.table, max(1, 6 // len(first)))
    ]
    for name, figure in {
        "roc": _curves(cells, request.table),
        "histogram": _histograms(first, request.table),
        "reconstructions": draw_reconstructions(examples),
    }.items():
        write_atomically(request.out / f"{name}.png", as_png(figure))


def _curves(cells: list[Cell], table: Table) -> Figure:
    """ROC curves of every class and seed, a panel for each named score."""
    read = {cell: read_scores(cell) for cell in cells}
    names = list(next(iter(read.values()))[2])
    figure = Figure(figsize=(5.5 * len(names), 5.2), layout="constrained")
    for axis, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        seen: set[str] = set()
        for cell, (_, anomalous, scores) in read.items():
            label = "" if cell.class_name in seen else table.classes[cell.class_name]
            seen.add(cell.class_name)
            colour = f"C{list(table.classes).index(cell.class_name)}"
            draw_roc(axis, scores[name], anomalous, color=colour, label=label)
        axis.set_title(f"ROC curves, score {name}")
        axis.legend(title=table.heading, loc="lower right", fontsize=8)
    return figure


def _histograms(cells: list[Cell], table: Table) -> Figure:
    """Histograms of both kinds' scores (Figure 4b): a row for each named score, a column for each cell."""
    read = {cell: read_scores(cell) for cell in cells}
    names = list(next(iter(read.values()))[2])
    figure = Figure(figsize=(2.6 * len(cells) + 0.6, 2.6 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), len(cells), squeeze=False)
    for column, (cell, (_, anomalous, scores)) in enumerate(read.items()):
        for row, name in enumerate(names):
            draw_histogram(axes[row, column], scores[name], anomalous)
            axes[row, column].set(xlabel=name, title=_caption(cell, table), yticks=[])
    axes[0, 0].legend(fontsize=8)
    return figure


def _examples(cell: Cell, table: Table, shown: int) -> list[Column]:
    """Some normal and anomalous frames of a cell, those with the median score of the paper."""
    checkpoint = Checkpoint.load(cell.checkpoint)
    frames, _, scores = read_scores(cell)
    columns = columns_of(
        scores["l2"], UnseenFrames(cell.open(), frames, left_out=0), load_network(checkpoint), shown
    )
    return [replace(column, title=f"{_caption(cell, table)}\n{column.title}") for column in columns]


def _caption(cell: Cell, table: Table) -> str:
    return f"{table.heading}: {table.classes[cell.class_name]}"
