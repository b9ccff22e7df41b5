"""Alternatives to the recipe ``default``: what each changes, and how well its networks detect.

python -m adae_edge.train.tables.variants DATA VARIANT CLASS SEED UPDATES

prints one run's figures as JSON; ``ablations.py`` makes the table of all. They are rows of that
table and no options of the product: whoever doubts a choice can measure it again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import typer
from sklearn.metrics import roc_auc_score
from torch import Tensor

from adae_edge.model import ADAE
from adae_edge.preprocess import Preprocess
from adae_edge.train.data.dataset import Dataset
from adae_edge.train.data.opening import load_dataset
from adae_edge.train.data.splits import split
from adae_edge.train.density import fit_density
from adae_edge.train.evaluate import all_scores
from adae_edge.train.loading import load_frames, unpack
from adae_edge.train.recipes import RECIPES, Recipe
from adae_edge.train.run import Run
from adae_edge.train.settings import NETWORKS
from adae_edge.train.tables import runs
from adae_edge.train.tables.tables import DEVELOPMENT

SIDE = 32
NETWORK = NETWORKS["a"]
DEFAULT = RECIPES["default"]
# The paper's losses, for variants with a balance of their own.
UNCONTROLLED = replace(DEFAULT, gamma=None)


@dataclass(frozen=True)
class Variant:
    """One alternative to the recipe ``default``.

    Attributes:
        what: what it changes, in words.
        recipe: its hyper-parameters.
        run: how it updates the weights.
        latent: size of the latent vector.
    """

    what: str
    recipe: Recipe = DEFAULT
    run: type[Run] = Run
    latent: int = NETWORK.latent


VARIANTS = {
    "default": Variant(
        "the recipe `default`: latent size 32, learning rate 4e-3 along a half cosine, gamma 1"
    ),
    "latent-16": Variant("latent size 16", latent=16),
    "latent-8": Variant("latent size 8", latent=8),
    "latent-4": Variant("latent size 4", latent=4),
    "rate-2e-3": Variant("learning rate 2e-3", replace(DEFAULT, learning_rate=2e-3)),
    "rate-8e-3": Variant("learning rate 8e-3", replace(DEFAULT, learning_rate=8e-3)),
    "constant-rate": Variant("the learning rate stays 4e-3", replace(DEFAULT, cosine=False)),
    "uncontrolled": Variant(
        "the paper's losses: no controller of L_D's generated term", UNCONTROLLED
    ),
    "adversarial-5": Variant(
        "L_G's generated term weighs 5, gamma 0.7", replace(DEFAULT, adversarial=5.0, gamma=0.7)
    ),
    "gamma-0.5": Variant(
        "the controller holds the generated loss at half of the real one",
        replace(DEFAULT, gamma=0.5),
    ),
    "gaia": Variant(
        "the weight that Sainburg et al. give L_D's generated term", UNCONTROLLED, runs.Gaia
    ),
    "margin": Variant(
        "EBGAN's margin for L_D's generated term, twice the real loss", UNCONTROLLED, runs.Margin
    ),
    "margin-0.1": Variant(
        "EBGAN's margin for L_D's generated term, 0.1", UNCONTROLLED, runs.FixedMargin
    ),
    "averaged": Variant(
        "a moving average of both networks' weights, decay up to 0.999", run=runs.Averaged
    ),
    "noise": Variant("G sees the frame with Gaussian noise of 0.3", run=runs.Noisy),
    "erased": Variant("G sees the frame with a rectangle erased", run=runs.Erased),
    "pasted": Variant("G sees the frame with a rectangle of another one", run=runs.Pasted),
    "pseudo": Variant("damaged frames are taught to score high", run=runs.PseudoAnomalies),
    "spread": Variant("a penalty on the spread of the scores in a batch", run=runs.Spread),
    "ink": Variant("a frame's losses weigh as the fourth power of its ink", run=runs.Ink),
    "ink-8": Variant("as the eighth power of its ink", run=runs.Ink8),
    "contrast": Variant(
        "a frame's losses weigh as the fourth power of its standard deviation", run=runs.Contrast
    ),
    "contrast-6": Variant("as the sixth power of its standard deviation", run=runs.Contrast6),
    "ink-latent-8": Variant("ink, and latent size 8", run=runs.Ink, latent=8),
    "ink-gamma-0.5": Variant("ink, and gamma 0.5", replace(DEFAULT, gamma=0.5), runs.Ink),
    "hard": Variant("a frame's losses weigh as their own value", run=runs.Hard),
    "harder": Variant("a frame's losses weigh as the square of their own value", run=runs.Harder),
}


def development_part(data: str, anomalous: int) -> Dataset:
    """Take every third frame of a data set, so that a choice by this table has not seen the others.

    Args:
        data: "digits" or "mnist:DIR".
        anomalous: the class that is held out.

    Raises:
        UsageError, DatasetError: as ``load_dataset``.
    """
    dataset = load_dataset(data, anomalous)
    return replace(
        dataset,
        frames=np.asarray(dataset.frames)[::DEVELOPMENT],
        anomalous=dataset.anomalous[::DEVELOPMENT],
    )


def run_variant(data: str, name: str, anomalous: int, seed: int, updates: int) -> dict[str, float]:
    """Train a variant for one class.

    Args:
        data: as for ``development_part``.
        name: of the variant.
        anomalous: the class that is held out.
        seed: random seed for the split, the first weights and the order of batches.
        updates: how often the weights are updated.

    Returns:
        The AUROC of each named score on the test part of the development part, and the training's
            seconds.
    """
    # frames
    variant, dataset = VARIANTS[name], development_part(data, anomalous)
    parts, preprocess = split(dataset.anomalous, seed), Preprocess(SIDE)
    frames, _ = load_frames(dataset, parts, preprocess)

    # networks
    torch.manual_seed(seed)
    network = replace(NETWORK, latent=variant.latent)
    model = ADAE(preprocess, dataset.channels, network)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = variant.run(model.train(), variant.recipe)

    # training
    begun = time.perf_counter()
    batch = min(variant.recipe.batch, len(frames))
    for index, chosen in enumerate(_batches(len(frames), batch, updates, seed)):
        x = unpack(frames[chosen], preprocess).contiguous(memory_format=torch.channels_last)
        run.update(x, progress=index / updates)
    seconds = time.perf_counter() - begun

    # scores
    model.eval()
    model.density = fit_density(model, frames, seed)
    anomalous_frames = dataset.anomalous[parts.test]
    figures: dict[str, Any] = {}
    for score, values in all_scores(model, dataset, parts.test).items():
        figures[score] = round(float(roc_auc_score(anomalous_frames, values)), 4)
    return figures | {"seconds": round(seconds, 1)}


def _batches(count: int, batch: int, updates: int, seed: int) -> Iterator[Tensor]:
    """Choose each update's frames, in whole epochs of whole batches as ``train`` has them."""
    random = torch.Generator().manual_seed(seed)
    whole = count // batch * batch
    epoch: list[Tensor] = []
    for _ in range(updates):
        if not epoch:
            order = torch.randperm(count, generator=random)[:whole]
            epoch = list(order.split(batch))  # type: ignore[no-untyped-call]
        yield epoch.pop()


def main(data: str, variant: str, anomalous: int, seed: int, updates: int) -> None:
    """Train a variant for one class on one thread, and print its figures."""
    torch.set_num_threads(1)
    typer.echo(json.dumps(run_variant(data, variant, anomalous, seed, updates)))


if __name__ == "__main__":
    typer.run(main)
