"""Which training suits slices of volumes, by normal slices of patients whom it did not see.

``python -m adae_edge.benchmarks.slices brats:DIR`` leaves out the patients of a fold, and two of
the others. It trains on normals of the rest, by the recipe ``default`` and by changes of it. The
mean absolute error inside of the brains of the two decides. The AUROC of the fold is printed
beside, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from adae_edge.benchmarks.record import record
from adae_edge.contract import Z_RANGE
from adae_edge.formats.files import write_json
from adae_edge.model import ADAE
from adae_edge.preprocess import Preprocess
from adae_edge.slices import interior
from adae_edge.train.augment import moved, random_moves
from adae_edge.train.data.dataset import Dataset, Indices
from adae_edge.train.data.opening import load_dataset
from adae_edge.train.data.splits import split
from adae_edge.train.loading import inputs_of
from adae_edge.train.recipes import RECIPES, Recipe
from adae_edge.train.run import Run
from adae_edge.train.settings import NETWORKS

SIDE = 32
HELD_OUT = 2
DEFAULT = RECIPES["default"]


class Apart(Run):
    """Trains D, too, as an autoencoder of real slices alone."""

    def gradients(self, x: Tensor) -> tuple[float, float, float]:
        """Set the gradients of ||x - G(x)|| and of ||x - D(x)||."""
        with self.precision:
            generated, real = self.generator(x), self.discriminator(x)
        losses = [(x - made.float()).abs().mean() for made in (real, generated)]
        (losses[0] + losses[1]).backward()
        return losses[0].item(), losses[0].item(), losses[1].item()


class WithBackground(nn.Module):
    """A network that gives the background back as it is."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """x: float32 [N, 1, S, S] -> the same."""
        return torch.where(x == -1, -1.0, self.network(x).float())


class Known(Run):
    """Asks of both networks what they make of the brain alone."""

    def __init__(self, model: ADAE, recipe: Recipe) -> None:
        super().__init__(model, recipe)
        self.generator = WithBackground(model.generator)
        self.discriminator = WithBackground(model.discriminator)


@dataclass(frozen=True)
class Variant:
    """A training: its recipe, how it updates the weights, and by how many times 600 updates."""

    recipe: Recipe = DEFAULT
    run: type[Run] = Run
    longer: float = 1.0


VARIANTS = {
    "default": Variant(),
    "moved": Variant(RECIPES["moved"]),
    "moved by 2 pixels": Variant(replace(DEFAULT, reach=2)),
    "adversarial 0.1": Variant(replace(DEFAULT, adversarial=0.1)),
    "moved, adversarial 0.1": Variant(replace(DEFAULT, reach=1, adversarial=0.1)),
    "G and D apart": Variant(run=Apart),
    "the background is given": Variant(run=Known),
    "half as long": Variant(longer=0.5),
    "twice as long": Variant(longer=2.0),
}


def main(
    data: Annotated[str, typer.Argument(help="brats:DIR")],
    out: Annotated[Path, typer.Option(help="The JSON file.")] = Path("slices.json"),
    modality: Annotated[str, typer.Option(help="Which volumes.")] = "flair",
    network: Annotated[str, typer.Option(help="a or b.")] = "a",
    folds: Annotated[str, typer.Option(help="Seeds, separated by commas.")] = "0,1,2",
    variants: Annotated[str, typer.Option(help="Names, separated by ;.")] = ";".join(VARIANTS),
    updates: Annotated[int, typer.Option(min=1, help="Of the weights.")] = 600,
) -> None:
    """Train every variant on every fold, and print its errors and its AUROC."""
    torch.set_num_threads(1)
    dataset = load_dataset(data, None, modality=modality)
    x = _as_seen(dataset)
    rows = []
    for fold in folds.split(","):
        for name in variants.split(";"):
            figures = measure(dataset, x, VARIANTS[name], int(fold), network, updates)
            rows.append({"variant": name, "fold": int(fold), **figures})
            typer.echo(rows[-1])
            settings = {"modality": modality, "network": network, "updates": updates}
            write_json(out, record(settings=settings, rows=rows))


def measure(
    dataset: Dataset, x: Tensor, variant: Variant, fold: int, network: str, updates: int
) -> dict[str, float]:
    """Train a variant without a fold's patients and two others.

    Args:
        dataset: the slices.
        x: all of them as the network sees them, float32 [N, 1, S, S].
        variant: what is trained.
        fold: a seed, as for ``split``.
        network: one of ``NETWORKS``.
        updates: of the default.

    Returns:
        Errors of G(x) and of D(G(x)) inside of brains that were held out, and of G(x) inside of
            those that trained; AUROC of the scores on the fold.
    """
    # frames and networks
    train, held, test = divided(dataset, fold)
    torch.manual_seed(fold)
    model = ADAE(Preprocess(SIDE, "pad", z_range=Z_RANGE), 1, NETWORKS[network])
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.measured = "interior"
    run = variant.run(model.train(), variant.recipe)

    # training
    updates, random = int(updates * variant.longer), torch.Generator().manual_seed(fold)
    batches = _batches(x[train], variant.recipe, random)
    for update in range(updates):
        run.update(next(batches), update / updates)

    # figures
    model.eval()
    with torch.inference_mode():
        scores = model.distances(x[test])
        errors = {
            "held_out_generator": _error(model, x[held], "generator"),
            "held_out_l2": _error(model, x[held], "l2"),
            "trained_generator": _error(model, x[train], "generator"),
        }
    anomalous = dataset.anomalous[test]
    auroc = {f"auroc_{name}": roc_auc_score(anomalous, of) for name, of in scores.items()}
    return {name: round(float(value), 5) for name, value in (errors | auroc).items()}


def divided(dataset: Dataset, fold: int) -> tuple[Indices, Indices, Indices]:
    """Indices of the normals that train, of the two patients' that decide, and of the fold."""
    assert dataset.groups is not None
    test = split(dataset.anomalous, fold, dataset.groups).test
    others = np.setdiff1d(dataset.groups, dataset.groups[test])
    held = np.random.default_rng(fold).permutation(others)[:HELD_OUT]
    normal = ~dataset.anomalous & np.isin(dataset.groups, others)
    decides = np.isin(dataset.groups, held)
    return np.flatnonzero(normal & ~decides), np.flatnonzero(normal & decides), test


def _as_seen(dataset: Dataset) -> Tensor:
    """Every slice as the network sees it, float32 [N, 1, S, S]."""
    model = ADAE(Preprocess(SIDE, "pad", z_range=Z_RANGE), 1, NETWORKS["a"])
    every = np.arange(len(dataset.anomalous))
    with torch.inference_mode():
        parts = [model.preprocess(*inputs) for inputs in inputs_of(model, dataset, every)]
    return torch.cat(parts).clone()


def _batches(frames: Tensor, recipe: Recipe, random: torch.Generator) -> Iterator[Tensor]:
    """Batches without end, in whole epochs, moved as the recipe says."""
    size = min(recipe.batch, len(frames))
    while True:
        order = torch.randperm(len(frames), generator=random)
        for start in range(0, len(frames) - size + 1, size):
            batch = frames[order[start : start + size]]
            if recipe.reach:
                batch = moved(batch, random_moves(size, recipe.reach, random))
            yield batch.contiguous(memory_format=torch.channels_last)


def _error(model: ADAE, x: Tensor, name: str) -> float:
    """The mean absolute error inside of the brains."""
    difference: Any = (x - model.reconstruction(x, name)).abs().sum() / interior(x).sum()
    return float(difference)


if __name__ == "__main__":
    typer.run(main)
