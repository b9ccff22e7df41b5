"""Training throughput: ``train``'s own updates beside a plain PyTorch loop of the same networks.

python -m adae_edge.benchmarks.against.training mnist:DIR [--steps 100] [--rounds 9] [--json FILE]

Both train G and D of network (a) at 32 x 32, float32, on the CPU, with the losses, the balance and
the batch of the recipe ``default``. The plain loop is what one writes first: a Dataset that
converts and resizes frame by frame, a DataLoader, tensors in NCHW, an Adam for each network, and a
backward pass for each loss, with G(X) detached in L_D and D's parameters frozen in L_G. Three
variants of it say what its data costs. A table trains its cells side by side, one thread each, so
that is measured beside one training on all threads.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler

from adae_edge.benchmarks.record import peak_memory_mb, record
from adae_edge.formats.files import write_json
from adae_edge.machine import available_threads
from adae_edge.model import ADAE, Autoencoder
from adae_edge.preprocess import Preprocess
from adae_edge.train.balance import Balance
from adae_edge.train.data.opening import load_dataset
from adae_edge.train.data.splits import split
from adae_edge.train.recipes import RECIPES
from adae_edge.train.run import Run
from adae_edge.train.settings import NETWORKS

SIDE = 32
NETWORK = NETWORKS["a"]
RECIPE = RECIPES["default"]
OURS = "adae-edge"
_CHUNK = 4096

# Makes some updates and returns the last ||x - G(x)||, which shows that it really trains.
Updates = Callable[[int], float]


def main(
    data: Annotated[str, typer.Argument(help="digits or mnist:DIR; digit 0 is held out.")],
    steps: Annotated[int, typer.Option(min=1, help="Updates a round.")] = 100,
    rounds: Annotated[
        int, typer.Option(min=1, help="Rounds of each, in turns, after one that warms up.")
    ] = 9,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Print images/s of each, the ratio of the medians to ours, and the peak memory of ours."""
    # ours, before anything of the plain loops is there
    frames = training_frames(data)
    started = time.perf_counter()
    contenders = {OURS: ours(frames)}
    prepared_s = time.perf_counter() - started
    contenders[OURS](steps)
    memory_mb = peak_memory_mb()

    # the others, and all in turns
    cores = available_threads()
    side_by_side = f"{OURS}, {cores} trainings side by side"
    contenders[side_by_side] = apart(data, cores)
    contenders["plain, 0 workers"] = plain(Frames(frames), 0, steps)
    contenders["plain, 2 workers"] = plain(Frames(frames), 2, steps)
    contenders["plain, 0 workers, resized before"] = plain(ResizedFrames(frames), 0, steps)
    times, losses = in_turns(contenders, steps, rounds)

    # rates and their ratios
    images = steps * min(RECIPE.batch, len(frames))
    rates = {name: images / float(np.median(seconds)) for name, seconds in times.items()}
    rates[side_by_side] *= cores
    rows = []
    for name, rate in rates.items():
        ratio, ratio_side_by_side = rates[OURS] / rate, rates[side_by_side] / rate
        row = {
            "name": name,
            "images_per_s": round(rate, 1),
            "ratio": round(ratio, 3),
            "ratio_side_by_side": round(ratio_side_by_side, 3),
            "seconds": [round(value, 4) for value in times[name]],
            "loss_generator": losses[name],
        }
        rows.append(row)
        typer.echo(
            f"{name:<37}{row['images_per_s']:9.0f} images/s   {OURS} is {ratio:.2f} times as fast, "
            f"side by side {ratio_side_by_side:.2f}"
        )
    typer.echo(
        f"batch {RECIPE.batch}, {torch.get_num_threads()} threads, medians of {rounds} rounds of "
        f"{steps} updates; {OURS}: {memory_mb:.0f} MB resident at the peak, frames prepared once "
        f"in {prepared_s:.1f} s"
    )
    if json_file is not None:
        figures = {
            "threads": torch.get_num_threads(),
            "batch": RECIPE.batch,
            "frames": len(frames),
            "peak_memory_mb": round(memory_mb),
            "prepared_s": round(prepared_s, 2),
            "rows": rows,
        }
        write_json(json_file, record(**figures))


def in_turns(
    contenders: dict[str, Updates], steps: int, rounds: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Let each make updates in turns: its seconds in each round, and its last loss.

    A first round warms up, and every second one goes backwards.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    losses: dict[str, float] = {}
    for turn in range(rounds + 1):
        for name in list(contenders)[:: 1 if turn % 2 else -1]:
            started = time.perf_counter()
            losses[name] = contenders[name](steps)
            if turn:
                times[name].append(time.perf_counter() - started)
    return times, losses


def training_frames(data: str) -> NDArray[np.uint8]:
    """The training part of the data set, uint8 [N, H, W, C]."""
    dataset = load_dataset(data, 0)
    return np.asarray(dataset.frames, np.uint8)[split(dataset.anomalous, 0).train]


def apart(data: str, count: int) -> Updates:
    """The updates of ``ours`` in several processes at once, one thread each."""
    context = multiprocessing.get_context("spawn")
    connections = []
    for _ in range(count):
        here, there = context.Pipe()
        context.Process(target=_train_apart, args=(there, data), daemon=True).start()
        connections.append(here)

    def updates(steps: int) -> float:
        for connection in connections:
            connection.send(steps)
        return max(float(connection.recv()) for connection in connections)

    return updates


def _train_apart(connection: Connection, data: str) -> None:
    torch.set_num_threads(1)
    updates = ours(training_frames(data))
    with contextlib.suppress(EOFError):  # the parent is done
        while True:
            connection.send(updates(connection.recv()))


def ours(raw: NDArray[np.uint8]) -> Updates:
    """The updates of ``train`` on frames uint8 [N, H, W, C], which stay in memory resized."""
    torch.manual_seed(0)
    preprocess = Preprocess(SIDE)
    parts = [
        preprocess.resize(part).round().to(torch.uint8)
        for part in torch.split(torch.from_numpy(raw), _CHUNK)
    ]
    frames = torch.cat(parts)
    model = ADAE(preprocess, raw.shape[3], NETWORK)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = Run(model.train(), RECIPE)

    def updates(steps: int) -> float:
        losses = (0.0, 0.0, 0.0)
        order = torch.randint(len(frames), (steps, min(RECIPE.batch, len(frames))))
        for chosen in order:
            x = preprocess.normalise(frames[chosen]).contiguous(memory_format=torch.channels_last)
            losses = run.update(x, progress=0.0)
        return float(losses[2])

    return updates


class Frames(Dataset[Tensor]):
    """Each frame converted, resized and normalised when it is asked for."""

    def __init__(self, frames: NDArray[np.uint8]) -> None:
        self.frames = frames

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Tensor:
        """float32 [C, side, side] in [-1, 1]."""
        frame = torch.from_numpy(self.frames[index]).permute(2, 0, 1).float()
        frame = nn.functional.interpolate(
            frame[None], (SIDE, SIDE), mode="bilinear", align_corners=False
        )[0]
        return frame / 127.5 - 1.0


class ResizedFrames(Frames):
    """All frames resized and normalised beforehand, so that the loop only collates them."""

    def __init__(self, frames: NDArray[np.uint8]) -> None:
        super().__init__(frames)
        prepared = Frames(frames)
        self.resized = torch.stack([prepared[index] for index in range(len(frames))])

    def __getitem__(self, index: int) -> Tensor:
        return self.resized[index]


def plain(dataset: Frames, workers: int, steps: int) -> Updates:
    """A loop over a DataLoader that yields ``steps`` batches a round."""
    torch.manual_seed(0)
    batch = min(RECIPE.batch, len(dataset))
    sampler = RandomSampler(dataset, num_samples=steps * batch)
    loader = DataLoader(
        dataset, batch, sampler=sampler, num_workers=workers, persistent_workers=workers > 0
    )
    channels = dataset.frames.shape[3]
    generator, discriminator = (Autoencoder(channels, SIDE, NETWORK).train() for _ in range(2))
    adam_g, adam_d = (
        torch.optim.Adam(
            network.parameters(), RECIPE.learning_rate, betas=(RECIPE.beta1, 0.999), fused=False
        )
        for network in (generator, discriminator)
    )
    balance = Balance(RECIPE.slope, RECIPE.gamma)

    def updates(steps: int) -> float:
        loss_x = 0.0
        for x in loader:
            generated = generator(x)

            adam_d.zero_grad()
            real = (x - discriminator(x)).abs().mean()
            fake = (generated.detach() - discriminator(generated.detach())).abs().mean()
            (real - balance.fake_weight * fake).backward()
            adam_d.step()

            adam_g.zero_grad()
            discriminator.requires_grad_(False)
            loss = (x - generated).abs().mean()
            (loss + (generated - discriminator(generated)).abs().mean()).backward()
            discriminator.requires_grad_(True)
            adam_g.step()

            balance.update(real.item(), fake.item())
            loss_x = loss.item()
            adam_d.param_groups[0]["lr"] = RECIPE.learning_rate * balance.share_d
            adam_g.param_groups[0]["lr"] = RECIPE.learning_rate * (1 - balance.share_d)
        return loss_x

    return updates


if __name__ == "__main__":
    typer.run(main)
