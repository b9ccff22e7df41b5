"""Does anything that is learned of nine classes of CIFAR-10 tell the tenth, without any label?

``python -m adae_edge.benchmarks.cifar10 cifar10:DIR`` describes the frames in several ways, fits
the density of the recipe ``linear`` to each description of the normals, and prints the AUROC where
each class is anomalous, by the protocol of the tables. Labels choose nothing: every figure that was
computed is printed. With ``--methods rotation`` a small network learns to tell by which quarter
turns normals are turned; ``--device cuda --width 128 --updates 50000`` is for a GPU.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional

from adae_edge.benchmarks.record import record
from adae_edge.formats.files import write_atomically, write_json
from adae_edge.linear import LinearAutoencoder
from adae_edge.train.data.opening import load_dataset
from adae_edge.train.data.splits import split
from adae_edge.train.density import PICTURE, density_of

# One core does ten classes in minutes so.
SIZES = replace(PICTURE, frames=5000, mixtures=1)
TESTED = 5000
CHUNK = 1000
PATCH, STRIDE, CENTROIDS = 6, 3, 128


class Rotation(nn.Module):
    """A small network that tells by how many quarter turns a frame is turned."""

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = (3, width, 2 * width, 4 * width, 4 * width)
        layers: list[nn.Module] = []
        for index, (before, after) in enumerate(itertools.pairwise(widths)):
            stride = 2 if index < 3 else 1
            layers += [
                nn.Conv2d(before, after, 3, stride, 1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        self.encoder = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(widths[-1], 4)

    def forward(self, x: Tensor) -> Tensor:
        """Frames float32 [N, 3, 32, 32] in [0, 1] -> float32 [N, 4], one value for each turn."""
        turns: Tensor = self.head(self.encoder(2 * x - 1))
        return turns

    def rarity(self, x: Tensor) -> Tensor:
        """x: as for ``forward`` -> float32 [N], how badly the four turns are told on average."""
        logs = [self(turned(x, turns)).log_softmax(dim=1)[:, turns] for turns in range(4)]
        return -torch.stack(logs).mean(dim=0)


def main(
    data: Annotated[str, typer.Argument(help="cifar10:DIR.")],
    out: Annotated[Path, typer.Option(help="Figures go to OUT.json and OUT.md.")] = Path(
        "cifar10-density"
    ),
    methods: Annotated[
        str, typer.Option(help="Of picture, grey-world, contrast, patches and rotation.")
    ] = "picture,grey-world,contrast,patches",
    classes: Annotated[str, typer.Option(help="Anomalous ones.")] = "0,1,2,3,4,5,6,7,8,9",
    seed: Annotated[int, typer.Option(help="Of the split and of what is learned.")] = 0,
    device: Annotated[str, typer.Option(help="On which a network trains, cpu or cuda.")] = "cpu",
    width: Annotated[int, typer.Option(help="Channels of the network's first layer.")] = 32,
    updates: Annotated[int, typer.Option(help="Of the network's weights, 64 frames each.")] = 400,
) -> None:
    """Measure what unsupervised descriptions of CIFAR-10 tell of a class that no normal has."""
    frames = torch.from_numpy(np.asarray(load_dataset(data, 0).frames))
    figures: dict[str, dict[str, float]] = {}
    for name in classes.split(","):
        dataset = load_dataset(data, int(name))
        parts = split(dataset.anomalous, seed)
        tested = np.random.default_rng(seed).permutation(parts.test)[:TESTED]
        labels = dataset.anomalous[tested]
        train, test = frames[parts.train], frames[tested]
        for method in methods.split(","):
            if method == "rotation":
                scored = by_rotation(train, test, seed, device, width, updates)
            else:
                scored = {method: by_density(train, test, DESCRIPTIONS[method](train, seed), seed)}
            for score, values in scored.items():
                auroc = round(float(roc_auc_score(labels, values)), 4)
                figures.setdefault(score, {})[name] = auroc
                typer.echo(f"class {name}, {score}: {auroc:.4f}")
    means = {score: round(float(np.mean([*row.values()])), 4) for score, row in figures.items()}
    result = record(
        seed=seed, auroc=figures, mean=means, labels_seen=sum(map(len, figures.values()))
    )
    table = as_markdown(result)
    typer.echo(table)
    write_json(out.with_suffix(".json"), result)
    write_atomically(out.with_suffix(".md"), (table + "\n").encode())


# What describes frames float32 [N, 3, 32, 32] in [0, 1]: float32 [N, V].
Description = Callable[[Tensor], Tensor]


def by_density(
    train: Tensor, test: Tensor, describe: Description, seed: int
) -> NDArray[np.float32]:
    """Score test frames by the density of normals' descriptions: float32 [N].

    Both are uint8 [N, 32, 32, 3].
    """
    density = density_of(described(train[: SIZES.frames], describe).numpy(), SIZES, seed)
    scores: NDArray[np.float32] = described(test, lambda x: density(describe(x))).numpy()
    return scores


def described(frames: Tensor, describe: Description) -> Tensor:
    """What becomes of frames uint8 [N, 32, 32, 3]: float32 [N, ...]."""
    with torch.inference_mode():
        return torch.cat([describe(part) for part in in_parts(frames)])


def in_parts(frames: Tensor) -> Iterator[Tensor]:
    """uint8 [N, 32, 32, 3] -> float32 [n, 3, 32, 32] in [0, 1], part by part."""
    for part in torch.split(frames, CHUNK):
        yield part.permute(0, 3, 1, 2).float() / 255


def picture(train: Tensor, seed: int) -> Description:
    """As the recipe ``linear`` has it: 16 x 16 pixels, divided by their norm."""
    network = LinearAutoencoder(3, 32, 1)
    return lambda x: network.activations(2 * x - 1)


def grey_world(train: Tensor, seed: int) -> Description:
    """Each channel divided by its own mean, so that the light's colour is gone, too."""
    return lambda x: functional.avg_pool2d(
        x / (x.mean(dim=(2, 3), keepdim=True) + 0.01), 2
    ).flatten(1)


def contrast(train: Tensor, seed: int) -> Description:
    """The mean taken out, and divided by the standard deviation."""

    def describe(x: Tensor) -> Tensor:
        small = functional.avg_pool2d(x, 2).flatten(1)
        spread, mean = torch.std_mean(small, dim=1, keepdim=True)
        return (small - mean) / (spread + 0.03)

    return describe


def patches(train: Tensor, seed: int) -> Description:
    """How near whitened 6x6 patches are to each of 128 centroids, summed in four quarters.

    After Coates, Lee and Ng (2011), "An analysis of single-layer networks in unsupervised feature
    learning".
    """
    # the whitening of patches
    with torch.inference_mode():
        sample = torch.cat([cut(part)[:, ::16].flatten(0, 1) for part in in_parts(train[:5000])])
        centre = sample.mean(dim=0)
        variances, vectors = torch.linalg.eigh(torch.cov((sample - centre).T))
        whitening = vectors / (variances + 0.01).sqrt() @ vectors.T

    # their centroids
    means = MiniBatchKMeans(CENTROIDS, batch_size=2048, n_init=1, random_state=seed)
    centroids = torch.from_numpy(
        means.fit(((sample - centre) @ whitening).numpy()).cluster_centers_
    )

    def describe(x: Tensor) -> Tensor:
        distances = torch.cdist((cut(x) - centre) @ whitening, centroids)
        near = (distances.mean(dim=2, keepdim=True) - distances).clamp(min=0)
        across = (32 - PATCH) // STRIDE + 1
        near = near.transpose(1, 2).reshape(len(x), CENTROIDS, across, across)
        return functional.adaptive_avg_pool2d(near, 2).flatten(1)

    return describe


def cut(x: Tensor) -> Tensor:
    """Frames [N, 3, 32, 32] -> patches [N, P, 108] without their brightness and contrast."""
    patches = functional.unfold(x, PATCH, stride=STRIDE).transpose(1, 2)
    spread, mean = torch.std_mean(patches, dim=2, keepdim=True)
    return (patches - mean) / (spread + 0.04)


DESCRIPTIONS: dict[str, Callable[[Tensor, int], Description]] = {
    "picture": picture,
    "grey-world": grey_world,
    "contrast": contrast,
    "patches": patches,
}


def by_rotation(
    train: Tensor, test: Tensor, seed: int, device: str, width: int, updates: int
) -> dict[str, NDArray[np.float32]]:
    """Score by a network that learned normals' turns, after Golan and El-Yaniv (2018).

    Returns:
        How badly it tells the turns of each test frame, and the density of what its encoder sees.
    """
    # the network
    torch.manual_seed(seed)
    network = Rotation(width).to(device)
    adam = torch.optim.Adam(network.parameters(), lr=1e-3)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(adam, updates)

    # its training: each frame in all four turns, half of them mirrored
    for _ in range(updates):
        x = next(in_parts(train[torch.randint(len(train), (64,))])).to(device)
        x = torch.where(torch.rand(64, 1, 1, 1, device=device) < 0.5, x.flip(3), x)
        turns = torch.arange(4, device=device).repeat_interleave(64)
        told = network(torch.cat([turned(x, number) for number in range(4)]))
        adam.zero_grad()
        torch.autograd.backward(functional.cross_entropy(told, turns))
        adam.step()
        rates.step()

    # its scores
    network.eval()
    with torch.inference_mode():
        badly = torch.cat([network.rarity(part.to(device)).cpu() for part in in_parts(test)])
    density = by_density(train, test, lambda x: network.encoder(x.to(device) * 2 - 1).cpu(), seed)
    return {"rotation, turns": badly.numpy(), "rotation, density": density}


def turned(x: Tensor, turns: int) -> Tensor:
    """Frames [N, C, S, S] by this many quarter turns."""
    return torch.rot90(x, turns, (2, 3))


def as_markdown(result: dict[str, Any]) -> str:
    """The figures as a page."""
    classes = list(next(iter(result["auroc"].values())))
    lines = [
        "# CIFAR-10, one class anomalous among nine normal ones",
        "",
        f"AUROC, seed {result['seed']}. All {result['labels_seen']} figures that the labels gave "
        f"are here. `{result['command']}`",
        "",
        f"| description | {' | '.join(classes)} | mean |",
        f"|---|{'---:|' * (len(classes) + 1)}",
    ]
    for name, row in result["auroc"].items():
        shown = " | ".join(f"{row[number]:.3f}" for number in classes)
        lines.append(f"| {name} | {shown} | {result['mean'][name]:.3f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
