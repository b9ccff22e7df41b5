"""The report: one HTML page with the ROC curve, the histogram of scores and reconstructions."""

from __future__ import annotations

import base64
import html
from dataclasses import asdict
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from adae_edge.contract import SCORES, Window
from adae_edge.errors import CheckpointError
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.formats.files import write_atomically, write_json
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
body { font: 16px/1.5 system-ui, sans-serif; color: #1a202c }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.15rem; margin-top: 2rem }
img { max-width: 100% } pre { background: #edf2f7; padding: .8rem; overflow-x: auto }
td, th { text-align: left; padding: .15rem 1.5rem .15rem 0; font-variant-numeric: tabular-nums }
"""
_RECONSTRUCTIONS = (
    "The frames with median scores of each kind and those next to them. D(G(x)) stays close to a "
    "normal frame and fails on an anomalous one."
)


def run_evaluation(
    path: Path,
    data: str | None = None,
    out: Path | None = None,
    window: Window | None = None,
) -> tuple[Evaluation, UnseenFrames]:
    """Evaluate a checkpoint file, and report on it.

    Args:
        path: the checkpoint file.
        data, window: as for ``unseen_frames``.
        out: the folder for evaluation.json and report.html; None writes nothing.

    Raises:
        UsageError, DatasetError, CheckpointError, TrainingError: as ``evaluate``.
    """
    checkpoint = Checkpoint.load(path)
    try:
        evaluation, scores, unseen = evaluate(checkpoint, data, window)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "evaluation.json", asdict(evaluation))
        network = load_network(checkpoint)
        write_report(out / "report.html", path.name, evaluation, scores, unseen, network)
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
        path: the HTML file.
        title: what was evaluated.
        evaluation: the figures.
        scores: float32 [N], in the order of ``unseen``.
        unseen: the frames that were scored.
        model: in eval mode, for the reconstructions and the score's name.
        commands: what was run, for the reader to repeat.
        following: what to run next.
    """
    curves = _curves(evaluation, scores, unseen.anomalous, model.score)
    frames = draw_reconstructions(columns_of(scores, unseen, model, _SHOWN))
    meaning = f"The score {model.score}: {SCORES[model.score]}."
    parts = [
        f"<h1>{html.escape(title)}</h1>{_table(evaluation)}",
        _section("What was run", _code(commands)) if commands else "",
        _section(
            "Scores",
            f"<p>{html.escape(meaning)}</p>"
            + _picture(curves, "ROC curve and histogram of scores"),
        ),
        _section(
            "What the networks make of a frame",
            f"<p>{_RECONSTRUCTIONS}</p>"
            + _picture(frames, "input, G(x), D(G(x)) and error of normal and anomalous frames"),
        ),
        _section("Next", _code(following)) if following else "",
    ]
    head = (
        f'<meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
    )
    page = f'<!doctype html><html lang="en">{head}{"".join(parts)}</html>\n'
    write_atomically(path, page.encode())


def _curves(
    evaluation: Evaluation, scores: NDArray[np.float32], anomalous: NDArray[np.bool_], name: str
) -> Figure:
    """Draw the ROC curve (section 4.2) beside the histogram of both kinds' scores (Figure 4b)."""
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


def _table(evaluation: Evaluation) -> str:
    rows = [
        f"<tr><th>{html.escape(line[:21].strip())}</th><td>{html.escape(line[21:])}</td></tr>"
        for line in evaluation.table().splitlines()
    ]
    return f"<table>{''.join(rows)}</table>"


def _code(text: str) -> str:
    return f"<pre>{html.escape(text)}</pre>"


def _section(title: str, body: str) -> str:
    return f"<h2>{html.escape(title)}</h2>{body}"


def _picture(figure: Figure, description: str) -> str:
    encoded = base64.b64encode(as_png(figure)).decode()
    return f'<img alt="{html.escape(description)}" src="data:image/png;base64,{encoded}">'
