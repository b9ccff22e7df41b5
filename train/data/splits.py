"""The split of a data set into training, calibration and test (the paper's section 4.1)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from adae_edge.errors import DatasetError
from adae_edge.train.data.dataset import Indices, images_word

_FOLDS = 5


@dataclass(frozen=True)
class Split:
    """Indices into a data set: 80 % of the normals train, 10 % of those calibrate in their place."""

    train: Indices
    calibration: Indices
    test: Indices


def split(anomalous: NDArray[np.bool_], seed: int, groups: Indices | None = None) -> Split:
    """The paper's protocol: 80 % of the normals train, the others and all anomalous are the test.

    With ``groups`` patients are divided and not frames, as ``_split_groups`` says.

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
    """Take frames out of the calibration that the training sees, too: their scores are lower than a new frame's.

    Args:
        parts: as split.
        digests: uint8 [N, 8], of the training frames and then the calibration frames
            (``Digest.frames``).
        data: what the message calls the data set.

    Raises:
        DatasetError: of ten calibration frames nine or more are such copies, as where one image was
            stored many times.
    """
    rows = [row.tobytes() for row in digests]
    trained = set(rows[: len(parts.train)])
    new = np.array([row not in trained for row in rows[len(parts.train) :]])
    if new.sum() * 10 < len(new):
        raise DatasetError(
            f"{data} holds {len(set(rows))} different {images_word(len(set(rows)))} among "
            f"{len(rows)} that would train "
            "and calibrate: remove the copies"
        )
    return replace(parts, calibration=parts.calibration[new])


def _split_groups(anomalous: NDArray[np.bool_], seed: int, groups: Indices) -> Split:
    """Five folds of whole patients: every slice of one fold is the test, normals of the others train.

    Seeds 0 to 4 are the folds of one permutation of the patients, so together they test each
    patient once; seeds 5 to 9 those of another one, and so on. The last tenth of the training
    patients, one at least, calibrates. Slices train and calibrate in random order: some use the
    first of them alone.
    """
    patients = np.unique(groups)
    if len(patients) < _FOLDS:
        raise DatasetError(f"{len(patients)} patients cannot be split into {_FOLDS} parts")
    folds = np.array_split(np.random.default_rng(seed // _FOLDS).permutation(patients), _FOLDS)
    tested = folds.pop(seed % _FOLDS)
    others = np.concatenate(folds)
    fitted = len(others) - max(len(others) // 10, 1)

    random = np.random.default_rng(seed)

    def normals_of(some: Indices) -> Indices:
        return random.permutation(np.flatnonzero(np.isin(groups, some) & ~anomalous))

    parts = Split(
        normals_of(others[:fitted]),
        normals_of(others[fitted:]),
        np.flatnonzero(np.isin(groups, tested)),
    )
    if not (len(parts.train) and len(parts.calibration)):
        raise DatasetError(
            "the patients for training or for calibration have no normal slices: try another --seed"
        )
    return parts
