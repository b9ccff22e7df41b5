"""The report: one HTML page with the ROC curve, the histogram of scores and what the networks reconstruct."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from adae_edge.files import write_atomically
from adae_edge.model import ADAE
from adae_edge.train.evaluate import Evaluation, UnseenFrames, reconstructions, roc_points

_NORMAL, _ANOMALOUS = "#2b6cb0", "#c53030"
_SHOWN = 4
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a202c; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.15rem; margin-top: 2rem }
img { max-width: 100% } pre { background: #edf2f7; padding: .8rem; overflow-x: auto }
td, th { text-align: left; padding: .15rem 1.5rem .15rem 0; font-variant-numeric: tabular-nums }
"""


def write_report(
    path: Path,
    title: str,
    evaluation: Evaluation,
    scores: NDArray[np.float32],
    unseen: UnseenFrames,
    model: ADAE,
    commands: str = "",
    following: str = "",
) -> None:
    """Write the page, pictures inside.

    Args:
        path: of the HTML file.
        title: what was evaluated.
        evaluation: the figures.
        scores: float32 [N], in the order of ``unseen``.
        unseen: the frames that were scored.
        model: in eval mode, for the reconstructions.
        commands: what was run, for the reader to repeat.
        following: what to run next.
    """
    rows = "".join(
        f"<tr><th>{html.escape(line[:21].strip())}</th><td>{html.escape(line[21:])}</td></tr>"
        for line in evaluation.table().splitlines()
    )
    parts = [
        f"<h1>{html.escape(title)}</h1><table>{rows}</table>",
        _section("What was run", f"<pre>{html.escape(commands)}</pre>") if commands else "",
        _section(
            "Scores", _picture(_curves(evaluation, scores, unseen.anomalous), "ROC curve and histogram of scores")
        ),
        _section(
            "What the networks make of a frame",
            "<p>The frames with median scores of each kind and those next to them. D(G(x)) stays close to a normal "
            "frame and fails on an anomalous one; the score is the norm of their difference.</p>"
            + _picture(_grid(scores, unseen, model), "input, G(x), D(G(x)) and error of normal and anomalous frames"),
        ),
        _section("Next", f"<pre>{html.escape(following)}</pre>") if following else "",
    ]
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>{"".join(parts)}</html>\n'
    )
    write_atomically(path, page.encode())


def _curves(evaluation: Evaluation, scores: NDArray[np.float32], anomalous: NDArray[np.bool_]) -> Figure:
    """ROC curve (section 4.2) beside the histogram of both kinds' scores (Figure 4b)."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    roc, histogram = figure.subplots(1, 2)
    if evaluation.auroc is not None:
        roc.plot(*roc_points(scores, anomalous), color="black")
        point = ([evaluation.false_positive_rate or 0.0], [evaluation.true_positive_rate or 0.0])
        roc.plot(*point, "o", color=_ANOMALOUS, label="threshold")
        roc.legend(loc="lower right")
        roc.set_title(f"ROC curve, AUROC {evaluation.auroc:.3f}")
    else:
        roc.set_title("no ROC curve: only one kind of frame")
    roc.plot([0, 1], [0, 1], color="#cbd5e0", linewidth=1)
    roc.set(xlabel="false-positive rate", ylabel="true-positive rate", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    bins = np.linspace(float(scores.min()), float(scores.max()) + 1e-6, 41)
    for kind, name, colour in ((~anomalous, "normal", _NORMAL), (anomalous, "anomalous", _ANOMALOUS)):
        if kind.any():
            histogram.hist(
                scores[kind], bins=bins.tolist(), color=colour, alpha=0.6, density=True, label=f"{name} ({kind.sum()})"
            )
    histogram.axvline(
        evaluation.threshold, color="black", linestyle="--", label=f"threshold {evaluation.threshold:.2f}"
    )
    histogram.set(xlabel="score ||x - D(G(x))||", ylabel="density", title="scores")
    histogram.margins(y=0.3)
    histogram.legend(loc="upper left", fontsize=8)
    return figure


def _grid(scores: NDArray[np.float32], unseen: UnseenFrames, model: ADAE) -> Figure:
    """Rows input, G(x), D(G(x)) and error map; columns normal frames, then anomalous ones (Figures 2 and 4a)."""
    columns = [(int(at), kind) for kind in (False, True) for at in _middle(scores, unseen.anomalous == kind)]
    figure = Figure(figsize=(1.3 * len(columns) + 0.8, 5.9), layout="constrained")
    axes = figure.subplots(4, len(columns), squeeze=False)
    pictures = [reconstructions(model, unseen.inputs(at, model.channels)) for at, _ in columns]
    brightest = max(float(error.max()) for *_, error in pictures)
    for column, ((at, kind), (x, generated, again, error)) in enumerate(zip(columns, pictures, strict=True)):
        for row, picture in enumerate((x, generated, again)):
            axes[row, column].imshow((picture.squeeze() + 1) / 2, cmap="gray", vmin=0, vmax=1)
        axes[3, column].imshow(error, cmap="magma", vmin=0, vmax=brightest)
        axes[0, column].set_title(
            f"{'anomalous' if kind else 'normal'}\n{scores[at]:.2f}", color=_ANOMALOUS if kind else _NORMAL, fontsize=9
        )
    for row, name in enumerate(("x", "G(x)", "D(G(x))", "error")):
        axes[row, 0].set_ylabel(name)
    for axis in axes.flat:
        _bare(axis)
    return figure


def _middle(scores: NDArray[np.float32], kind: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Places of the frames of one kind whose scores are nearest to its median."""
    places = np.flatnonzero(kind)
    if not len(places):
        return places
    return places[np.argsort(np.abs(scores[places] - np.median(scores[places])), kind="stable")[:_SHOWN]]


def _bare(axis: Axes) -> None:
    axis.set_xticks([])
    axis.set_yticks([])


def _section(title: str, body: str) -> str:
    return f"<h2>{html.escape(title)}</h2>{body}"


def _picture(figure: Figure, description: str) -> str:
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=110)
    encoded = base64.b64encode(png.getvalue()).decode()
    return f'<img alt="{html.escape(description)}" src="data:image/png;base64,{encoded}">'
