"""Data sets of raw frames, and the paper's split of them (section 4.1).

Named as on the command line: ``digits`` (scikit-learn's 8x8 digits), ``mnist:DIR`` (the official
idx files, gzipped or not), ``brats:DIR`` and ``nifti:DIR`` (see ``brain.py``), or a folder of images.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from adae_edge.errors import DatasetError, FrameError, MissingExtra, UsageError
from adae_edge.frames import IMAGE_SUFFIXES, decode_image, is_grey, to_channels

Frame = NDArray[np.uint8 | np.float32]
Indices = NDArray[np.intp]

_BATCH_BYTES = 32 * 2**20
_NAMES_SHOWN = 10
_FOLDS = 5


@dataclass(frozen=True)
class Dataset:
    """Raw frames and which of them are anomalous.

    Attributes:
        frames: by index, uint8 [H, W, channels], or float32 [H, W, 1]; an index may raise FrameError.
        anomalous: bool [N].
        channels: 1 or 3, the same for all frames.
        small: frames so small that the network's paper side of 32 shows everything.
        kind: of the frames, as in the contract.
        groups: int [N], whose frame each is, where several are of one patient; or None.
        statistics: float32 [N, 2], mean and standard deviation for each frame of kind "modality"; or None.
    """

    frames: Sequence[Frame] | Frame
    anomalous: NDArray[np.bool_]
    channels: int
    small: bool
    kind: str = "image"
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


def load_dataset(spec: str, anomalous: int | None = None, modality: str | None = None) -> Dataset:
    """Open a data set.

    Args:
        spec: "digits", "mnist:DIR", "brats:DIR", "nifti:DIR", or a folder with images in
            ``normal/`` and, for evaluation, ``anomalous/``; a folder without ``normal/`` holds normals only.
        anomalous: the class that is held out, for data sets that have classes.
        modality: which volumes of brats and nifti are taken, flair, t1, t1ce or t2; None for flair.

    Raises:
        UsageError: no such data set, or a class where none can be chosen or is missing.
        DatasetError: the files are missing, damaged or empty.
    """
    if spec.startswith(("brats:", "nifti:")) and anomalous is None:
        from adae_edge.train.brain import load_brains

        return load_brains(spec, modality)
    if modality is not None:
        raise UsageError("--modality chooses among the volumes of brats:DIR and nifti:DIR")
    if spec == "digits":
        return _digits(_class(spec, anomalous))
    if spec == "mnist" or spec.startswith("mnist:"):
        folder = Path(spec.partition(":")[2] or ".")
        return _mnist(folder, _class("mnist", anomalous))
    if anomalous is not None:
        raise UsageError("--anomalous chooses a class of digits or mnist; a folder says it by normal/ and anomalous/")
    return _folder(Path(spec))


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


def _split_groups(anomalous: NDArray[np.bool_], seed: int, groups: Indices) -> Split:
    """Five folds of whole patients: every slice of one fold is the test, normals of the others train.

    Seeds 0 to 4 are the folds of one permutation of the patients, so together they test each patient
    once; seeds 5 to 9 those of another one, and so on. The last tenth of the training patients, one at
    least, calibrates.
    """
    patients = np.unique(groups)
    if len(patients) < _FOLDS:
        raise DatasetError(f"{len(patients)} patients cannot be split into {_FOLDS} parts")
    folds = np.array_split(np.random.default_rng(seed // _FOLDS).permutation(patients), _FOLDS)
    tested = folds.pop(seed % _FOLDS)
    others = np.concatenate(folds)
    fitted = len(others) - max(len(others) // 10, 1)

    def normals_of(some: Indices) -> Indices:
        return np.flatnonzero(np.isin(groups, some) & ~anomalous)

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
        shown = "; ".join(str(failure) for failure in failures[:_NAMES_SHOWN])
        more = f"; and {len(failures) - _NAMES_SHOWN} more" if len(failures) > _NAMES_SHOWN else ""
        raise DatasetError(f"{len(failures)} {_images(len(failures))} cannot be used: {shown}{more}")
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


def _class(name: str, anomalous: int | None) -> int:
    if anomalous is None or not 0 <= anomalous <= 9:
        raise UsageError(f"{name} needs the class that is anomalous: --anomalous 0 to 9")
    return anomalous


def _digits(anomalous: int) -> Dataset:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingExtra("The data set of digits", "train") from None
    digits = load_digits()
    frames = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    return Dataset(frames, digits.target == anomalous, channels=1, small=True)


def _mnist(folder: Path, anomalous: int) -> Dataset:
    images, labels = [], []
    for part in ("train", "t10k"):
        pictures = _idx(folder / f"{part}-images-idx3-ubyte", dimensions=3)
        classes = _idx(folder / f"{part}-labels-idx1-ubyte", dimensions=1)
        if len(pictures) != len(classes):
            raise DatasetError(f"{folder}: {part} has {len(pictures)} images and {len(classes)} labels")
        images.append(pictures)
        labels.append(classes)
    frames = np.concatenate(images)[..., None]
    return Dataset(frames, np.concatenate(labels) == anomalous, channels=1, small=True)


def _idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read an idx file of bytes, gzipped (.gz) or not."""
    for candidate in (path, path.with_name(path.name + ".gz")):
        if candidate.is_file():
            break
    else:
        raise DatasetError(f"there is no {path.name} or {path.name}.gz in {path.parent}")
    try:
        data = candidate.read_bytes()
        if candidate.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        raise DatasetError(f"{candidate} is damaged: it cannot be decompressed") from None
    header = 4 + 4 * dimensions
    if data[:4] != bytes([0, 0, 8, dimensions]) or len(data) < header:
        raise DatasetError(f"{candidate} is no idx file of bytes in {dimensions} dimension{'s' * (dimensions > 1)}")
    shape = [int.from_bytes(data[at : at + 4], "big") for at in range(4, header, 4)]
    size = int(np.prod(shape, dtype=object))
    if len(data) - header != size:
        raise DatasetError(f"{candidate} declares {size} bytes and has {len(data) - header}")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


class _Files(Sequence[Frame]):
    """Image files, decoded when they are asked for."""

    def __init__(self, paths: list[Path], channels: int) -> None:
        self._paths = paths
        self._channels = channels

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Frame]: ...
    def __getitem__(self, index: int | slice) -> Frame | Sequence[Frame]:
        if isinstance(index, slice):
            return _Files(self._paths[index], self._channels)
        return to_channels(decode_image(self._paths[index]), self._channels)


def _folder(folder: Path) -> Dataset:
    if not folder.is_dir():
        raise UsageError(f"there is no data set {folder}: give digits, mnist:DIR or a folder of images")
    sorted_out = (folder / "normal").is_dir()
    normal = _image_paths(folder / "normal" if sorted_out else folder)
    anomalous = _image_paths(folder / "anomalous") if sorted_out else []
    if not normal:
        raise DatasetError(f"there are no images in {folder / 'normal' if sorted_out else folder}")
    paths = normal + anomalous
    with ThreadPoolExecutor() as pool:
        channels = 1 if all(pool.map(is_grey, paths)) else 3
    labels = np.repeat([False, True], [len(normal), len(anomalous)])
    return Dataset(_Files(paths, channels), labels, channels, small=False)


def _image_paths(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())


def _images(count: int) -> str:
    return "image" if count == 1 else "images"
