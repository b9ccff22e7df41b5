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
from adae_edge.formats.files import check_writable, write_atomically, write_json
from adae_edge.linear import LinearAutoencoder
from adae_edge.model import ADAE, load_network
from adae_edge.train.evaluate import Evaluation, distances, evaluate, measure
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
_LINEAR = (
    "Here G and D are one linear autoencoder, the principal components of normals, and not the "
    "paper's networks."
)
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a202c }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
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
    """Evaluate a checkpoint file, and report on it.

    Args:
        path: the checkpoint file.
        data, window: as for ``unseen_frames``.
        out: the folder for evaluation.json and report.html; None writes nothing.

    Raises:
        UsageError, DatasetError, CheckpointError, TrainingError: as ``evaluate``.
        UsageError, WriteError: the folder cannot be written.
    """
    check_writable(out, folder=True)
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
    pictures = draw_reconstructions(columns_of(scores, unseen, model, _SHOWN))
    meaning = f"The score {model.score}: {SCORES[model.score]}."
    if isinstance(model.generator, LinearAutoencoder):
        meaning += f" {_LINEAR}"
    comparison = evaluation.comparison()
    parts = [
        f"<h1>{html.escape(title)}</h1>{_verdict(evaluation)}{_table(evaluation.table())}",
        _section("What was run", _code(commands)) if commands else "",
        _section(
            "Scores",
            f"<p>{html.escape(meaning)}</p>"
            + _picture(curves, "ROC curve and histogram of scores"),
        ),
        _section("Yardsticks", _table(comparison)) if comparison else "",
        _section(
            "What the networks make of a frame",
            f"<p>{html.escape(describe_reconstructions(scores, unseen, model))}</p>"
            + _picture(pictures, "input, G(x), D(G(x)) and error of normal and anomalous frames"),
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


def describe_reconstructions(scores: NDArray[np.float32], unseen: UnseenFrames, model: ADAE) -> str:
    """Say which frames are shown, and how far what the networks make of a frame is from it.

    Args:
        scores: float32 [N], of the model, in the order of ``unseen``.
        unseen: the frames that were scored; of both kinds, or no comparison is made.
        model: in eval mode.
    """
    shown = "The frames with median scores of each kind and those next to them."
    anomalous = unseen.anomalous
    if anomalous.all() or not anomalous.any():
        return shown
    name = "generator" if model.score == "generator" else "l2"
    made = "G(x)" if name == "generator" else "D(G(x))"
    errors = scores
    if model.score != name:
        errors = distances(model, unseen.dataset, unseen.indices)[name]
    middle, other = (float(np.median(errors[anomalous == kind])) for kind in (False, True))
    auroc = measure(errors, anomalous, 0.0).auroc or 0.0
    return (
        f"{shown} {made} {_behaviour(auroc)}: the distance from x to it is {middle:.3g} for the "
        f"median normal frame and {other:.3g} for the median anomalous one, and its AUROC is "
        f"{auroc:.2f}."
    )


def _behaviour(auroc: float) -> str:
    """What an AUROC of the distance from x to what the networks make of it says of that."""
    if auroc >= 0.9:
        return "stays close to normal frames and fails on anomalous ones"
    if auroc >= 0.7:
        return "is mostly closer to normal frames than to anomalous ones"
    if auroc >= 0.55:
        return "is hardly closer to normal frames than to anomalous ones"
    return "is no closer to normal frames than to anomalous ones"


def _verdict(evaluation: Evaluation) -> str:
    sentence = evaluation.verdict
    if not sentence:
        return ""
    return f"<p><strong>{html.escape(sentence[0].upper() + sentence[1:])}.</strong></p>"


def _table(lines: str) -> str:
    """Lines of a name in 21 columns and a value, as a table."""
    rows = [
        f"<tr><th>{html.escape(line[:21].strip())}</th><td>{html.escape(line[21:])}</td></tr>"
        for line in lines.splitlines()
    ]
    return f"<table>{''.join(rows)}</table>"


def _code(text: str) -> str:
    return f"<pre>{html.escape(text)}</pre>"


def _section(title: str, body: str) -> str:
    return f"<h2>{html.escape(title)}</h2>{body}"


def _picture(figure: Figure, description: str) -> str:
    encoded = base64.b64encode(as_png(figure)).decode()
    return f'<img alt="{html.escape(description)}" src="data:image/png;base64,{encoded}">'
