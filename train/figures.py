"""Pictures: ROC curves, histograms of scores, and what the networks make of frames (Figures 2 to 4)."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from adae_edge.checkpoint import Checkpoint
from adae_edge.files import write_atomically
from adae_edge.model import ADAE, load_network
from adae_edge.train.cell import Cell, read_scores
from adae_edge.train.evaluate import UnseenFrames, reconstructions, roc_points
from adae_edge.train.tables import Request, Table

NORMAL, ANOMALOUS = "#2b6cb0", "#c53030"


def write_figures(request: Request, cells: list[Cell]) -> None:
    """Write a table's roc.png, histogram.png and reconstructions.png.

    Args:
        request: the table.
        cells: those that are finished, at least one.
    """
    first = list({cell.class_name: cell for cell in reversed(cells)}.values())[::-1]  # of each class, its first seed
    examples = [column for cell in first for column in _examples(cell, request.table, max(1, 6 // len(first)))]
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
    columns = columns_of(scores["l2"], UnseenFrames(cell.open(), frames, left_out=0), load_network(checkpoint), shown)
    return [replace(column, title=f"{_caption(cell, table)}\n{column.title}") for column in columns]


def _caption(cell: Cell, table: Table) -> str:
    return f"{table.heading}: {table.classes[cell.class_name]}"


@dataclass(frozen=True)
class Column:
    """A frame and what the networks make of it.

    Attributes:
        title: over the column.
        anomalous: its kind.
        pictures: as ``reconstructions`` returns them.
    """

    title: str
    anomalous: bool
    pictures: tuple[NDArray[np.float32], ...]


def columns_of(scores: NDArray[np.float32], unseen: UnseenFrames, model: ADAE, shown: int) -> list[Column]:
    """The frames of each kind whose scores are nearest to its median, normal ones first.

    Args:
        scores: float32 [N], in the order of ``unseen``.
        unseen: the frames that were scored.
        model: in eval mode.
        shown: how many of each kind.
    """
    columns = []
    for kind in (False, True):
        for at in _middle(scores, unseen.anomalous == kind, shown):
            title = f"{'anomalous' if kind else 'normal'}\n{scores[at]:.2f}"
            columns.append(Column(title, kind, reconstructions(model, unseen.inputs(int(at), model.channels))))
    return columns


def draw_reconstructions(columns: list[Column]) -> Figure:
    """Rows input, G(x), D(G(x)) and error map (Figures 2 and 4a)."""
    figure = Figure(figsize=(1.3 * len(columns) + 0.8, 5.9), layout="constrained")
    axes = figure.subplots(4, len(columns), squeeze=False)
    brightest = max(float(column.pictures[-1].max()) for column in columns)
    for at, column in enumerate(columns):
        *pictures, error = column.pictures
        for row, picture in enumerate(pictures):
            axes[row, at].imshow((picture.squeeze() + 1) / 2, cmap="gray", vmin=0, vmax=1)
        axes[3, at].imshow(error, cmap="magma", vmin=0, vmax=brightest)
        axes[0, at].set_title(column.title, color=ANOMALOUS if column.anomalous else NORMAL, fontsize=9)
    for row, name in enumerate(("x", "G(x)", "D(G(x))", "error")):
        axes[row, 0].set_ylabel(name)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    return figure


def draw_roc(
    axis: Axes, scores: NDArray[np.float32], anomalous: NDArray[np.bool_], color: str = "black", label: str = ""
) -> None:
    """A ROC curve over the diagonal (section 4.2)."""
    axis.plot([0, 1], [0, 1], color="#cbd5e0", linewidth=1)
    axis.plot(*roc_points(scores, anomalous), color=color, label=label, linewidth=1.2)
    axis.set(xlabel="false-positive rate", ylabel="true-positive rate", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))


def draw_histogram(axis: Axes, scores: NDArray[np.float32], anomalous: NDArray[np.bool_]) -> None:
    """Both kinds' scores, as shares of the frames of each kind (Figure 4b)."""
    bins = np.linspace(float(scores.min()), float(scores.max()) + 1e-6, 41)
    for kind, name, colour in ((~anomalous, "normal", NORMAL), (anomalous, "anomalous", ANOMALOUS)):
        if count := int(kind.sum()):
            shares = np.full(count, 1 / count)
            axis.hist(
                scores[kind], bins=bins.tolist(), weights=shares, color=colour, alpha=0.6, label=f"{name} ({count})"
            )


def as_png(figure: Figure) -> bytes:
    """The picture as a PNG file."""
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=110)
    return png.getvalue()


def _middle(scores: NDArray[np.float32], kind: NDArray[np.bool_], shown: int) -> NDArray[np.intp]:
    """Places of the frames of one kind whose scores are nearest to its median."""
    places = np.flatnonzero(kind)
    if not len(places):
        return places
    return places[np.argsort(np.abs(scores[places] - np.median(scores[places])), kind="stable")[:shown]]
