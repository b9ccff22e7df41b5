"""The training loop: two autoencoders, two losses, one pass over the batch (section 3).

``train`` is the main road, top to bottom: frames, networks, epochs, calibration, checkpoint.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from adae_edge import __version__
from adae_edge.calibration import calibrate
from adae_edge.contract import Z_RANGE, Calibration, Contract
from adae_edge.errors import CheckpointError, TrainingError, UsageError
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.formats.files import write_atomically
from adae_edge.model import ADAE, Preprocess, weights_digest
from adae_edge.train.balance import Balance
from adae_edge.train.data.dataset import Dataset
from adae_edge.train.data.splits import split, without_copies
from adae_edge.train.density import fit_density
from adae_edge.train.distributed import Group, check_device, share_batch_norm
from adae_edge.train.loading import load_frames, score_frames, unpack
from adae_edge.train.recipes import Recipe
from adae_edge.train.settings import Settings


@dataclass(frozen=True)
class Update:
    """Where the training is, after each update of the weights. Losses are means over the epoch so far."""

    epoch: int
    epochs: int
    update: int
    updates: int
    loss_real: float
    loss_fake: float
    loss_generator: float
    fake_weight: float
    lr_g: float
    lr_d: float

    @property
    def loss_d(self) -> float:
        """L_D of section 3, with the weight that the balance gives the generated term."""
        return self.loss_real - self.fake_weight * self.loss_fake

    @property
    def loss_g(self) -> float:
        """L_G of section 3."""
        return self.loss_generator + self.loss_fake


def train(
    dataset: Dataset,
    settings: Settings,
    out: Path,
    resume: Checkpoint | None = None,
    on_update: Callable[[Update], None] = lambda update: None,
    device: str = "cpu",
    group: Group | None = None,
    compiled: bool = False,
) -> Contract | None:
    """Train G and D on normals, calibrate the threshold, and write the checkpoint.

    The checkpoint is replaced after every epoch; on the same CPU a resumed training gives the same
    weights, bit for bit, as one that was never interrupted. Metrics go to ``out`` with the suffix
    .metrics.jsonl.

    Args:
        dataset: the one that the settings name.
        settings: everything that decides the outcome.
        out: the checkpoint file.
        resume: the unfinished checkpoint to go on from.
        on_update: called after every update of the weights.
        device: a torch device; of a group of processes, this one's.
        group: the processes that train together, all of them in this function; None for this one
            alone.
        compiled: train with what ``torch.compile`` makes of the networks.

    Returns:
        The contract; None in the processes of a group that are not its first, which alone writes
            and calibrates.

    Raises:
        UsageError: too few normals to promise the false-positive rate, no such device, no compiler,
            or processes that do not divide the batch or do not have the same data.
        DatasetError: the frames are refused.
        CheckpointError: the checkpoint to resume from is of other data.
        TrainingError: a loss is not finite, or a process of the group is gone; the checkpoint of
            the last whole epoch stays.
    """
    group = group or Group(device)
    check_device(device)
    if compiled:
        check_compiler(device)
    parts = split(dataset.anomalous, settings.seed, dataset.groups)
    z_range = Z_RANGE if dataset.kind == "modality" else None
    preprocess = Preprocess(
        settings.side, settings.resize, settings.pad_value, settings.region, z_range
    )
    frames, digest = load_frames(dataset, parts, preprocess)
    parts = without_copies(parts, digest.frames(), settings.data)
    calibrate(
        np.zeros(len(parts.calibration), np.float32), settings.fpr
    )  # refuses before the training, not after it
    frames, data_sha256, seen = frames.to(device), digest.hexdigest(), digest.frames()

    torch.manual_seed(settings.seed)
    model = ADAE(preprocess, dataset.channels, settings.network).to(device)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = Run(model, settings.recipe, group, compiled)
    done = 0
    if resume is not None:
        if resume.training.get("data_sha256") != data_sha256:
            raise CheckpointError(f"{settings.data} is not the data that {out} was trained on")
        done = run.restore(resume)
    batch = min(settings.recipe.batch, len(frames))
    updates = len(frames) // batch
    epochs = settings.epochs or settings.recipe.epochs_for(updates)
    training = {
        "settings": asdict(settings),
        "epochs": epochs,
        "data_sha256": data_sha256,
        **run.position(done),
    }
    if batch % group.size:
        raise UsageError(f"{group.size} processes cannot share a batch of {batch} frames equally")
    group.agree(
        json.dumps(
            [training | {"settings": asdict(replace(settings, data=""))}, weights_digest(model)]
        )
    )
    metrics = Metrics(out, done) if group.first else None

    for epoch in range(done, epochs):
        model.train()
        order = torch.randperm(
            len(frames), generator=torch.Generator().manual_seed(settings.seed + 7919 * epoch)
        )
        sums = np.zeros(3)
        for index in range(updates):
            chosen = group.slice(order[index * batch : (index + 1) * batch]).to(device)
            x = unpack(frames[chosen], preprocess).contiguous(memory_format=torch.channels_last)
            losses = run.update(x, progress=(epoch * updates + index) / (epochs * updates))
            if not np.isfinite(losses).all():
                raise TrainingError(
                    f"a loss is not finite in epoch {epoch + 1}, update {index + 1}: try another "
                    "--recipe or --seed"
                )
            sums += losses
            update = run.describe(sums / (index + 1), epoch, epochs, index, updates)
            on_update(update)
        training |= run.position(epoch + 1)
        if metrics is not None:
            metrics.write(update)
            Checkpoint(_arrays(model.state_dict()), training, state=run.state(), seen=seen).save(
                out
            )

    if not group.first:
        return None
    model.eval()
    model.score = settings.score
    if settings.score == "density":
        model.density = fit_density(model, frames, settings.seed)
    scores, references = score_frames(model, dataset, parts.calibration)
    contract = _contract(dataset, settings, model, calibrate(scores, settings.fpr), data_sha256)
    finished = Checkpoint(_arrays(model.state_dict()), training, contract, seen=seen)
    if settings.references:
        finished.references = references
        finished.statistics = dataset.statistics_of(parts.calibration[: len(references)])
    finished.save(out)
    return contract


class Run:
    """The networks' optimizers and balance: the state that a training carries from update to update."""

    def __init__(
        self, model: ADAE, recipe: Recipe, group: Group | None = None, compiled: bool = False
    ) -> None:
        self.model = model
        self.recipe = recipe
        self.group = group or Group()
        if self.group.size > 1:
            share_batch_norm(model)
        # Wrapped here and not in the model, so that scoring compiles nothing again for batches of
        # other sizes.
        self.generator, self.discriminator = (
            torch.compile(network) if compiled else network
            for network in (model.generator, model.discriminator)
        )
        self.balance = Balance(recipe.slope, recipe.gamma)
        self.precision = mixed_precision(model)
        self.lr_g = self.lr_d = 0.0
        self.adam_g = self._adam(model.generator)
        self.adam_d = self._adam(model.discriminator)

    def update(self, x: Tensor, progress: float) -> tuple[float, float, float]:
        """One update of both networks on x, float32 [N, C, S, S]; ``progress`` is the part of the training done.

        Of a group of processes, each gives its part of the batch as x.

        Returns:
            The means of ||x - D(x)||_1, ||G(x) - D(G(x))||_1 and ||x - G(x)||_1 per pixel, over the whole batch.
        """
        self.adam_g.zero_grad()
        self.adam_d.zero_grad()
        losses = (
            self.gradients(x) if self.recipe.adversarial else self.gradients_of_generator_alone(x)
        )
        losses = self.group.average(_gradients(self.model), losses)
        self.balance.update(losses[0], losses[1])
        rate = self.recipe.learning_rate
        if self.recipe.cosine:
            rate *= 0.5 * (1 + math.cos(math.pi * progress))
        self.lr_d = rate * self.balance.share_d
        self.lr_g = rate - self.lr_d
        self.adam_g.param_groups[0]["lr"] = self.lr_g
        self.adam_d.param_groups[0]["lr"] = self.lr_d
        self.adam_g.step()
        self.adam_d.step()
        return losses

    def gradients(self, x: Tensor) -> tuple[float, float, float]:
        """The gradients of L_G in G's parameters and of L_D in D's; returns the losses as ``update`` does."""
        with self.precision:
            generated, real = self.generator(x), self.discriminator(x)
            fake = generated.detach().requires_grad_()
            again = self.discriminator(fake)
        loss_generator = (x - generated.float()).abs().mean()
        loss_real = (x - real.float()).abs().mean()
        loss_fake = (fake.float() - again.float()).abs().mean()

        # L_G = ||x - G(x)|| + a ||G(x) - D(G(x))|| moves G alone; L_D = ||x - D(x)|| - k ||G(x) -
        # D(G(x))|| moves D alone. Both share the generated term's gradient, so one pass back
        # through D serves both: D's part of it is weighed and turned around, and what arrives at
        # G(x) goes on into G.
        loss_fake.backward()
        torch._foreach_mul_(_gradients(self.model.discriminator), -self.balance.fake_weight)
        torch.autograd.backward(
            [loss_generator + loss_real, generated], [None, self.recipe.adversarial * fake.grad]
        )
        return loss_real.item(), loss_fake.item(), loss_generator.item()

    def gradients_of_generator_alone(self, x: Tensor) -> tuple[float, float, float]:
        """The gradients of ||x - G(x)||_1, for the plain autoencoder that the paper compares with."""
        with self.precision:
            generated = self.generator(x)
        loss_generator = (x - generated.float()).abs().mean()
        loss_generator.backward()
        return 0.0, 0.0, loss_generator.item()

    def describe(
        self, losses: NDArray[np.float64], epoch: int, epochs: int, update: int, updates: int
    ) -> Update:
        """The last update, with the losses' means over the epoch so far."""
        real, fake, generator = (float(loss) for loss in losses)
        weight = self.balance.fake_weight
        return Update(
            epoch, epochs, update, updates, real, fake, generator, weight, self.lr_g, self.lr_d
        )

    def position(self, epoch: int) -> dict[str, Any]:
        """What the checkpoint's header keeps beside the tensors; ``epoch`` counts those that are done."""
        return {"epoch": epoch, "fake_weight": self.balance.fake_weight}

    def state(self) -> dict[str, NDArray[Any]]:
        """The optimizers' tensors by name."""
        tensors: dict[str, Tensor] = {}
        for name, adam in (("g", self.adam_g), ("d", self.adam_d)):
            for index, state in adam.state_dict()["state"].items():
                tensors |= {f"{name}.{index}.{key}": value for key, value in state.items()}
        return _arrays(tensors)

    def restore(self, checkpoint: Checkpoint) -> int:
        """Take over the state of a checkpoint; returns the number of epochs that are done."""
        try:
            weights = {
                name: torch.from_numpy(value.copy()) for name, value in checkpoint.weights.items()
            }
            self.model.load_state_dict(weights)
            for name, adam in (("g", self.adam_g), ("d", self.adam_d)):
                state: dict[int, dict[str, Tensor]] = {}
                parameters = adam.param_groups[0]["params"]
                for key, value in checkpoint.state.items():
                    network, index, field = key.split(".")
                    if network == name:
                        tensor, parameter = torch.from_numpy(value.copy()), parameters[int(index)]
                        if (
                            tensor.shape == parameter.shape
                        ):  # a moment, which must lie in memory as its parameter does
                            tensor = torch.empty_like(parameter).copy_(tensor)
                        state.setdefault(int(index), {})[field] = tensor
                adam.load_state_dict(
                    {"state": state, "param_groups": adam.state_dict()["param_groups"]}
                )
            self.balance.fake_weight = float(checkpoint.training["fake_weight"])
            return int(checkpoint.training["epoch"])
        except (KeyError, IndexError, ValueError, RuntimeError):
            raise CheckpointError(
                "the checkpoint does not hold the state of an unfinished training"
            ) from None

    def _adam(self, network: nn.Module) -> torch.optim.Adam:
        return torch.optim.Adam(
            network.parameters(), lr=0.0, betas=(self.recipe.beta1, 0.999), fused=True
        )


def mixed_precision(model: ADAE) -> torch.autocast:
    """bfloat16 for the convolutions where the device computes in it, and float32 for weights, statistics and losses.

    On a CPU it pays for wide networks alone: of 16 channels, the conversions cost what the
    arithmetic saves.
    """
    parameter = next(model.parameters())
    if parameter.device.type == "cuda":
        return torch.autocast(
            "cuda", torch.bfloat16, enabled=torch.cuda.is_bf16_supported(including_emulation=False)
        )
    wide = parameter.shape[0] >= 64
    return torch.autocast(
        "cpu", torch.bfloat16, enabled=wide and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


class Metrics:
    """One JSON line an epoch beside the checkpoint; a resumed training goes on behind the epochs that are done."""

    def __init__(self, out: Path, done: int) -> None:
        self.path = metrics_path(out)
        kept = (
            self.path.read_text().splitlines(keepends=True)[:done]
            if done and self.path.is_file()
            else []
        )
        write_atomically(self.path, "".join(kept).encode())
        self.started = time.monotonic() - training_seconds(out)

    def write(self, update: Update) -> None:
        """Add the epoch's last update; ``seconds`` are those of all epochs so far, over all resumptions."""
        row = asdict(update) | {
            "epoch": update.epoch + 1,
            "loss_d": update.loss_d,
            "loss_g": update.loss_g,
        }
        row |= {"updates": update.updates, "seconds": round(time.monotonic() - self.started, 3)}
        del row["update"]
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def _contract(
    dataset: Dataset, settings: Settings, model: ADAE, calibration: Calibration, data_sha256: str
) -> Contract:
    return Contract(
        kind=dataset.kind,
        channels=dataset.channels,
        side=settings.side,
        resize=settings.resize,
        pad_value=settings.pad_value,
        region=settings.region,
        network=settings.network,
        score=settings.score,
        calibration=calibration,
        weights_sha256=weights_digest(model),
        data_sha256=data_sha256,
        version=__version__,
        z_range=model.preprocess.z_range,
        modality=dataset.modality,
        window=settings.window,
    )


def check_compiler(device: str) -> None:
    """Compile something for a torch device.

    Raises:
        UsageError: torch.compile cannot, for example because there is no C++ compiler.
    """
    try:
        torch.compile(torch.neg)(torch.zeros(2, device=device))
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"--compile needs a compiler, and torch.compile has none that works: {reason}"
        ) from None


def metrics_path(out: Path) -> Path:
    """Where the training's metrics are, beside its checkpoint."""
    return out.with_name(out.name.removesuffix(".safetensors") + ".metrics.jsonl")


def _gradients(network: nn.Module) -> list[Tensor]:
    return [parameter.grad for parameter in network.parameters() if parameter.grad is not None]


def training_seconds(out: Path) -> float:
    """What the epochs in the metrics took together, or 0 where no metrics tell: a training goes on without them."""
    try:
        return float(json.loads(metrics_path(out).read_text().splitlines()[-1])["seconds"])
    except (OSError, IndexError, ValueError, TypeError, KeyError):
        return 0.0


def _arrays(tensors: dict[str, Tensor]) -> dict[str, NDArray[Any]]:
    return {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in tensors.items()}
