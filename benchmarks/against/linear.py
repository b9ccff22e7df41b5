"""The linear autoencoder as a yardstick: principal components of normals in place of both networks.

``python -m adae_edge.benchmarks.against.linear mnist:DIR`` prints, for several numbers of
components, the AUROC of ||x - PCA(x)|| where each class is anomalous, and their mean; by the
protocol of the tables, seed 0. Of a score that does not depend on what trained it, the mean over
equally large classes is 0.5: each pair of classes counts once for and once against it. What a mean
is above 0.5 is what was learned about normals.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from sklearn.metrics import roc_auc_score
from torch import Tensor

from adae_edge.benchmarks.record import record
from adae_edge.formats.files import write_json
from adae_edge.preprocess import Preprocess
from adae_edge.train.data.opening import load_dataset
from adae_edge.train.data.splits import split
from adae_edge.train.loading import pack, unpack

COMPONENTS = (0, 2, 5, 10, 20, 40, 80, 160)
CHUNK = 5000


def main(
    data: Annotated[str, typer.Argument(help="mnist:DIR, cifar10:DIR or digits.")],
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures as JSON.")
    ] = None,
) -> None:
    """Measure the linear autoencoder on a data set with ten classes."""
    preprocess = Preprocess(32)
    raw = torch.from_numpy(np.asarray(load_dataset(data, 0).frames))
    parts = [unpack(pack(preprocess, part), preprocess) for part in torch.split(raw, CHUNK)]
    x = torch.cat(parts).flatten(1)
    aurocs: dict[int, list[float]] = {count: [] for count in COMPONENTS}
    for anomalous in range(10):
        for count, auroc in aurocs_of(data, anomalous, x).items():
            aurocs[count].append(auroc)
    for count, figures in aurocs.items():
        shown = " ".join(f"{figure:.3f}" for figure in figures)
        typer.echo(f"{count:4} components  {shown}  mean {np.mean(figures):.3f}")
    if json_file is not None:
        by_count = {str(count): figures for count, figures in aurocs.items()}
        means = {count: round(float(np.mean(figures)), 4) for count, figures in by_count.items()}
        write_json(json_file, record(auroc=by_count, mean=means))


def aurocs_of(data: str, anomalous: int, x: Tensor) -> dict[int, float]:
    """The AUROC with one class held out as anomalous, by the number of components.

    Args:
        data: the data set.
        anomalous: the class.
        x: float32 [N, V], all of its frames as the network sees them.
    """
    dataset = load_dataset(data, anomalous)
    parts = split(dataset.anomalous, seed=0)
    labels = dataset.anomalous[parts.test]
    train, test = x[torch.from_numpy(parts.train)], x[torch.from_numpy(parts.test)]
    centre = train.mean(dim=0)
    train, test = train - centre, test - centre
    basis = torch.linalg.eigh(train.T @ train).eigenvectors.flip(1)  # largest first
    total, inside = test.square().sum(dim=1), (test @ basis).square().cumsum(dim=1)
    aurocs = {}
    for count in COMPONENTS:
        error = total - inside[:, count - 1] if count else total
        aurocs[count] = round(float(roc_auc_score(labels, error)), 4)
    return aurocs


if __name__ == "__main__":
    typer.run(main)
