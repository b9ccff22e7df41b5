"""Data sets of raw frames, and the paper's split of them (section 4.1).

Named as on the command line: ``digits`` (scikit-learn's 8x8 digits), ``mnist:DIR`` (the official
idx files, gzipped or not), ``cifar10:DIR`` (the official batches), ``brats:DIR`` and ``nifti:DIR`` (see
``brain.py``), or a folder of images and DICOM files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adae_edge.errors import DatasetError, FrameError, UsageError
from adae_edge.frames import is_nifti
from adae_edge.train import official
from adae_edge.train.folders import open_folder, unusable
from adae_edge.train.official import CIFAR10_CLASSES, Labelled

Frame = NDArray[np.uint8 | np.float32]
Indices = NDArray[np.intp]

_BATCH_BYTES = 32 * 2**20
_FOLDS = 5

# Data sets with ten classes: what reads them from a folder.
_READERS: dict[str, Callable[[Path], Labelled]] = {
    "digits": lambda folder: official.digits(),
    "mnist": official.mnist,
    "cifar10": official.cifar10,
}


@dataclass(frozen=True)
class Dataset:
    """Raw frames and which of them are anomalous.

    Attributes:
        frames: by index, uint8 [H, W, channels], or float32 [H, W, 1]; an index may raise FrameError.
        anomalous: bool [N].
        channels: 1 or 3, the same for all frames.
        small: frames so small that the network's paper side of 32 shows everything.
        note: what is to be said beside every figure, or "".
        kind, modality: of the frames, as in the contract.
        groups: int [N], whose frame each is, where several are of one patient; or None.
        statistics: float32 [N, 2], mean and standard deviation for each frame of kind "modality"; or None.
    """

    frames: Sequence[Frame] | Frame
    anomalous: NDArray[np.bool_]
    channels: int
    small: bool
    note: str = ""
    kind: str = "image"
    modality: str | None = None
    groups: Indices | None = None
    statistics: NDArray[np.float32] | None = None

    def statistics_of(self, indices: Indices) -> list[NDArray[np.float32]]:
        """Of these frames, the mean and the standard deviation, float32 [n] each; nothing for images."""
        return [] if self.statistics is None else list(self.statistics[indices].T)


@dataclass(frozen=True)
class Split:
    """Indices into a data set: 80 % of the normals train, 10 % of those calibrate in their place."""

    train: Indices
    calibration: Indices
    test: Indices


def load_dataset(
    spec: str,
    anomalous: int | None = None,
    window: tuple[float, float] | None = None,
    modality: str | None = None,
) -> Dataset:
    """Open a data set.

    Args:
        spec: "digits", "mnist:DIR", "cifar10:DIR", "brats:DIR", "nifti:DIR", or a folder with images and
            DICOM files in ``normal/`` and, for evaluation, ``anomalous/``; a folder without ``normal/``
            holds normals only.
        anomalous: the class that is held out, for data sets that have classes.
        window: centre and width of the grey values of DICOM files, in place of their own.
        modality: which volumes of brats and nifti are taken, flair, t1, t1ce or t2; None for flair.

    Raises:
        UsageError: no such data set, or a class or window where none can be chosen or is missing.
        DatasetError: the files are missing, damaged or empty, or show several orientations.
    """
    name, _, place = spec.partition(":")
    read = _READERS.get(spec if name == "digits" else name)
    volumes = spec.startswith(("brats:", "nifti:"))
    if anomalous is not None and read is None:
        raise UsageError(
            "--anomalous chooses a class of digits, mnist or cifar10; a folder says it by normal/ and anomalous/"
        )
    if window is not None and (volumes or read is not None):
        raise UsageError(f"--window is for DICOM files, and {name} has none")
    if modality is not None and not volumes:
        raise UsageError("--modality chooses among the volumes of brats:DIR and nifti:DIR")
    if volumes:
        from adae_edge.train.brain import load_brains

        return load_brains(spec, modality)
    if read is None:
        return _folder(Path(spec), window)
    if anomalous is None or not 0 <= anomalous <= 9:
        raise UsageError(f"{name} needs the class that is anomalous: --anomalous 0 to 9")
    return _with_classes(spec, read(Path(place or ".")), anomalous)


def class_number(spec: str, anomalous: str | None) -> int | None:
    """The class that ``--anomalous`` chooses by its number or, for cifar10, by its name.

    Raises:
        UsageError: it is neither.
    """
    if anomalous is None or anomalous.isdecimal():
        return None if anomalous is None else int(anomalous)
    if spec.partition(":")[0] != "cifar10":
        raise UsageError(f"--anomalous takes a class by its number, 0 to 9, and {anomalous} is none")
    name = {"airplane": "plane", "automobile": "car"}.get(anomalous, anomalous)  # as the official files call them
    if name not in CIFAR10_CLASSES:
        raise UsageError(f"cifar10 has no class {name}: choose 0 to 9 or {', '.join(CIFAR10_CLASSES)}")
    return CIFAR10_CLASSES.index(name)


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
            f"{len(order)} normal {_images(len(order))} cannot be split into training, calibration and test"
        )
    test = np.concatenate([order[kept:], np.flatnonzero(anomalous)])
    return Split(train=order[:fitted], calibration=order[fitted:kept], test=test)


def without_copies(parts: Split, digests: NDArray[np.uint8], data: str) -> Split:
    """Take frames out of the calibration that the training sees, too: their scores are lower than a new frame's.

    Args:
        parts: as split.
        digests: uint8 [N, 8], of the training frames and then the calibration frames (``Digest.frames``).
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
            f"{data} holds {len(set(rows))} different {_images(len(set(rows)))} among {len(rows)} that would train "
            "and calibrate: remove the copies"
        )
    return replace(parts, calibration=parts.calibration[new])


def _split_groups(anomalous: NDArray[np.bool_], seed: int, groups: Indices) -> Split:
    """Five folds of whole patients: every slice of one fold is the test, normals of the others train.

    Seeds 0 to 4 are the folds of one permutation of the patients, so together they test each patient
    once; seeds 5 to 9 those of another one, and so on. The last tenth of the training patients, one at
    least, calibrates. Slices train and calibrate in random order: some use the first of them alone.
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

    parts = Split(normals_of(others[:fitted]), normals_of(others[fitted:]), np.flatnonzero(np.isin(groups, tested)))
    if not (len(parts.train) and len(parts.calibration)):
        raise DatasetError("the patients for training or for calibration have no normal slices: try another --seed")
    return parts


def read_batches(dataset: Dataset, indices: Indices) -> Iterator[Frame]:
    """The frames at ``indices``, in order, stacked where neighbours share a size: [n, H, W, C].

    Raises:
        DatasetError: some frames cannot be decoded; names them.
    """
    failures: list[FrameError] = []
    pending: list[Frame] = []
    for frame in _read(dataset.frames, indices, failures):
        full = (len(pending) + 1) * frame.nbytes > _BATCH_BYTES
        if pending and (full or frame.shape != pending[0].shape):
            yield np.stack(pending)
            pending = []
        pending.append(frame)
    if failures:
        raise unusable(failures)
    if pending:
        yield np.stack(pending)


class Digest:
    """SHA-256 over the shapes and pixels of frames, in order."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()
        self._frames: list[bytes] = []

    def update(self, batch: Frame) -> None:
        """Take in frames [n, H, W, C]; how frames are stacked makes no difference."""
        for frame in batch:
            sha = hashlib.sha256(str(frame.shape).encode())
            sha.update(np.ascontiguousarray(frame).data)
            self._sha.update(sha.digest())
            self._frames.append(sha.digest()[:8])

    def hexdigest(self) -> str:
        """Of all frames so far."""
        return self._sha.hexdigest()

    def frames(self) -> NDArray[np.uint8]:
        """uint8 [N, 8], the beginning of each frame's own SHA-256."""
        return np.frombuffer(b"".join(self._frames), np.uint8).reshape(-1, 8)


def whole_digest(spec: str) -> str:
    """SHA-256 of a whole data set, the same for every class or modality that may be taken of it.

    Args:
        spec: as for ``load_dataset``: pictures and labels of data sets with classes; names and contents of the files of
            brain volumes, since their names tell the patients.

    Raises:
        DatasetError: as ``load_dataset``.
    """
    name, _, place = spec.partition(":")
    folder, sha = Path(place or "."), hashlib.sha256()
    if name in _READERS:
        labelled = _READERS[name](folder)
        for array in (labelled.frames, labelled.labels):
            sha.update(str(array.shape).encode())
            sha.update(np.ascontiguousarray(array).data)
        return sha.hexdigest()
    for path in sorted(path for path in folder.rglob("*") if is_nifti(path) and path.is_file()):
        with path.open("rb") as file:
            sha.update(f"{path.relative_to(folder)} {hashlib.file_digest(file, 'sha256').hexdigest()}".encode())
    return sha.hexdigest()


def _read(frames: Sequence[Frame] | Frame, indices: Indices, failures: list[FrameError]) -> Iterator[Frame]:
    """Frames in order, decoded by a few threads; what cannot be decoded goes to ``failures``."""

    def read(index: int) -> Frame | FrameError:
        try:
            return frames[index]
        except FrameError as error:
            return error

    if isinstance(frames, np.ndarray):
        yield from (frames[index] for index in indices)
        return
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(indices), 32):
            for frame in pool.map(read, indices[start : start + 32]):
                if isinstance(frame, FrameError):
                    failures.append(frame)
                else:
                    yield frame


def _with_classes(name: str, labelled: Labelled, anomalous: int) -> Dataset:
    held_out = labelled.labels == anomalous
    if not held_out.any():
        raise DatasetError(f"{name} has no image of the class {anomalous}, so nothing would be anomalous")
    if held_out.all():
        raise DatasetError(f"{name} has only images of the class {anomalous}, so nothing would be normal")
    return Dataset(labelled.frames, held_out, labelled.frames.shape[3], small=True, note=labelled.note)


def _folder(folder: Path, window: tuple[float, float] | None) -> Dataset:
    if not folder.is_dir():
        raise UsageError(
            f"there is no data set {folder}: give digits, mnist:DIR, cifar10:DIR, brats:DIR, nifti:DIR or a folder"
        )
    frames, anomalous = open_folder(folder, window)
    return Dataset(frames, anomalous, frames.channels, small=False)


def _images(count: int) -> str:
    return "image" if count == 1 else "images"
