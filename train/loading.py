"""Frames on their way into the network: packed in memory for training, raw for scoring."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adae_edge.contract import Region
from adae_edge.decoding.images import to_channels
from adae_edge.errors import DatasetError, TrainingError
from adae_edge.formats.checkpoint import REFERENCE_FRAMES, choose_references
from adae_edge.light import Light, light_of
from adae_edge.maps import score_with_map
from adae_edge.model import ADAE
from adae_edge.placement import placement
from adae_edge.preprocess import Preprocess
from adae_edge.train.data.dataset import Dataset, Frame, Indices, read_batches
from adae_edge.train.data.digest import Digest
from adae_edge.train.data.splits import Split


def load_frames(dataset: Dataset, parts: Split, preprocess: Preprocess) -> tuple[Tensor, Digest]:
    """Read the normals that shape the model, and keep those that train at the network's size.

    They are kept as 8 bits, or 16 for z-scores, to hold a large data set in memory; calibration and
    evaluation score the raw frames instead.

    Returns:
        The training frames as ``unpack`` takes them, [N, C, S, S], and the digest of the raw
            training and calibration frames.

    Raises:
        DatasetError: frames that cannot be decoded, that are too small for the region, or in which
            the network sees nothing or no difference.
    """
    wanted = np.concatenate([parts.train, parts.calibration])
    resized: list[Tensor] = []
    digest, start = Digest(), 0
    for batch in read_batches(dataset, wanted):
        check_region(preprocess.region, batch.shape)
        digest.update(batch)
        statistics = dataset.statistics_of(wanted[start : start + len(batch)])
        start += len(batch)
        tensors = map(torch.from_numpy, [batch, *statistics])
        resized.append(pack(preprocess, *tensors))
    packed = torch.cat(resized)
    # Copies of one frame are refused elsewhere, by a sentence of their own.
    if len(np.unique(digest.frames(), axis=0)) > 1:
        _check_content(packed)
    return packed[: len(parts.train)], digest


def _check_content(frames: Tensor) -> None:
    """Refuse frames [N, C, S, S] from which nothing can be learned.

    Raises:
        DatasetError: each is of one level, or all are equal.
    """
    values = frames.flatten(1)
    if (values == values[:, :1]).all():
        raise DatasetError(
            "there is nothing in the normal frames: as the network sees them, each is of one level"
        )
    if (values == values[:1]).all():
        raise DatasetError(
            "the normal frames vary in nothing: as the network sees them, all are equal"
        )


def pack(preprocess: Preprocess, frames: Tensor, *statistics: Tensor) -> Tensor:
    """Resize raw frames, and keep them in few bytes.

    Args:
        preprocess: the network's.
        frames: [N, H, W, C], as a data set has them.
        statistics: for frames in modality units, the means and standard deviations [N].

    Returns:
        [N, C, S, S]: uint8 grey levels, or float16 z-scores in [-1, 1].
    """
    if statistics:
        return preprocess(frames, *statistics).to(torch.float16)  # type: ignore[no-any-return]
    return preprocess.resize(frames).round().to(torch.uint8)


def unpack(frames: Tensor, preprocess: Preprocess) -> Tensor:
    """What ``pack`` returned -> float32 [N, C, S, S] in [-1, 1], as the network sees it."""
    if frames.dtype == torch.uint8:
        return preprocess.normalise(frames)
    return frames.float()


def score_frames(
    model: ADAE, dataset: Dataset, indices: Indices
) -> tuple[NDArray[np.float32], list[Frame]]:
    """Score raw frames as the exported graph will.

    Returns:
        float32 [N] scores in the order of the indices, and the frames that a checkpoint may carry.

    Raises:
        DatasetError: frames that cannot be decoded, or that are too small for the region.
        TrainingError: a score is not finite.
    """
    parts: list[NDArray[np.float32]] = []
    references: list[Frame] = []
    with torch.inference_mode():
        for frames, *statistics in inputs_of(model, dataset, indices):
            references.extend(frames[: max(REFERENCE_FRAMES - len(references), 0)].cpu().numpy())
            parts.append(model(frames, *statistics).cpu().numpy())
    scores = np.concatenate(parts)
    check_finite(scores, indices)
    return scores, choose_references(references)


def map_peaks(model: ADAE, dataset: Dataset, indices: Indices) -> NDArray[np.float32]:
    """The largest value of each raw frame's anomaly map, in the network's pixels.

    Pixels that show nothing but padding do not count.

    Returns:
        float32 [N], in the order of the indices.

    Raises:
        DatasetError: as ``score_frames``.
    """
    seen = model.preprocess
    parts: list[NDArray[np.float32]] = []
    with torch.inference_mode():
        for frames, *statistics in inputs_of(model, dataset, indices):
            _, maps = score_with_map(model, seen(frames, *statistics))
            _, height, width, _ = frames.shape
            place = placement(height, width, seen.side, seen.pad, seen.region)
            parts.append(place.peaks(maps.cpu().numpy()))
    return np.concatenate(parts)


def lights_of(model: ADAE, dataset: Dataset, indices: Indices) -> list[Light]:
    """How light each raw frame is, in the order of the indices; of slices of volumes none.

    Raises:
        DatasetError: as ``score_frames``.
    """
    if dataset.kind != "image":
        return []
    region = model.preprocess.region
    return [
        light_of(frame, region)
        for frames, *_ in inputs_of(model, dataset, indices)
        for frame in frames.cpu().numpy()
    ]


def inputs_of(model: ADAE, dataset: Dataset, indices: Indices) -> Iterator[tuple[Tensor, ...]]:
    """Read what the network takes, up to 256 frames at a time, and put it on the network's device.

    Args:
        model: the network.
        dataset: the frames' data set.
        indices: which of its frames, in this order.

    Yields:
        Raw frames [n, H, W, C], and for frames in modality units the means and standard deviations
            [n].

    Raises:
        DatasetError: as ``score_frames``.
    """
    device = next(model.parameters()).device
    start = 0
    for batch in read_batches(dataset, indices):
        check_region(model.preprocess.region, batch.shape)
        batch = to_channels(batch, model.channels)
        inputs = [batch, *dataset.statistics_of(indices[start : start + len(batch)])]
        start += len(batch)
        parts = [torch.split(torch.from_numpy(array).to(device), 256) for array in inputs]
        yield from zip(*parts, strict=True)


def check_finite(scores: NDArray[np.float32], indices: Indices) -> None:
    """Refuse scores [N] of the frames at ``indices`` that nothing can be compared with.

    Raises:
        TrainingError: one is infinite or no number.
    """
    if len(wrong := indices[~np.isfinite(scores)]):
        raise TrainingError(
            f"the network's score of frame {wrong[0]} is not a finite number: train again with "
            "another --recipe or --seed"
        )


def check_region(region: Region | None, shape: tuple[int, ...]) -> None:
    """Refuse frames [N, H, W, C] that do not contain the region.

    Raises:
        DatasetError: they do not.
    """
    if region is not None:
        region.check(shape[1], shape[2], DatasetError)
