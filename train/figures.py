"""Pictures: ROC curves, histograms of scores, and reconstructions of frames (Figures 2 to 4)."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from adae_edge.model import ADAE
from adae_edge.train.evaluate import reconstructions, roc_points
from adae_edge.train.unseen import UnseenFrames

NORMAL, ANOMALOUS = "#2b6cb0", "#c53030"


@dataclass(frozen=True)
class Column:
    """A frame and what the networks make of it.

    Attributes:
        title: what stands over the column.
        anomalous: whether the frame is.
        pictures: as ``reconstructions`` returns them.
    """

    title: str
    anomalous: bool
    pictures: tuple[NDArray[np.float32], ...]


def columns_of(
    scores: NDArray[np.float32], unseen: UnseenFrames, model: ADAE, shown: int
) -> list[Column]:
    """The frames of each kind whose scores are nearest to its median, normal ones first.

    Args:
        scores: float32 [N], in the order of ``unseen``.
        unseen: the frames that were scored.
        model: in eval mode.
        shown: how many of each kind, at most.
    """
    columns = []
    for kind in (False, True):
        for index in _middle(scores, unseen.anomalous == kind, shown):
            title = f"{'anomalous' if kind else 'normal'}\n{scores[index]:.2f}"
            pictures = reconstructions(model, unseen.inputs(int(index), model.channels))
            columns.append(Column(title, kind, pictures))
    return columns


def draw_reconstructions(columns: list[Column]) -> Figure:
    """Draw a column for each frame: x, G(x), D(G(x)) and the error map (Figures 2 and 4a)."""
    figure = Figure(figsize=(1.3 * len(columns) + 0.8, 5.9), layout="constrained")
    axes = figure.subplots(4, len(columns), squeeze=False)
    brightest = max(float(column.pictures[-1].max()) for column in columns)
    for index, column in enumerate(columns):
        *pictures, error = column.pictures
        for row, picture in enumerate(pictures):
            axes[row, index].imshow((picture.squeeze() + 1) / 2, cmap="gray", vmin=0, vmax=1)
        axes[3, index].imshow(error, cmap="magma", vmin=0, vmax=brightest)
        color = ANOMALOUS if column.anomalous else NORMAL
        axes[0, index].set_title(column.title, color=color, fontsize=9)
    for row, name in enumerate(("x", "G(x)", "D(G(x))", "error")):
        axes[row, 0].set_ylabel(name)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    return figure


def draw_roc(
    axis: Axes,
    scores: NDArray[np.float32],
    anomalous: NDArray[np.bool_],
    color: str = "black",
    label: str = "",
) -> None:
    """Draw a ROC curve over the diagonal (section 4.2)."""
    axis.plot([0, 1], [0, 1], color="#cbd5e0", linewidth=1)
    axis.plot(*roc_points(scores, anomalous), color=color, label=label, linewidth=1.2)
    axis.set(
        xlabel="false-positive rate",
        ylabel="true-positive rate",
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
    )


def draw_histogram(axis: Axes, scores: NDArray[np.float32], anomalous: NDArray[np.bool_]) -> None:
    """Draw both kinds' scores, as shares of the frames of each kind (Figure 4b)."""
    bins = np.linspace(float(scores.min()), float(scores.max()) + 1e-6, 41)
    for kind, name, colour in ((~anomalous, "normal", NORMAL), (anomalous, "anomalous", ANOMALOUS)):
        if count := int(kind.sum()):
            shares = np.full(count, 1 / count)
            axis.hist(
                scores[kind],
                bins=bins.tolist(),
                weights=shares,
                color=colour,
                alpha=0.6,
                label=f"{name} ({count})",
            )


def as_png(figure: Figure) -> bytes:
    """The bytes of a picture as a PNG file."""
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=110)
    return png.getvalue()


def _middle(scores: NDArray[np.float32], kind: NDArray[np.bool_], shown: int) -> NDArray[np.intp]:
    """Indices of the frames of one kind whose scores are nearest to its median."""
    indices = np.flatnonzero(kind)
    if not len(indices):
        return indices
    distances = np.abs(scores[indices] - np.median(scores[indices]))
    return indices[np.argsort(distances, kind="stable")[:shown]]
