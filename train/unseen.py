"""The frames of a data set that a training did not see."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adae_edge.contract import Window
from adae_edge.decoding.images import to_channels
from adae_edge.errors import CheckpointError, DatasetError, UsageError
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.train.data.dataset import Dataset, Frame, read_batches
from adae_edge.train.data.digest import Digest
from adae_edge.train.data.groups import GroupError
from adae_edge.train.data.opening import load_dataset
from adae_edge.train.data.splits import split
from adae_edge.train.settings import Settings


@dataclass(frozen=True)
class UnseenFrames:
    """The frames of a data set that an evaluation may use.

    Attributes:
        dataset: the whole data set.
        indices: which of its frames the training did not see.
        left_out: how many were left out because the training saw them, or frames that are equal.
    """

    dataset: Dataset
    indices: NDArray[np.intp]
    left_out: int

    @property
    def anomalous(self) -> NDArray[np.bool_]:
        """Which of the unseen frames are anomalous, bool [N], in the order of the indices."""
        return self.dataset.anomalous[self.indices]

    def frame(self, index: int, channels: int) -> Frame:
        """The frame [H, W, channels] at an index into ``indices``."""
        return to_channels(self.dataset.frames[int(self.indices[index])], channels)

    def inputs(self, index: int, channels: int) -> list[Frame]:
        """What the network takes for that frame alone.

        Returns:
            [1, H, W, channels], and mean and std [1] for a frame in modality units.
        """
        statistics = self.dataset.statistics_of(self.indices[index : index + 1])
        return [self.frame(index, channels)[None], *statistics]


def unseen_frames(
    checkpoint: Checkpoint, data: str | None = None, window: Window | None = None
) -> UnseenFrames:
    """The frames that the checkpoint's training has not seen.

    Args:
        checkpoint: a finished checkpoint.
        data: where the data set is now, or another one; None for the one of the training. Of
            another data set, or a changed one, every frame is taken that did not train or
            calibrate.
        window: the window of grey values of DICOM files; None for what the training had.

    Raises:
        UsageError, DatasetError: the data set cannot be opened.
        CheckpointError: the data set of the training has changed, so its test part is unknown.
    """
    assert checkpoint.contract is not None
    settings = Settings.from_header(checkpoint.training)

    # the data set
    spec = data or settings.data
    if Path(spec).is_dir():
        dataset = _open_folder(spec, settings, window)
    else:
        viewing = replace(settings, object=checkpoint.contract.object).viewing
        dataset = load_dataset(spec, settings.anomalous, window, settings.modality, viewing=viewing)
    if dataset.kind != checkpoint.contract.kind:
        raise UsageError(
            f"the model takes frames of kind {checkpoint.contract.kind}, and {spec} has "
            f"{dataset.kind}"
        )

    # its test part, or all of another one
    indices = np.arange(len(dataset.anomalous))
    if training_digest(dataset, settings.seed) == checkpoint.training.get("data_sha256"):
        indices = split(dataset.anomalous, settings.seed, dataset.groups).test
    elif data is None:
        raise CheckpointError(
            f"{spec} is no longer the data of this training: name the data to evaluate on"
        )

    # without frames that are equal to one of the training
    digest = Digest()
    for batch in read_batches(dataset, indices):
        digest.update(to_channels(batch, checkpoint.contract.channels))
    seen = {row.tobytes() for row in checkpoint.seen}
    unseen = np.array([row.tobytes() not in seen for row in digest.frames()])
    return UnseenFrames(dataset, indices[unseen], left_out=int((~unseen).sum()))


def _open_folder(spec: str, settings: Settings, window: Window | None) -> Dataset:
    """Open a folder; where its paths do not tell the training's groups, each frame stands alone."""
    window = window or settings.window
    try:
        return load_dataset(spec, None, window, settings.modality, settings.group, settings.bits)
    except GroupError:
        return load_dataset(spec, None, window, settings.modality, bits=settings.bits)


def training_digest(dataset: Dataset, seed: int) -> str | None:
    """The ``data_sha256`` that a training on the data set with this seed has.

    None where it has too few normals to have been trained on.
    """
    try:
        parts = split(dataset.anomalous, seed, dataset.groups)
    except DatasetError:
        return None
    digest = Digest()
    for batch in read_batches(dataset, np.concatenate([parts.train, parts.calibration])):
        digest.update(batch)
    return digest.hexdigest()
