"""Does it find defects, and would something trivial have found them?

``python -m adae_edge.benchmarks.detection elpv:DIR`` trains on the normals of three module folds of
``elpv_mono``, as the command line does on a folder, and prints the AUROC within modules beside that
of yardsticks. A yardstick gets all normals of the fold's other modules; a training gets them as a
folder, and keeps some of them for its threshold and its own test, by the seed of that split.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from adae_edge.benchmarks.record import record
from adae_edge.contract import Network
from adae_edge.errors import DatasetError
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.formats.files import write_atomically, write_json
from adae_edge.model import ADAE, Preprocess, load_network
from adae_edge.train.data.dataset import Dataset, Indices
from adae_edge.train.data.opening import load_dataset
from adae_edge.train.loading import score_frames
from adae_edge.train.request import TrainRequest, prepare
from adae_edge.train.yardsticks import Scores, auroc_within, yardsticks

# Modules that are tested together, by fold; those before 05 have hardly a normal cell.
FOLDS = {"A": (5, 8, 14, 17), "B": (6, 9, 12, 15, 18), "C": (7, 10, 11, 13, 16)}
MODULES = tuple(sorted(module for fold in FOLDS.values() for module in fold))
RECIPES = ("linear:local", "linear:l2")


@dataclass(frozen=True)
class Cells:
    """Solar cells.

    Attributes:
        paths: of the images.
        dataset: the same as frames.
        modules: int [N], the module of each.
    """

    paths: list[Path]
    dataset: Dataset
    modules: Indices

    def fold(self, name: str) -> tuple[Indices, Indices]:
        """Indices of the normals of other modules, and of the fold's own cells."""
        tested = np.isin(self.modules, FOLDS[name])
        used = np.isin(self.modules, MODULES)
        normals = used & ~tested & ~self.dataset.anomalous
        return np.flatnonzero(normals), np.flatnonzero(tested)

    def within(self, scores: Scores, tested: Indices) -> float:
        """AUROC of the fold's cells within their modules."""
        anomalous, modules = self.dataset.anomalous[tested], self.modules[tested]
        return auroc_within(scores, anomalous, modules)


def main(
    data: Annotated[str, typer.Argument(help="elpv:DIR, DIR with normal/ and anomalous/.")],
    out: Annotated[Path, typer.Option(help="Figures go to OUT.json and OUT.md.")] = Path(
        "detection"
    ),
    recipes: Annotated[str, typer.Option(help="RECIPE:SCORE, separated by commas.")] = ",".join(
        RECIPES
    ),
    seeds: Annotated[str, typer.Option(help="Of the split, separated by commas.")] = "0,1,2",
) -> None:
    """Measure how well defects are found, with yardsticks beside."""
    name, _, place = data.partition(":")
    if name != "elpv":
        raise typer.BadParameter("give elpv:DIR")
    cells = open_cells(Path(place))
    trained = {
        choice: [
            [train_and_score(cells, fold, choice, int(seed)) for fold in FOLDS]
            for seed in seeds.split(",")
        ]
        for choice in recipes.split(",")
    }
    result = record(
        seeds=seeds,
        folds={fold: [len(part) for part in cells.fold(fold)] for fold in FOLDS},
        trained={choice: in_figures(runs) for choice, runs in trained.items()},
        yardsticks=measure_yardsticks(cells),
    )
    table = as_markdown(result)
    typer.echo(table)
    write_json(out.with_suffix(".json"), result)
    write_atomically(out.with_suffix(".md"), (table + "\n").encode())


def open_cells(folder: Path) -> Cells:
    """Open the folder; the files are named mMM_cellNNNN.png.

    Raises:
        DatasetError: they are not.
    """
    normal, anomalous = (sorted((folder / kind).glob("*.png")) for kind in ("normal", "anomalous"))
    paths = normal + anomalous
    try:
        modules = np.array([int(path.name[1:3]) for path in paths])
    except ValueError as error:
        raise DatasetError(f"{folder} is not elpv_mono: its files name no modules") from error
    return Cells(paths, load_dataset(str(folder)), modules)


def train_and_score(cells: Cells, fold: str, choice: str, seed: int) -> tuple[float, float]:
    """Train as ``adae-edge train`` on a folder of the other modules' normals.

    Args:
        cells: all of them.
        fold: that is tested.
        choice: RECIPE:SCORE.
        seed: of the training's split.

    Returns:
        AUROC within the fold's modules, and the seconds until the checkpoint was written.
    """
    recipe, _, score = choice.partition(":")
    known, tested = cells.fold(fold)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "normals"
        folder.mkdir()
        for index in known:
            (folder / cells.paths[index].name).symlink_to(cells.paths[index].resolve())
        out = Path(place) / "checkpoint.safetensors"
        begun = time.perf_counter()
        request = TrainRequest(data=str(folder), out=out, recipe=recipe, score=score, seed=seed)
        prepare(request).run()
        seconds = time.perf_counter() - begun
        model = load_network(Checkpoint.load(out))
    scores, _ = score_frames(model, cells.dataset, tested)
    return cells.within(scores, tested), seconds


def in_figures(runs: list[list[tuple[float, float]]]) -> dict[str, Any]:
    """The runs of one choice, a list of folds for each seed, as figures."""
    auroc = np.array([[figure for figure, _ in folds] for folds in runs])
    seconds = [second for folds in runs for _, second in folds]
    means = auroc.mean(axis=1)
    return {
        "auroc": dict(zip(FOLDS, auroc.mean(axis=0).round(4).tolist(), strict=True)),
        "mean": round(float(means.mean()), 4),
        "spread": round(float(auroc.std(axis=0).max()), 4),
        "seconds": round(float(np.median(seconds)), 1),
    }


def measure_yardsticks(cells: Cells) -> dict[str, Any]:
    """The yardsticks' AUROC by name, for each fold and on average."""
    model = ADAE(Preprocess(64), 1, Network(None, 1))
    found: dict[str, dict[str, float]] = {}
    for fold in FOLDS:
        known, tested = cells.fold(fold)
        for name, scores in yardsticks(model, cells.dataset, known, tested).items():
            found.setdefault(name, {})[fold] = round(cells.within(scores, tested), 4)
    return {
        name: {"auroc": figures, "mean": round(float(np.mean([*figures.values()])), 4)}
        for name, figures in found.items()
    }


def as_markdown(result: dict[str, Any]) -> str:
    """The figures as a page."""
    best = {
        fold: max(row["auroc"][fold] for row in result["yardsticks"].values()) for fold in FOLDS
    }
    lines = [
        "# Detection of defects, and yardsticks",
        "",
        f"Solar cells of `elpv_mono`: AUROC within modules. `{result['command']}`",
        "",
        f"| | {' | '.join(f'fold {fold}' for fold in FOLDS)} | mean | largest spread over seeds |",
        f"|---|{'---:|' * (len(FOLDS) + 2)}",
    ]
    for choice, row in result["trained"].items():
        recipe, score = choice.split(":")
        name = f"`--recipe {recipe} --score {score}`"
        lines.append(_line(name, row["auroc"], row["mean"], f"{row['spread']:.3f}"))
    lines.append(_line("the best yardstick of each fold", best, np.mean([*best.values()]), ""))
    for name, row in result["yardsticks"].items():
        lines.append(_line(name, row["auroc"], row["mean"], ""))
    return "\n".join(lines)


def _line(name: str, figures: dict[str, float], mean: float, spread: str) -> str:
    shown = " | ".join(f"{figures[fold]:.3f}" for fold in FOLDS)
    return f"| {name} | {shown} | {mean:.3f} | {spread} |"


if __name__ == "__main__":
    typer.run(main)
