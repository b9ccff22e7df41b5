"""Data sets of brain volumes: patients with tumours, brats:DIR, and healthy people, nifti:DIR.

A frame is one axial slice in the volume's own units, with the mean and the standard deviation of
the volume's brain. All slices are held in memory, about 15 MB for a patient of BraTS.
"""

from __future__ import annotations

import bisect
import re
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from adae_edge.decoding.nifti import read_brain, read_mask
from adae_edge.decoding.objects import Slices
from adae_edge.decoding.volume_names import (
    BRAIN_MASK,
    MODALITIES,
    TUMOUR_MASK,
    mask_of,
    stem,
    volumes_of,
    words,
)
from adae_edge.errors import DatasetError, FrameError, UsageError
from adae_edge.train.data.dataset import Dataset, Frame, Indices
from adae_edge.train.data.folders import nifti_files

# A slice with fewer tumour voxels, but some, is neither normal nor anomalous, and left out: 20 are
# 20 mm2 at the 1 mm of BraTS, about what two readers differ by along a tumour's edge.
MIN_TUMOUR = 20

# A patient who was examined again has the same name up to the last number.
_EXAMINATION = re.compile(r"(BraTS-[A-Z]+-\d+)-\d+")

_Volume = NDArray[np.int16] | NDArray[np.float32]


class _Examination(NamedTuple):
    """One volume of one person.

    Attributes:
        person: the same for all examinations of a person.
        volume: file of the volume.
        mask: file of the tumour's mask for BraTS, else of the brain's, or None.
    """

    person: str
    volume: Path
    mask: Path | None


class _Slices(NamedTuple):
    """The slices of one volume that belong to the data set.

    Attributes:
        frames: [K, H, W] in the volume's units.
        anomalous: bool [K].
        statistics: mean and standard deviation of the volume's brain.
    """

    frames: _Volume
    anomalous: NDArray[np.bool_]
    statistics: tuple[float, float]


def load_brains(spec: str, modality: str | None = None) -> Dataset:
    """Open a data set of brain volumes.

    Args:
        spec: "brats:DIR", folders of patients as BraTS 2017 to 2023 lays them out, with the
            tumour's mask; or "nifti:DIR", volumes of healthy people, for training alone.
        modality: flair, t1, t1ce or t2; None for flair.

    Raises:
        UsageError: no such folder or modality.
        DatasetError: a volume or a mask is missing, damaged, empty or of another shape.
    """
    # which files there are
    kind, _, place = spec.partition(":")
    folder = Path(place or ".")
    modality = modality or "flair"
    if modality not in MODALITIES:
        raise UsageError(f"there is no modality {modality}: choose {', '.join(MODALITIES)}")
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}")
    files = nifti_files(folder)
    if not files:
        raise DatasetError(f"there are no NIfTI volumes in {folder}")

    # read every volume
    try:
        if kind == "brats":
            examinations, read = _with_tumours(files, modality), _read_tumour
        else:
            examinations, read = _healthy(files, modality, folder), _read_healthy
        with ThreadPoolExecutor(4) as pool:
            volumes = list(pool.map(read, examinations))
    except FrameError as error:
        raise DatasetError(str(error)) from error

    # a row for each slice
    counts = [len(volume.frames) for volume in volumes]
    people = [examination.person for examination in examinations]
    _, number_of_person = np.unique(people, return_inverse=True)
    statistics = np.array([volume.statistics for volume in volumes], np.float32)
    return Dataset(
        _Frames([volume.frames for volume in volumes]),
        np.concatenate([volume.anomalous for volume in volumes]),
        channels=1,
        small=False,
        kind="modality",
        modality=modality,
        object="nonzero",
        groups=np.repeat(number_of_person, counts),
        statistics=np.repeat(statistics, counts, axis=0),
    )


def _with_tumours(files: list[Path], modality: str) -> list[_Examination]:
    """The patients of a BraTS folder: each folder that holds volumes is one examination."""
    folders: dict[Path, list[Path]] = defaultdict(list)
    for path in files:
        folders[path.parent].append(path)

    examinations = []
    for folder, inside in folders.items():
        masks = [path for path in inside if TUMOUR_MASK & set(words(path)[-2:])]
        volume = _only(volumes_of(inside, modality), folder, f"{modality} volume")
        mask = _only(masks, folder, "mask of the tumour")
        known = _EXAMINATION.fullmatch(folder.name)
        person = known[1] if known else str(folder)
        examinations.append(_Examination(person, volume, mask))
    return examinations


def _only(paths: list[Path], folder: Path, what: str) -> Path:
    """The one file of its kind in a folder.

    Raises:
        DatasetError: there is none, or there are several.
    """
    if not paths:
        raise DatasetError(f"{folder} has no {what}")
    if len(paths) > 1:
        raise DatasetError(
            f"{folder} has more than one {what}: {paths[0].name} and {paths[1].name}"
        )
    return paths[0]


def _healthy(files: list[Path], modality: str, folder: Path) -> list[_Examination]:
    """Volumes of healthy people, and the masks of their brains where there are any.

    Where several folders beneath ``folder`` hold volumes, as HCP's do, each is a person, however
    many volumes are in it; else each volume is one.
    """
    masks = [path for path in files if BRAIN_MASK & set(words(path))]
    volumes = volumes_of(files, modality)
    if not volumes:
        raise DatasetError(f"there are no {modality} volumes in {folder}")

    people = [path.relative_to(folder).parts[0] for path in volumes]
    if len(set(people)) == 1:
        people = [str(path) for path in volumes]

    # IXI's masks bear the volumes' names; HCP's lie beside them.
    beside = {mask.parent: mask for mask in masks if stem(mask) == "brainmask_fs"}
    examinations = []
    for person, path in zip(people, volumes, strict=True):
        mask = mask_of(path, masks) or beside.get(path.parent)
        examinations.append(_Examination(person, path, mask))

    unmasked = [examination for examination in examinations if examination.mask is None]
    if unmasked and len(unmasked) < len(examinations):
        raise DatasetError(f"there is no brain mask for {unmasked[0].volume}, and others have one")
    return examinations


def _read_tumour(examination: _Examination) -> _Slices:
    """Read the slices with a tumour, which are anomalous, and those without."""
    brain = read_brain(examination.volume)
    assert examination.mask is not None
    tumour = read_mask(examination.mask).voxels
    if tumour.shape != brain.values.shape:
        raise DatasetError(f"{examination.mask} has another shape than {examination.volume}")
    area = tumour.sum(axis=(1, 2))[brain.shown]
    decided = (area == 0) | (area >= MIN_TUMOUR)
    return _chosen(brain, brain.shown[decided], area[decided] > 0)


def _read_healthy(examination: _Examination) -> _Slices:
    """Read the slices of a healthy person, all of them normal."""
    brain = read_brain(examination.volume, examination.mask)
    return _chosen(brain, brain.shown, np.zeros(len(brain.shown), np.bool_))


def _chosen(brain: Slices, indices: Indices, anomalous: NDArray[np.bool_]) -> _Slices:
    """Slices of a volume, in 16 bits where those hold the values exactly."""
    frames: _Volume = brain.values[indices]
    if np.abs(frames).max(initial=0) < 2**15:
        small = frames.astype(np.int16)
        if np.array_equal(frames, small):
            frames = small
    return _Slices(frames, anomalous, (brain.mean, brain.std))


class _Frames(Sequence[Frame]):
    """Slices of several volumes, one after another, as float32 [H, W, 1]."""

    def __init__(self, volumes: list[_Volume]) -> None:
        self._volumes = volumes
        self._ends = np.cumsum([len(volume) for volume in volumes]).tolist()

    def __len__(self) -> int:
        return int(self._ends[-1])

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Frame]: ...
    def __getitem__(self, index: int | slice) -> Frame | Sequence[Frame]:
        if isinstance(index, slice):
            return [self[position] for position in range(len(self))[index]]
        index = range(len(self))[index]  # counts negative ones from the end
        number = bisect.bisect_right(self._ends, index)
        frame: Frame = self._volumes[number][index - self._ends[number]].astype(np.float32)
        return frame[..., None]
