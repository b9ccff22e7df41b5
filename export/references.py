"""The real frames that an export's gate and its choice of layers look at."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from adae_edge.batch import Batch
from adae_edge.contract import Contract
from adae_edge.decoding.layouts import read_layout
from adae_edge.errors import FrameError, UsageError
from adae_edge.formats.checkpoint import REFERENCE_FRAMES, Checkpoint
from adae_edge.runtime.batching import batch_of
from adae_edge.runtime.frame import Event
from adae_edge.runtime.sources.registry import open_for

# A folder's frames are read until they take this.
FRAMES_BYTES = 512 * 2**20


@dataclass(frozen=True)
class ReferenceFrames:
    """Real frames, each a batch of one.

    Attributes:
        normals: for the gate and for INT8's ranges.
        all: for the cost of a lower precision, normal or not.
        anomalous: the labels of ``all``, where they are known.
    """

    normals: list[Batch]
    all: list[Batch]
    anomalous: list[bool] | None


def real_frames(checkpoint: Checkpoint, contract: Contract, folder: Path | None) -> ReferenceFrames:
    """The reference frames that a checkpoint carries, or those of a folder.

    Raises:
        UsageError: there is no such folder, or it gives no frames of the model's kind.
        DatasetError: the names in the folder leave open which frames are normal.
        FrameError: a file cannot be decoded.
    """
    if folder is None:
        carried = _carried(checkpoint)
        return ReferenceFrames(carried, carried, None)
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}")
    layout = read_layout(folder)
    normals = _read(layout.normal, contract)
    if not layout.anomalous:
        return ReferenceFrames(normals[:REFERENCE_FRAMES], normals, None)
    anomalous = _read(layout.anomalous, contract)
    labels = [False] * len(normals) + [True] * len(anomalous)
    return ReferenceFrames(normals[:REFERENCE_FRAMES], normals + anomalous, labels)


def _carried(checkpoint: Checkpoint) -> list[Batch]:
    """The checkpoint's own reference frames."""
    columns = zip(checkpoint.references, *checkpoint.statistics, strict=True)
    return [
        Batch(frame[None], *(np.array([value]) for value in beside)) for frame, *beside in columns
    ]


def _read(folders: list[Path], contract: Contract) -> list[Batch]:
    """The folders' frames in order, as many as fit into ``FRAMES_BYTES``."""
    batches: list[Batch] = []
    left = FRAMES_BYTES
    for frame in chain.from_iterable(
        open_for(contract, str(folder), exact=True) for folder in folders
    ):
        if isinstance(frame, Event):
            if frame.series is not None:
                continue
            raise FrameError(frame.detail)
        batch = batch_of([frame], contract.channels)
        left -= batch.frames.nbytes
        if left < 0:
            break
        batches.append(batch)
    return batches
