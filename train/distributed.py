"""One training on several processes, machines or GPUs, which ``torchrun`` starts.

Every process holds the whole training data and both networks, and takes its part of each batch.
What a batch decides as a whole is added up over the processes: the gradients, the losses, and the
statistics of batch norm. So the processes together do what one does alone, and their networks stay
equal.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from adae_edge.errors import TrainingError, UsageError, first_line
from adae_edge.train.device import check_device

# How long a process waits for the slowest one: above what reading a large data set takes longer on
# one machine.
_TIMEOUT = timedelta(minutes=10)


@dataclass(frozen=True)
class Group:
    """The processes of one training; a process that trains alone is a whole group.

    Attributes:
        device: the torch device of this process.
        rank: number of this process.
        size: how many there are.
    """

    device: str = "cpu"
    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes, prints and calibrates."""
        return self.rank == 0

    def slice(self, batch: Tensor) -> Tensor:
        """This process's part of a batch: [N, ...] -> [N / size, ...], where size divides N."""
        return batch.chunk(self.size)[self.rank]

    def average(
        self, gradients: list[Tensor], losses: tuple[float, float, float]
    ) -> tuple[float, float, float]:
        """Replace this process's gradients by their means over the processes.

        Returns:
            The means of the losses.

        Raises:
            TrainingError: another process is gone.
        """
        if self.size == 1:
            return losses
        tensors = [*gradients, gradients[0].new_tensor(losses)]
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        _all_reduce(flat)
        *means, loss_means = torch.split(flat / self.size, [tensor.numel() for tensor in tensors])
        for gradient, mean in zip(gradients, means, strict=True):
            gradient.copy_(mean.view(gradient.shape))
        real, fake, generator = loss_means.tolist()
        return real, fake, generator

    def agree(self, text: str) -> None:
        """Make sure that every process has the same text.

        Raises:
            UsageError: they have not.
            TrainingError: another process is gone.
        """
        if self.size == 1:
            return
        digest = list(hashlib.sha256(text.encode()).digest())
        lowest, highest = (
            torch.tensor(digest, dtype=torch.uint8, device=self.device) for _ in range(2)
        )
        _all_reduce(lowest, dist.ReduceOp.MIN)
        _all_reduce(highest, dist.ReduceOp.MAX)
        if not torch.equal(lowest, highest):
            raise UsageError(
                "the processes of this training do not have the same data, options and PyTorch"
            )


ALONE = Group()


@contextlib.contextmanager
def joined(device: str) -> Iterator[Group]:
    """Join the other processes, if torchrun started several: by gloo on CPUs, by NCCL on GPUs.

    Args:
        device: cpu or cuda; cuda is one GPU for each process of a machine. Any torch device for a
            process alone.

    Raises:
        UsageError: no such device, or something else than torchrun started the processes.
        TrainingError: they do not find each other.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        yield Group(device)
        return
    if device not in ("cpu", "cuda"):
        raise UsageError(
            "several processes train on --device cpu or cuda, which is a GPU for each, not on "
            f"{device}"
        )
    try:
        rank, size, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        if device == "cuda":
            device = f"cuda:{local}"
            check_device(device)
            torch.cuda.set_device(device)
        dist.init_process_group("gloo" if device == "cpu" else "nccl", timeout=_TIMEOUT)
    except (KeyError, ValueError) as error:
        raise UsageError(
            "WORLD_SIZE is set without the rest of what torchrun sets: start processes with it"
        ) from error
    except RuntimeError as error:
        raise TrainingError(
            f"the processes of this training do not find each other: {first_line(error)}"
        ) from error
    try:
        yield Group(device, rank, size)
    finally:
        dist.destroy_process_group()


class WholeBatchNorm(nn.BatchNorm2d):
    """Batch norm by the statistics of the whole batch, of which each process has an equal part.

    ``nn.SyncBatchNorm`` is the same for GPUs alone.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, C, H, W] -> the same shape and dtype."""
        if not self.training:
            return super().forward(x)
        assert self.momentum is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        values = x.float()
        sums = torch.cat([values.sum((0, 2, 3)), values.square().sum((0, 2, 3))])
        count = dist.get_world_size() * x.numel() // x.shape[1]
        mean, square = torch.chunk(_Sum.apply(sums) / count, 2)  # type: ignore[no-untyped-call]
        variance = (square - mean.square()).clamp(min=0)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
            self.num_batches_tracked.add_(1)
        scale = self.weight * (variance + self.eps).rsqrt()
        shift = self.bias - mean * scale
        return (values * scale[:, None, None] + shift[:, None, None]).to(x.dtype)


def share_batch_norm(network: nn.Module) -> None:
    """Let a network's batch norm see the whole batch; its parameters, and their names, stay."""
    for layer in network.modules():
        if type(layer) is nn.BatchNorm2d:
            layer.__class__ = WholeBatchNorm


class _Sum(torch.autograd.Function):
    """The sum of a tensor over the processes.

    Each process's loss depends on it, so its gradient is a sum, too.
    """

    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        _all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        _all_reduce(total)
        return total


def _all_reduce(tensor: Tensor, operation: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM) -> None:
    try:
        dist.all_reduce(tensor, operation)
    except RuntimeError as error:
        raise TrainingError(
            "another process of this training is gone or silent; finished epochs are kept"
        ) from error
