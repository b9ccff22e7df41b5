"""How much the detection depends on which batches the statistics of D's batch norm come from.

python -m adae_edge.train.tables.statistics mnist:DIR CHECKPOINT...

prints the AUROC of ``l2`` on the test frames of each checkpoint of a class: with the statistics
that it was trained with, then with those of G's frames, of the frames themselves, and of both. D
scores G's frames, and checkpoints of 0.1.0 have the statistics of both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.model import ADAE, load_network
from adae_edge.train.data.opening import load_dataset
from adae_edge.train.data.splits import split
from adae_edge.train.evaluate import distances
from adae_edge.train.loading import load_frames, unpack

_BATCHES, _BATCH = 100, 64


def main(
    data: Annotated[str, typer.Argument(help="mnist:DIR, cifar10:DIR or digits")],
    checkpoints: Annotated[list[Path], typer.Argument(help="Finished checkpoints of that data.")],
) -> None:
    """Print a row of AUROCs for each checkpoint."""
    torch.set_num_threads(1)
    typer.echo("| class | seed | as trained | of G's frames | of the frames | of both |")
    typer.echo("|---|---|---:|---:|---:|---:|")
    for path in checkpoints:
        checkpoint = Checkpoint.load(path)
        anomalous, seed = (checkpoint.training["settings"][name] for name in ("anomalous", "seed"))
        aurocs = " | ".join(f"{auroc:.3f}" for auroc in _aurocs(data, checkpoint, anomalous, seed))
        typer.echo(f"| {anomalous} | {seed} | {aurocs} |")


def _aurocs(data: str, checkpoint: Checkpoint, anomalous: int, seed: int) -> list[float]:
    """The AUROC of ``l2`` as trained, and by each kind of statistics."""
    model, dataset = load_network(checkpoint), load_dataset(data, anomalous)
    parts = split(dataset.anomalous, seed)
    frames, _ = load_frames(dataset, parts, model.preprocess)
    random = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(frames), generator=random)[: _BATCHES * _BATCH]
    chosen = torch.split(order, _BATCH)
    batches = [unpack(frames[part], model.preprocess) for part in chosen]

    def auroc() -> float:
        scores = distances(model, dataset, parts.test)["l2"]
        return float(roc_auc_score(dataset.anomalous[parts.test], scores))

    aurocs = [auroc()]
    for generated, real in ((True, False), (False, True), (True, True)):
        _estimate(model, batches, generated, real)
        aurocs.append(auroc())
    return aurocs


@torch.no_grad()
def _estimate(model: ADAE, batches: list[Tensor], generated: bool, real: bool) -> None:
    """Put the mean of the batches' statistics into D's batch norm.

    Args:
        model: in eval mode, also afterwards.
        batches: of frames, float32 [N, C, S, S].
        generated: whether those of G(x) count.
        real: whether those of x count.
    """
    for layer in model.discriminator.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None  # a plain mean of all batches
    model.discriminator.train()
    for x in batches:
        if real:
            model.discriminator(x)
        if generated:
            model.discriminator(model.generator(x))
    model.eval()


if __name__ == "__main__":
    typer.run(main)
