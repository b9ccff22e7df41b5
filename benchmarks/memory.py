"""Whether what is to be measured fits into the memory, told before anything is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from adae_edge.batch import Batch
from adae_edge.benchmarks.load import arrays_for
from adae_edge.errors import UsageError
from adae_edge.machine import free_memory
from adae_edge.runtime.scorer import Scorer

_FEW_BYTES = 2**24  # of frames, by which a call is tried
_MOST_FEW = 256
_ROUNDED_UP = 2  # ONNX Runtime takes memory in powers of two


def check_memory(scorer: Scorer, size: tuple[int, int], batch: int, streams: int = 1) -> None:
    """Refuse a batch that does not fit into the memory: its frames, or the call that scores them.

    Args:
        scorer: has scored a frame already. A few more of this size tell what a call takes.
        size: width and height of the frames, pixels.
        batch: frames a call; as many batches as take turns are held.
        streams: scorers that call at the same time, each with frames of its own.

    Raises:
        UsageError: it does not fit.
        AdaeEdgeError: as ``Scorer.score``.
    """
    (width, height), contract = size, scorer.contract
    frame_bytes = width * height * contract.channels * (1 if contract.kind == "image" else 4)
    held = arrays_for(size, contract.channels, batch) * frame_bytes
    _refuse(size, batch, streams, held)
    few = min(_MOST_FEW, max(2, _FEW_BYTES // frame_bytes))
    if batch > few:
        _refuse(size, batch, streams, held + _takes(scorer, size, few))


def _refuse(size: tuple[int, int], batch: int, streams: int, frame_bytes: int) -> None:
    """Refuse a batch that takes more than is free, at so many bytes for each of its frames."""
    needed, free = frame_bytes * batch * streams, free_memory()
    if free is not None and needed > free:
        each = f", and {streams} streams of them," if streams > 1 else ""
        raise UsageError(
            f"batches of {batch} frames of {size[0]}x{size[1]}{each} take {needed / 1e9:.1f} GB, "
            f"and {free / 1e9:.1f} GB of memory are free"
        )


def _takes(scorer: Scorer, size: tuple[int, int], few: int) -> int:
    """Bytes that a call takes for each frame, at least, by a call with a few of them."""
    shape = (few, size[1], size[0], scorer.contract.channels)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    arrays, before = Batch.of_pictures(pixels, scorer.contract).arrays(), _resident_bytes()
    scorer.score(*arrays)
    return max(0, _resident_bytes() - before) // few // _ROUNDED_UP


def _resident_bytes() -> int:
    """Memory of this process; 0 where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))
    except (OSError, StopIteration, ValueError):
        return 0
