"""The split of a data set into training, calibration and test (the paper's section 4.1)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from adae_edge.errors import DatasetError
from adae_edge.train.data.dataset import Dataset, Indices, images_word

_FOLDS = 5


@dataclass(frozen=True)
class Split:
    """Indices into a data set for each part, int [n].

    Attributes:
        train: frames that train.
        calibration: normals that set the threshold; the same array as ``train`` where every normal
            does both, see ``shared``.
        test: normals and all anomalous frames that measure.
    """

    train: Indices
    calibration: Indices
    test: Indices

    @property
    def shared(self) -> bool:
        """Whether every normal trains and calibrates, each scored by a fit that did not see it."""
        return self.calibration is self.train


def split(anomalous: NDArray[np.bool_], seed: int, groups: Indices | None = None) -> Split:
    """Split by the paper's protocol: 80 % of the normals train, all other frames are the test.

    Of the 80 %, the last tenth calibrates and does not train.

    Args:
        anomalous: bool [N].
        seed: of the random order.
        groups: int [N], the patient or group of each frame. Patients are divided then, and not
            frames: five folds of whole patients, of which one is the test.

    Raises:
        DatasetError: fewer than 8 normals or 5 patients, so that a part would be empty.
    """
    if groups is not None:
        return _split_groups(anomalous, seed, groups)
    order = np.random.default_rng(seed).permutation(np.flatnonzero(~anomalous))
    kept = int(0.8 * len(order))
    fitted = min(int(0.9 * kept), kept - 1)
    if fitted < 5:
        raise DatasetError(
            f"{len(order)} normal {images_word(len(order))} cannot be split into training, "
            "calibration and test"
        )
    test = np.concatenate([order[kept:], np.flatnonzero(anomalous)])
    return Split(train=order[:fitted], calibration=order[fitted:kept], test=test)


def without_copies(parts: Split, digests: NDArray[np.uint8], data: str) -> Split:
    """Take copies of training frames out of the calibration, as they score lower than new frames.

    Args:
        parts: the split.
        digests: uint8 [N, 8], of the training frames and then the calibration frames
            (``Digest.frames``).
        data: what the message calls the data set.

    Raises:
        DatasetError: more than nine of ten calibration frames are such copies, as where one image
            was stored many times.
    """
    frames = [digest.tobytes() for digest in digests]
    trained = set(frames[: len(parts.train)])
    new = np.array([frame not in trained for frame in frames[len(parts.train) :]])
    if new.sum() * 10 < len(new):
        different = len(set(frames))
        raise DatasetError(
            f"{data} holds {different} different {images_word(different)} among {len(frames)} that "
            "would train and calibrate: remove the copies"
        )
    return replace(parts, calibration=parts.calibration[new])


def sharing(parts: Split, digests: NDArray[np.uint8], most: int) -> Split:
    """Let all normals of both parts train and calibrate, of copies the first one alone.

    A copy in another fold would be scored by a fit that saw it.

    Args:
        parts: the split.
        digests: as for ``without_copies``.
        most: how many of them, at most.
    """
    normals = np.concatenate([parts.train, parts.calibration])
    _, first = np.unique(digests, axis=0, return_index=True)
    normals = normals[np.sort(first)[:most]]
    return replace(parts, train=normals, calibration=normals)


def check_groups(dataset: Dataset, rule: str) -> None:
    """Refuse a folder whose normals have too few groups to be divided.

    Args:
        dataset: with groups.
        rule: of --group, for the message.

    Raises:
        DatasetError: fewer than 5.
    """
    assert dataset.groups is not None
    count = len(np.unique(dataset.groups[~dataset.anomalous]))
    if count < _FOLDS:
        raise DatasetError(
            f"--group {rule} finds {count} group{'s' * (count != 1)} among the normals, and "
            f"{_FOLDS} are needed to train, calibrate and test with different ones"
        )


def _split_groups(anomalous: NDArray[np.bool_], seed: int, groups: Indices) -> Split:
    """Split whole patients in five folds: one is the test, normals of the others train.

    Seeds 0 to 4 are the folds of one permutation of the patients, so together they test each
    patient once; seeds 5 to 9 those of another one, and so on. The last tenth of the training
    patients, one at least, calibrates. Slices train and calibrate in random order: some use the
    first of them alone. Patients without normal slices train nothing, and every seed tests them.
    """
    patients = np.unique(groups)
    if len(patients) < _FOLDS:
        raise DatasetError(f"{len(patients)} patients cannot be split into {_FOLDS} parts")
    with_normals = np.unique(groups[~anomalous])
    patients = with_normals if len(with_normals) >= _FOLDS else patients
    folds = np.array_split(np.random.default_rng(seed // _FOLDS).permutation(patients), _FOLDS)
    folds.pop(seed % _FOLDS)
    others = np.concatenate(folds)
    fitted = len(others) - max(len(others) // 10, 1)

    random = np.random.default_rng(seed)

    def normals_of(chosen: Indices) -> Indices:
        return random.permutation(np.flatnonzero(np.isin(groups, chosen) & ~anomalous))

    parts = Split(
        train=normals_of(others[:fitted]),
        calibration=normals_of(others[fitted:]),
        test=np.flatnonzero(~np.isin(groups, others)),
    )
    if not (len(parts.train) and len(parts.calibration)):
        raise DatasetError(
            "the patients for training or for calibration have no normal slices: try another --seed"
        )
    return parts
