"""The frames that an export's gate and its int8 calibration look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from adae_edge.contract import Contract
from adae_edge.errors import FrameError, UsageError
from adae_edge.export.extremes import Inputs
from adae_edge.formats.checkpoint import REFERENCE_FRAMES, Checkpoint
from adae_edge.runtime.batching import batch_of
from adae_edge.runtime.frame import Event
from adae_edge.runtime.sources.registry import open_for

# Of a folder's frames as many are taken as fit into this.
FRAMES_BYTES = 512 * 2**20


@dataclass(frozen=True)
class ReferenceFrames:
    """Real frames: ``normals`` for the gate and for int8's ranges, ``all`` for the cost, labelled or not."""

    normals: list[Inputs]
    all: list[Inputs]
    anomalous: list[bool] | None


def real_frames(checkpoint: Checkpoint, contract: Contract, folder: Path | None) -> ReferenceFrames:
    """The reference frames that a checkpoint carries, or those of a folder.

    Raises:
        UsageError: there is no such folder, or it gives no frames of the model's kind.
        FrameError: a file cannot be decoded.
    """
    if folder is None:
        carried: list[Inputs] = list(
            zip(checkpoint.references, *checkpoint.statistics, strict=True)
        )
        return ReferenceFrames(carried, carried, None)
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}")
    if not (folder / "normal").is_dir() or not (folder / "anomalous").is_dir():
        normals = _read_frames(folder, contract)
        return ReferenceFrames(normals[:REFERENCE_FRAMES], normals, None)
    normals, anomalous = (_read_frames(folder / kind, contract) for kind in ("normal", "anomalous"))
    labels = [False] * len(normals) + [True] * len(anomalous)
    return ReferenceFrames(normals[:REFERENCE_FRAMES], normals + anomalous, labels)


def _read_frames(folder: Path, contract: Contract) -> list[Inputs]:
    found: list[Inputs] = []
    left = FRAMES_BYTES
    for frame in open_for(contract, str(folder)):
        if isinstance(frame, Event):
            raise FrameError(frame.detail)
        inputs = [array[0] for array in batch_of(frame, contract.channels).arrays()]
        left -= inputs[0].nbytes
        if left < 0:
            break
        found.append(inputs)
    return found
