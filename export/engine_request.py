"""What an engine is to be like: as it was asked for, and else as it suits the model."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from typing import NamedTuple

from adae_edge.contract import MAX_BATCH, Contract
from adae_edge.errors import UsageError
from adae_edge.formats.enginefile import FLAVOURS
from adae_edge.tensorrt import EXTRAS, MODULES

Size = tuple[int, int]  # height and width
# Smallest, most frequent and largest frames where the model takes any: cameras', and scanners'
# slices.
SIZES: dict[str, tuple[Size, Size, Size]] = {
    "image": ((8, 8), (480, 640), (1080, 1920)),
    "modality": ((8, 8), (256, 256), (1024, 1024)),
}
# The largest batch is one whose frames fit into this as float32, because TensorRT reserves memory
# for the largest.
BATCH_BYTES = 256 * 2**20
LARGEST_BATCH = 256


@dataclass(frozen=True)
class EngineRequest:
    """How an engine is to be built.

    Attributes:
        flavour: one of ``FLAVOURS``; None for the one that is installed.
        capabilities: compute capabilities of the GPUs that will run it, as "8.6", which
            TensorRT-RTX alone can build for; empty for this machine's GPU.
        batch: smallest, most frequent and largest number of frames in a run; None by the contract.
        sizes: smallest, most frequent and largest frame, height and width; None by the contract.
        workspace_mb: memory that the engine's layers may use beside their inputs and outputs; None
            for all.
    """

    flavour: str | None = None
    capabilities: tuple[str, ...] = ()
    batch: tuple[int, int, int] | None = None
    sizes: tuple[Size, Size, Size] | None = None
    workspace_mb: int | None = None


class Ranges(NamedTuple):
    """Smallest, most frequent and largest batch and frame of an engine."""

    batch: tuple[int, int, int]
    sizes: tuple[Size, Size, Size]


def choose_flavour(request: EngineRequest) -> str:
    """The flavour that was asked for, or the installed one.

    Where both are installed it is TensorRT, unless other GPUs are named.

    Raises:
        UsageError: there is no such flavour, none is installed, or TensorRT is to build for other
            GPUs.
    """
    flavour = request.flavour
    if flavour not in (None, *FLAVOURS):
        raise UsageError(f"--flavour is {' or '.join(FLAVOURS)}, and {flavour} is neither")
    if flavour == "tensorrt" and request.capabilities:
        raise UsageError(
            "TensorRT builds for this machine's GPU alone: --compute-capability is for "
            "--flavour tensorrt_rtx"
        )
    if flavour is not None:
        return flavour
    if request.capabilities:
        return "tensorrt_rtx"
    for flavour, modules in MODULES.items():
        if any(map(importlib.util.find_spec, modules)):
            return flavour
    raise UsageError(
        "no TensorRT is installed: on a Jetson it comes with JetPack (apt install "
        "python3-libnvinfer), elsewhere "
        f"pip install 'adae-edge[{EXTRAS['tensorrt']}]' or 'adae-edge[{EXTRAS['tensorrt_rtx']}]'"
    )


def ranges(contract: Contract, request: EngineRequest) -> Ranges:
    """Smallest, most frequent and largest batch and frame: as asked for, or as suits the contract.

    Raises:
        UsageError: they do not rise, or the model takes no such frames.
    """
    sizes = _sizes(contract, request)
    return Ranges(_batch(contract, request, sizes[2]), sizes)


def _sizes(contract: Contract, request: EngineRequest) -> tuple[Size, Size, Size]:
    """Smallest, most frequent and largest frame."""
    fixed, region = contract.form.size, contract.region
    sizes = request.sizes
    if fixed is not None:
        if sizes not in (None, (fixed,) * 3):
            raise UsageError(f"the model was exported for frames of {fixed[1]}x{fixed[0]} alone")
        sizes = (fixed,) * 3
    least = (1, 1)
    if region is not None:
        least = (region.top + region.height, region.left + region.width)
    if sizes is None:
        small, usual, large = (
            (max(height, least[0]), max(width, least[1])) for height, width in SIZES[contract.kind]
        )
        sizes = small, usual, large
    for axis in (0, 1):
        smallest, usual_one, largest = (size[axis] for size in sizes)
        if not least[axis] <= smallest <= usual_one <= largest:
            needed = (
                ""
                if region is None
                else (f", and the model's region takes {least[1]}x{least[0]} at least")
            )
            raise UsageError(
                "--frame-size takes the smallest, the most frequent and the largest frame, as "
                f"64x48,640x480,1920x1080{needed}"
            )
    return sizes


def _batch(contract: Contract, request: EngineRequest, largest: Size) -> tuple[int, int, int]:
    """Smallest, most frequent and largest number of frames in a run, for this largest frame."""
    fixed, batch = contract.form.batch, request.batch
    if fixed is not None:
        if batch not in (None, (fixed,) * 3):
            raise UsageError(f"the model was exported for {fixed} frames in every run")
        batch = (fixed,) * 3
    if batch is None:
        fitting = BATCH_BYTES // (4 * math.prod(largest) * contract.channels)
        batch = 1, 1, min(LARGEST_BATCH, 2 ** int(math.log2(max(1, fitting))))
    if not 1 <= batch[0] <= batch[1] <= batch[2] <= MAX_BATCH:
        raise UsageError(
            "--batch takes the smallest, the most frequent and the largest number of frames in a "
            f"run, 1 to {MAX_BATCH}"
        )
    return batch
