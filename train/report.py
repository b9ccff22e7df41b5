"""The report: one HTML page with the ROC curve, the histogram of scores and what the networks reconstruct."""

from __future__ import annotations

import base64
import html
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from adae_edge.contract import SCORES, Window
from adae_edge.errors import CheckpointError
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.formats.files import write_atomically
from adae_edge.model import ADAE, load_network
from adae_edge.train.evaluate import Evaluation, evaluate
from adae_edge.train.figures import (
    ANOMALOUS,
    as_png,
    columns_of,
    draw_histogram,
    draw_reconstructions,
    draw_roc,
)
from adae_edge.train.unseen import UnseenFrames

_SHOWN = 4
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a202c; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.15rem; margin-top: 2rem }
img { max-width: 100% } pre { background: #edf2f7; padding: .8rem; overflow-x: auto }
td, th { text-align: left; padding: .15rem 1.5rem .15rem 0; font-variant-numeric: tabular-nums }
"""


def run_evaluation(
    path: Path,
    data: str | None = None,
    out: Path | None = None,
    window: Window | None = None,
) -> tuple[Evaluation, UnseenFrames]:
    """Evaluate a checkpoint file and, with ``out``, write evaluation.json and report.html into that folder.

    Raises:
        As ``evaluate``.
    """
    checkpoint = Checkpoint.load(path)
    try:
        evaluation, scores, unseen = evaluate(checkpoint, data, window)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(
            out / "evaluation.json", (json.dumps(asdict(evaluation), indent=2) + "\n").encode()
        )
        write_report(
            out / "report.html", path.name, evaluation, scores, unseen, load_network(checkpoint)
        )
    return evaluation, unseen


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
        model: in eval mode, for the reconstructions and the score's name.
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
            "Scores",
            f"<p>{html.escape(f'The score {model.score}: {SCORES[model.score]}.')}</p>"
            + _picture(
                _curves(evaluation, scores, unseen.anomalous, model.score),
                "ROC curve and histogram of scores",
            ),
        ),
        _section(
            "What the networks make of a frame",
            "<p>The frames with median scores of each kind and those next to them. D(G(x)) stays "
            "close to a normal "
            "frame and fails on an anomalous one.</p>"
            + _picture(
                draw_reconstructions(columns_of(scores, unseen, model, _SHOWN)),
                "input, G(x), D(G(x)) and error of normal and anomalous frames",
            ),
        ),
        _section("Next", f"<pre>{html.escape(following)}</pre>") if following else "",
    ]
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>{"".join(parts)}</html>\n'
    )
    write_atomically(path, page.encode())


def _curves(
    evaluation: Evaluation, scores: NDArray[np.float32], anomalous: NDArray[np.bool_], name: str
) -> Figure:
    """ROC curve (section 4.2) beside the histogram of both kinds' scores (Figure 4b)."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    roc, histogram = figure.subplots(1, 2)
    if evaluation.auroc is not None:
        draw_roc(roc, scores, anomalous)
        point = ([evaluation.false_positive_rate or 0.0], [evaluation.true_positive_rate or 0.0])
        roc.plot(*point, "o", color=ANOMALOUS, label="threshold")
        roc.legend(loc="lower right")
        roc.set_title(f"ROC curve, AUROC {evaluation.auroc:.3f}")
    else:
        roc.set_title("no ROC curve: only one kind of frame")
    draw_histogram(histogram, scores, anomalous)
    histogram.axvline(
        evaluation.threshold,
        color="black",
        linestyle="--",
        label=f"threshold {evaluation.threshold:.2f}",
    )
    histogram.set(xlabel=f"score {name}", ylabel="share of frames", title="scores")
    histogram.margins(y=0.3)
    histogram.legend(loc="upper left", fontsize=8)
    return figure


def _section(title: str, body: str) -> str:
    return f"<h2>{html.escape(title)}</h2>{body}"


def _picture(figure: Figure, description: str) -> str:
    encoded = base64.b64encode(as_png(figure)).decode()
    return f'<img alt="{html.escape(description)}" src="data:image/png;base64,{encoded}">'
