"""What a brain model makes of a healthy head from elsewhere: why a series needs a calibration.

``python -m adae_edge.benchmarks.elsewhere VOLUMES SERIES`` trains ``--object head`` on the volumes
of healthy people, one model for each seed, which leaves out other people. It exports the model, and
scores the slices of a healthy volunteer's DICOM series as ``adae-edge score`` does. Beside the
share of them above the threshold stands that of the people whom the training left out. How well a
score tells the series from these people stands beside what the best of the simplest scores reaches.
"""

from __future__ import annotations

import tempfile
import textwrap
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from adae_edge.benchmarks.markdown import table
from adae_edge.benchmarks.record import record
from adae_edge.export.exporter import export
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.formats.files import write_atomically, write_json
from adae_edge.model import load_network
from adae_edge.runtime import Frame, Scored, Scorer, Sink, Stream, open_for
from adae_edge.runtime.sinks.sink import PIXELS
from adae_edge.train.evaluate import evaluate
from adae_edge.train.request import TrainRequest, prepare
from adae_edge.train.unseen import UnseenFrames
from adae_edge.train.yardsticks import measure_yardsticks, small_pictures

# What is trained, and with how many passes: the score that slices get, and the paper's networks.
CHOICES: dict[str, dict[str, Any]] = {
    "local": {"score": "local"},
    "l2": {"score": "l2", "recipe": "default", "network": "a", "epochs": 10},
    "l2-b": {"score": "l2", "recipe": "default", "network": "b", "epochs": 10},
}


class _Kept(Sink):
    """The results, with their pixels."""

    wants = frozenset({PIXELS})

    def __init__(self) -> None:
        self.results: list[Scored] = []

    def write(self, scored: Scored) -> None:
        """Keep one."""
        self.results.append(scored)


def main(
    volumes: Annotated[Path, typer.Argument(help="Folder of NIfTI volumes of healthy people.")],
    series: Annotated[Path, typer.Argument(help="Folder of a healthy volunteer's DICOM series.")],
    out: Annotated[Path, typer.Option(help="Where the results go, .json and .md.")] = Path(
        "docs/results/elsewhere"
    ),
    modality: Annotated[str, typer.Option(help="What the volumes show.")] = "t1",
    fpr: Annotated[float, typer.Option(help="Nominal false-positive rate.")] = 0.1,
    seeds: Annotated[str, typer.Option(help="Of the split, separated by commas.")] = "0,1,2",
    choices: Annotated[str, typer.Option(help="What is trained: local, l2 or l2-b.")] = "local",
) -> None:
    """Train on healthy people of one hospital, and score a healthy one from elsewhere."""
    rows = []
    for choice in choices.split(","):
        for seed in map(int, seeds.split(",")):
            with tempfile.TemporaryDirectory() as place:
                checkpoint = Path(place) / "c.safetensors"
                request = TrainRequest(
                    f"nifti:{volumes}",
                    checkpoint,
                    modality=modality,
                    object="head",
                    fpr=fpr,
                    seed=seed,
                    **CHOICES[choice],
                )
                prepare(request).run()
                rows.append({"choice": choice, "seed": seed, **measure(checkpoint, series)})
            result = record(fpr=fpr, rows=rows)
            write_json(out.with_suffix(".json"), result)
            write_atomically(out.with_suffix(".md"), f"{as_markdown(result)}\n".encode())
            typer.echo(as_markdown(result).splitlines()[-1])


def measure(path: Path, series: Path) -> dict[str, Any]:
    """Score a series by a checkpoint that was trained on others, and those whom it left out.

    Returns:
        Shares of slices above the threshold, and how well scores tell the series from the others.
    """
    checkpoint = Checkpoint.load(path)
    evaluation, here, unseen = evaluate(checkpoint)
    there, verdicts = score_series(path, series)
    scores = np.array([scored.score for scored in there], np.float32)
    threshold = there[0].threshold
    labels = np.repeat([False, True], [len(here), len(there)])
    groups = unseen.dataset.groups
    assert groups is not None
    best = yardstick(checkpoint, unseen, [scored.frame for scored in there], labels)
    return {
        "people_left_out": len(np.unique(groups[unseen.indices])),
        "slices_left_out": len(here),
        "above_left_out": round(evaluation.false_positive_rate or 0.0, 4),
        "slices": len(there),
        "above": round(float((scores > threshold).mean()), 4),
        "verdicts": verdicts,
        "auroc": round(float(roc_auc_score(labels, np.concatenate([here, scores]))), 4),
        "yardstick": best,
    }


def score_series(path: Path, series: Path) -> tuple[list[Scored], dict[str, int]]:
    """Export a checkpoint and score a series; its results, and how many have each verdict."""
    model, kept = path.with_suffix(".onnx"), _Kept()
    export(path, model)
    with Scorer(model) as scorer:
        stream = Stream(scorer, open_for(scorer.contract, str(series)), [kept])
        stream.run()
    assert stream.complete, stream.summary
    return kept.results, dict(Counter(scored.verdict for scored in kept.results))


def yardstick(
    checkpoint: Checkpoint, unseen: UnseenFrames, frames: list[Frame], labels: NDArray[np.bool_]
) -> dict[str, Any]:
    """The simplest score that tells the slices of a series best from those that were left out."""
    model = load_network(checkpoint)
    statistics = np.array([(frame.mean, frame.std) for frame in frames], np.float32)
    elsewhere = replace(
        unseen.dataset,
        frames=[np.asarray(frame.pixels) for frame in frames],
        statistics=statistics,
        anomalous=np.ones(len(frames), np.bool_),
        groups=None,
    )
    side = checkpoint.pictures.shape[1]
    pictures = np.concatenate(
        [
            small_pictures(model, unseen.dataset, unseen.indices, side),
            small_pictures(model, elsewhere, np.arange(len(frames)), side),
        ]
    )
    best, *_ = measure_yardsticks(checkpoint.pictures, pictures, labels)
    return {"name": best.name, "auroc": round(best.auroc, 4)}


def as_markdown(result: dict[str, Any]) -> str:
    """The result as a page."""
    heads = ["score, seed", "left out", "above", "series", "above", "AUROC", "best yardstick"]
    cells = [
        [
            f"{row['choice']}, {row['seed']}",
            f"{row['slices_left_out']} of {row['people_left_out']} people",
            f"{row['above_left_out']:.1%}",
            str(row["slices"]),
            f"{row['above']:.1%}",
            f"{row['auroc']:.3f}",
            f"{row['yardstick']['auroc']:.3f}, {row['yardstick']['name']}",
        ]
        for row in result["rows"]
    ]
    verdicts = sorted({verdict for row in result["rows"] for verdict in row["verdicts"]})
    why = (
        f"The threshold is for a false-positive rate of {result['fpr']:.0%}. `above` is the share "
        "of slices above it: first of people of the training's own hospital whom it left out, "
        "then of a healthy volunteer's series from another scanner. The verdict of the series is "
        f"{', '.join(verdicts)}. AUROC is how well scores tell the series from the people who were "
        "left out. Nobody is ill, so 0.5 would be right. The best yardstick is the simplest score "
        "that does so best; labels are the scanners alone."
    )
    lines = [
        "# A healthy head from elsewhere",
        "",
        f"`{result['command']}`, adae-edge {result['versions']['adae_edge']}.",
        "",
        *textwrap.wrap(why, 100),
        "",
        *table(heads, cells),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
