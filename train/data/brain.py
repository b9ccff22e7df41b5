"""Data sets of brain volumes: patients with tumours (``brats:DIR``) and healthy people (``nifti:DIR``).

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

from adae_edge.decoding.images import is_nifti
from adae_edge.decoding.nifti import Brain, read_brain, read_volume
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

# A slice with fewer tumour voxels, but some, is neither normal nor anomalous, and left out: 20 are
# 20 mm2 at the 1 mm of BraTS, about what two readers differ by along a tumour's edge.
MIN_TUMOUR = 20

_TIMEPOINT = re.compile(r"(BraTS-[A-Z]+-\d+)-\d+")


class _Patient(NamedTuple):
    """One examination: whose it is, its volume and the mask that goes with it."""

    name: str
    volume: Path
    mask: Path | None


class _Slices(NamedTuple):
    """What one volume gives: frames [K, H, W], anomalous bool [K], and the mean and std of its brain."""

    frames: NDArray[np.int16] | NDArray[np.float32]
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
    kind, _, place = spec.partition(":")
    modality = modality or "flair"
    folder = Path(place or ".")
    if modality not in MODALITIES:
        raise UsageError(f"there is no modality {modality}: choose {', '.join(MODALITIES)}")
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}")
    files = sorted(path for path in folder.rglob("*") if is_nifti(path) and path.is_file())
    if not files:
        raise DatasetError(f"there are no NIfTI volumes in {folder}")
    try:
        patients = (
            _with_tumours(files, modality) if kind == "brats" else _healthy(files, modality, folder)
        )
        read = _read_tumour if kind == "brats" else _read_healthy
        with ThreadPoolExecutor(4) as pool:
            slices = list(pool.map(read, patients))
    except FrameError as error:
        raise DatasetError(str(error)) from None
    counts = [len(volume.frames) for volume in slices]
    _, patient_of = np.unique([patient.name for patient in patients], return_inverse=True)
    return Dataset(
        _Frames([volume.frames for volume in slices]),
        np.concatenate([volume.anomalous for volume in slices]),
        channels=1,
        small=False,
        kind="modality",
        modality=modality,
        groups=np.repeat(patient_of, counts),
        statistics=np.repeat(
            np.array([volume.statistics for volume in slices], np.float32), counts, axis=0
        ),
    )


def _with_tumours(files: list[Path], modality: str) -> list[_Patient]:
    """The patients of a BraTS folder: each folder that holds volumes is one examination."""
    folders: dict[Path, list[Path]] = defaultdict(list)
    for path in files:
        folders[path.parent].append(path)
    patients = []
    for folder, inside in folders.items():
        volumes = volumes_of(inside, modality)
        masks = [path for path in inside if TUMOUR_MASK & set(words(path)[-2:])]
        for what, found in ((f"{modality} volume", volumes), ("mask of the tumour", masks)):
            if not found:
                raise DatasetError(f"{folder} has no {what}")
            if len(found) > 1:
                raise DatasetError(
                    f"{folder} has more than one {what}: {found[0].name} and {found[1].name}"
                )
        timepoint = _TIMEPOINT.fullmatch(
            folder.name
        )  # a patient who was examined again is the same patient
        patients.append(_Patient(timepoint[1] if timepoint else str(folder), volumes[0], masks[0]))
    return patients


def _healthy(files: list[Path], modality: str, folder: Path) -> list[_Patient]:
    """Volumes of healthy people, and the masks of their brains where there are any.

    Where several folders beneath ``folder`` hold volumes, as HCP's do, each is a person, however
    many volumes are in it; else each volume is one.
    """
    masks = [path for path in files if BRAIN_MASK & set(words(path))]
    volumes = volumes_of(files, modality)
    if not volumes:
        raise DatasetError(f"there are no {modality} volumes in {folder}")
    # IXI's masks bear the volumes' names; HCP's lie beside them.
    beside = {mask.parent: mask for mask in masks if stem(mask) == "brainmask_fs"}
    people = [path.relative_to(folder).parts[0] for path in volumes]
    if len(set(people)) == 1:
        people = [str(path) for path in volumes]
    patients = [
        _Patient(person, path, mask_of(path, masks) or beside.get(path.parent))
        for person, path in zip(people, volumes, strict=True)
    ]
    masked = [patient for patient in patients if patient.mask]
    if masked and len(masked) < len(patients):
        missing = next(patient for patient in patients if not patient.mask)
        raise DatasetError(f"there is no brain mask for {missing.volume}, and others have one")
    return patients


def _read_tumour(patient: _Patient) -> _Slices:
    brain = read_brain(patient.volume)
    assert patient.mask is not None
    tumour = read_volume(patient.mask) > 0
    if tumour.shape != brain.slices.shape:
        raise DatasetError(f"{patient.mask} has another shape than {patient.volume}")
    area = tumour.sum(axis=(1, 2))[brain.shown]
    decided = (area == 0) | (area >= MIN_TUMOUR)
    return _kept(brain, brain.shown[decided], area[decided] > 0)


def _read_healthy(patient: _Patient) -> _Slices:
    brain = read_brain(patient.volume, patient.mask)
    return _kept(brain, brain.shown, np.zeros(len(brain.shown), np.bool_))


def _kept(brain: Brain, chosen: Indices, anomalous: NDArray[np.bool_]) -> _Slices:
    """The chosen slices, in 16 bits where they hold the values exactly."""
    frames = brain.slices[chosen]
    if np.abs(frames).max(initial=0) < 2**15 and np.array_equal(
        frames, small := frames.astype(np.int16)
    ):
        return _Slices(small, anomalous, (brain.mean, brain.std))
    return _Slices(frames, anomalous, (brain.mean, brain.std))


class _Frames(Sequence[Frame]):
    """Slices of several volumes, one after another, as float32 [H, W, 1]."""

    def __init__(self, volumes: list[NDArray[np.int16] | NDArray[np.float32]]) -> None:
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
            return [self[at] for at in range(len(self))[index]]
        at = range(len(self))[index]
        volume = bisect.bisect_right(self._ends, at)
        frame: Frame = self._volumes[volume][at - self._ends[volume]].astype(np.float32)[..., None]
        return frame
