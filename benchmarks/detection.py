"""Does it find defects, and would something trivial have found them?

``python -m adae_edge.benchmarks.detection SET:DIR`` trains on the normals of each fold, as the
command line does on a folder, and prints AUROC beside that of yardsticks. A yardstick gets all
known normals of the fold. A training gets them as a folder, and keeps some of them for its
threshold and its own test, by the seed of that split. ``inspection.py`` has the sets.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from adae_edge.benchmarks.detection_page import as_markdown
from adae_edge.benchmarks.inspection import Parts, open_parts
from adae_edge.benchmarks.pixels import Maps, map_yardsticks, pixel_auroc
from adae_edge.benchmarks.record import record
from adae_edge.contract import Network
from adae_edge.errors import DatasetError
from adae_edge.export.forms import Fused
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.formats.files import write_atomically, write_json
from adae_edge.model import ADAE, load_network
from adae_edge.preprocess import Preprocess
from adae_edge.train.data.dataset import Indices
from adae_edge.train.loading import score_frames
from adae_edge.train.request import TrainRequest, prepare
from adae_edge.train.yardsticks import yardsticks

RECIPES = ("linear:local", "linear:l2")


@dataclass(frozen=True)
class Trained:
    """What a training on a fold's normals reached.

    Attributes:
        auroc: of the tested frames.
        pixels: AUROC of the map's pixels in frames with a mask; None without masks.
        pose: what made-up defects on held-out normals said about turning parts, or None.
    """

    auroc: float
    pixels: float | None
    pose: dict[str, float] | None


def main(
    data: Annotated[str, typer.Argument(help="elpv:DIR, screw:DIR or cookies:DIR.")],
    out: Annotated[Path, typer.Option(help="Figures go to OUT.json and OUT.md.")] = Path(
        "detection"
    ),
    recipes: Annotated[str, typer.Option(help="RECIPE:SCORE, separated by commas.")] = ",".join(
        RECIPES
    ),
    seeds: Annotated[str, typer.Option(help="Of the split, separated by commas.")] = "0,1,2",
    folds: Annotated[str | None, typer.Option(help="Some of the folds [default: all].")] = None,
) -> None:
    """Measure how well defects are found, with yardsticks beside."""
    with tempfile.TemporaryDirectory() as place:
        try:
            parts = open_parts(data, Path(place))
        except DatasetError as error:
            raise typer.BadParameter(str(error)) from error
        chosen = folds.split(",") if folds else list(parts.folds)
        trained = {
            choice: [
                [train_and_score(parts, fold, choice, int(seed)) for fold in chosen]
                for seed in seeds.split(",")
            ]
            for choice in recipes.split(",")
        }
        result = record(
            about=parts.about,
            seeds=seeds,
            folds={fold: [len(part) for part in parts.folds[fold]] for fold in chosen},
            trained={choice: in_figures(chosen, runs) for choice, runs in trained.items()},
            yardsticks=measure_yardsticks(parts, chosen) if parts.whole else {},
            map_yardsticks=measure_map_yardsticks(parts, chosen) if parts.masks else {},
        )
        if not parts.whole:
            for row in result["trained"].values():
                del row["auroc"], row["mean"], row["spread"]
    table = as_markdown(result)
    typer.echo(table)
    write_json(out.with_suffix(".json"), result)
    write_atomically(out.with_suffix(".md"), (table + "\n").encode())


def train_and_score(parts: Parts, fold: str, choice: str, seed: int) -> Trained:
    """Train as ``adae-edge train`` on a folder of the fold's known normals.

    Args:
        parts: all of them.
        fold: that is tested.
        choice: RECIPE:SCORE.
        seed: of the training's split.
    """
    recipe, _, score = choice.partition(":")
    known, tested = parts.folds[fold]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "normals"
        folder.mkdir()
        for index in known:
            (folder / parts.paths[index].name).symlink_to(parts.paths[index].resolve())
        out = Path(place) / "checkpoint.safetensors"
        request = TrainRequest(
            str(folder), out, recipe=recipe, score=score, seed=seed, group=parts.rule
        )
        prepare(request).run()
        checkpoint = Checkpoint.load(out)
    model = load_network(checkpoint)
    scores, _ = score_frames(model, parts.dataset, tested)
    maps = maps_of(model, parts, tested)
    return Trained(
        auroc=parts.auroc(scores, tested),
        pixels=pixel_auroc(parts, maps) if maps else None,
        pose=checkpoint.training.get("pose"),
    )


def maps_of(model: ADAE, parts: Parts, tested: Indices) -> Maps:
    """The anomaly maps of those frames that have a mask, as the exported graph gives them."""
    fused = Fused(model, "frame")
    maps: Maps = {}
    with torch.inference_mode():
        for index in parts.masked(tested):
            frame = torch.from_numpy(parts.dataset.frames[index].copy())
            maps[index] = fused(frame[None])[1][0].numpy()
    return maps


def in_figures(folds: list[str], runs: list[list[Trained]]) -> dict[str, Any]:
    """The runs of one choice, a list of folds for each seed, as figures."""
    auroc = np.array([[run.auroc for run in row] for row in runs])
    figures: dict[str, Any] = {
        "auroc": _by_fold(folds, auroc.mean(axis=0)),
        "mean": round(float(auroc.mean()), 4),
        "spread": round(float(auroc.std(axis=0).max()), 4),
        "pose": {fold: [row[index].pose for row in runs] for index, fold in enumerate(folds)},
    }
    if runs[0][0].pixels is not None:
        pixels = np.array([[run.pixels for run in row] for row in runs], float)
        figures["pixels"] = _by_fold(folds, pixels.mean(axis=0))
        figures["pixels_mean"] = round(float(pixels.mean()), 4)
    return figures


def measure_yardsticks(parts: Parts, folds: list[str]) -> dict[str, Any]:
    """The yardsticks' AUROC by name, for each fold and on average."""
    model = ADAE(Preprocess(64), parts.dataset.channels, Network(None, 1))
    found: dict[str, dict[str, float]] = {}
    for fold in folds:
        known, tested = parts.folds[fold]
        for name, scores in yardsticks(model, parts.dataset, known, tested).items():
            found.setdefault(name, {})[fold] = round(parts.auroc(scores, tested), 4)
    return _with_means(found)


def measure_map_yardsticks(parts: Parts, folds: list[str]) -> dict[str, Any]:
    """The pixel AUROC of simple maps by name, for each fold and on average."""
    found: dict[str, dict[str, float]] = {}
    for fold in folds:
        known, tested = parts.folds[fold]
        for name, maps in map_yardsticks(parts, known, parts.masked(tested)).items():
            found.setdefault(name, {})[fold] = round(pixel_auroc(parts, maps), 4)
    return _with_means(found)


def _with_means(found: dict[str, dict[str, float]]) -> dict[str, Any]:
    return {
        name: {"auroc": figures, "mean": round(float(np.mean([*figures.values()])), 4)}
        for name, figures in found.items()
    }


def _by_fold(folds: list[str], values: Any) -> dict[str, float]:
    return {fold: round(float(value), 4) for fold, value in zip(folds, values, strict=True)}


if __name__ == "__main__":
    typer.run(main)
