"""Data sets of brain volumes: patients with tumours, brats:DIR, and healthy people.

Healthy people are volumes, nifti:DIR, or a scanner's series, dicom:DIR. A frame is one axial slice
in the volume's own units, with the mean and the standard deviation of the volume's object. All
slices are held in memory, about 15 MB for a patient of BraTS.
"""

from __future__ import annotations

import bisect
import math
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from adae_edge.acquisition import Acquisition
from adae_edge.contract import OBJECTS
from adae_edge.decoding.lending import Lender
from adae_edge.decoding.nifti import read_mask
from adae_edge.decoding.objects import Field
from adae_edge.decoding.scans import (
    Scan,
    dicom_files,
    nifti_files,
    nifti_scan,
    nifti_scans,
    series_scans,
)
from adae_edge.decoding.series import Found
from adae_edge.decoding.volume_names import (
    BRAIN_MASK,
    MODALITIES,
    TUMOUR_MASK,
    mask_of,
    stem,
    volumes_of,
    words,
)
from adae_edge.errors import DatasetError, FrameError, NoPicture, UsageError
from adae_edge.train.data.dataset import WHOLE, Dataset, Frame, Viewing

# A slice with fewer tumour voxels, but some, is neither normal nor anomalous, and left out: 20 are
# 20 mm2 at the 1 mm of BraTS, about what two readers differ by along a tumour's edge.
MIN_TUMOUR = 20

# A patient who was examined again has the same name up to the last number.
_EXAMINATION = re.compile(r"(BraTS-[A-Z]+-\d+)-\d+")

# The field of view holds the largest object of the data set and this part more, in whole steps.
_MARGIN, _STEP = 0.1, 10  # mm

_Volume = NDArray[np.int16] | NDArray[np.float32]


class _Examination(NamedTuple):
    """One volume of one person.

    Attributes:
        person: the same for all examinations of a person.
        scan: the volume, and the mask of its brain if there is one.
        tumour: the tumour's mask; None for healthy people.
    """

    person: str
    scan: Scan
    tumour: Path | None = None


class _Slices(NamedTuple):
    """The slices of one volume that belong to the data set.

    Attributes:
        frames: [K, H, W] in the volume's units, whole.
        anomalous: bool [K].
        statistics: mean and standard deviation of the volume's object.
        field: the part of each slice that is looked at, by the field of view.
        extent: of the object, mm.
        acquisition: how the volume was acquired, if its files say it.
    """

    frames: _Volume
    anomalous: NDArray[np.bool_]
    statistics: tuple[float, float]
    field: Callable[[float | None], Field]
    extent: float
    acquisition: Acquisition | None


def load_brains(spec: str, modality: str | None = None, viewing: Viewing = WHOLE) -> Dataset:
    """Open a data set of brain volumes.

    Args:
        spec: "brats:DIR", folders of patients as BraTS 2017 to 2023 lays them out, with the
            tumour's mask; "nifti:DIR", volumes of healthy people, or "dicom:DIR", their series,
            both for training alone.
        modality: flair, t1, t1ce or t2; None for flair, and of series for whatever they show.
        viewing: what of the volumes is looked at.

    Raises:
        UsageError: no such folder, modality or rule, or one that these volumes cannot have.
        DatasetError: a volume or a mask is missing, damaged, empty or of another shape.
    """
    kind, _, place = spec.partition(":")
    folder = Path(place or ".")
    if modality is None and kind != "dicom":
        modality = "flair"
    if modality is not None and modality not in MODALITIES:
        raise UsageError(f"there is no modality {modality}: choose {', '.join(MODALITIES)}")
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}")
    rule = _rule(kind, viewing)
    try:
        examinations = _FINDERS[kind](folder, modality, viewing)
        masked = any(examination.scan.read_mask for examination in examinations)
        rule = rule or ("mask" if masked else "nonzero")
        with ThreadPoolExecutor(4) as pool:
            volumes = list(pool.map(lambda one: _read(one, rule), examinations))
        if viewing.chosen and kind != "brats":
            viewing = viewing._replace(field_of_view=field_of_view_for(volumes))
        fields = [volume.field(viewing.field_of_view) for volume in volumes]
    except FrameError as error:
        raise DatasetError(str(error)) from error

    # a row for each slice
    counts = [len(volume.frames) for volume in volumes]
    people = [examination.person for examination in examinations]
    _, number_of_person = np.unique(people, return_inverse=True)
    statistics = np.array([volume.statistics for volume in volumes], np.float32)
    acquisitions: list[Acquisition | None] = []
    if kind == "dicom":
        for volume in volumes:
            acquisitions += [volume.acquisition] * len(volume.frames)
    return Dataset(
        _Frames([volume.frames for volume in volumes], fields),
        np.concatenate([volume.anomalous for volume in volumes]),
        channels=1,
        small=False,
        kind="modality",
        modality=modality,
        object=rule,
        field_of_view=viewing.field_of_view,
        groups=np.repeat(number_of_person, counts),
        statistics=np.repeat(statistics, counts, axis=0),
        acquisitions=acquisitions,
    )


def field_of_view_for(volumes: Sequence[_Slices]) -> float:
    """The side of a square, mm, that holds all of these objects, and somewhat larger ones."""
    extent = max(volume.extent for volume in volumes)
    return math.ceil(extent * (1 + _MARGIN) / _STEP) * _STEP


def _rule(kind: str, viewing: Viewing) -> str | None:
    """The rule that is asked for, if it goes with the kind of data set."""
    rule, masked = viewing.object, viewing.brain_mask is not None
    if rule is not None and rule not in OBJECTS:
        raise UsageError(f"there is no object {rule}: choose {', '.join(OBJECTS)}")
    if kind == "brats" and (rule not in (None, "nonzero") or masked):
        raise UsageError("the volumes of brats:DIR are skull-stripped: their object is nonzero")
    if rule == "head" and masked:
        raise UsageError("--object head takes the whole head: leave out --brain-mask")
    if kind == "dicom" and rule != "head" and not masked:
        raise UsageError(
            "DICOM series show the skull: train on the whole head with --object head, or give "
            "masks of the brain by --brain-mask"
        )
    return rule


def _with_tumours(place: Path, modality: str | None, viewing: Viewing) -> list[_Examination]:
    """The patients of a BraTS folder: each folder that holds volumes is one examination."""
    files = _volumes_in(place)
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
        examinations.append(_Examination(person, nifti_scan(volume, None), mask))
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


def _healthy(folder: Path, modality: str | None, viewing: Viewing) -> list[_Examination]:
    """Volumes of healthy people, and the masks of their brains where there are any.

    Where several folders beneath ``folder`` hold volumes, as HCP's do, each is a person, however
    many volumes are in it; else each volume is one.
    """
    files = _volumes_in(folder)
    if viewing.brain_mask is not None:
        scans = nifti_scans(folder, viewing.brain_mask, modality)
        people = _people([Path(scan.name) for scan in scans], folder)
        return list(map(_Examination, people, scans))
    masks = [path for path in files if BRAIN_MASK & set(words(path))]
    volumes = volumes_of(files, modality)
    if not volumes:
        raise DatasetError(f"there are no {modality} volumes in {folder}")

    # IXI's masks bear the volumes' names; HCP's lie beside them.
    beside = {mask.parent: mask for mask in masks if stem(mask) == "brainmask_fs"}
    examinations = []
    for person, path in zip(_people(volumes, folder), volumes, strict=True):
        mask = mask_of(path, masks) or beside.get(path.parent)
        examinations.append(_Examination(person, nifti_scan(path, mask)))

    unmasked = [one.scan for one in examinations if one.scan.read_mask is None]
    if viewing.object != "head" and unmasked and len(unmasked) < len(examinations):
        raise DatasetError(f"there is no brain mask for {unmasked[0].name}, and others have one")
    return examinations


def _people(volumes: list[Path], folder: Path) -> list[str]:
    """Whom each volume shows: by the folder directly in ``folder``, or each volume another one."""
    people = [path.relative_to(folder).parts[0] for path in volumes]
    return people if len(set(people)) > 1 else [str(path) for path in volumes]


def _volumes_in(folder: Path) -> list[Path]:
    files = nifti_files(folder)
    if not files:
        raise DatasetError(f"there are no NIfTI volumes in {folder}")
    return files


def _series(folder: Path, modality: str | None, viewing: Viewing) -> list[_Examination]:
    """DICOM series of healthy people, told apart by patient, or else by folder.

    Raises:
        DatasetError: a series is refused, or there is none. What is no volume at all is left out.
    """
    found = Found()
    scans = list(series_scans(dicom_files(folder), viewing.brain_mask, found, Lender()))
    for error in found.refused:
        if not isinstance(error, NoPicture):
            raise error
    if not scans:
        why = f": {found.refused[0]}" if found.refused else ""
        raise DatasetError(f"there are no DICOM series of volumes in {folder}{why}")
    people = [series.person or str(series.folder) for series in found.series]
    return list(map(_Examination, people, scans))


_FINDERS = {"brats": _with_tumours, "nifti": _healthy, "dicom": _series}


def _read(examination: _Examination, rule: str) -> _Slices:
    """Read the slices of a volume: those with a tumour are anomalous, and those without normal."""
    slices = examination.scan.slices(rule)
    shown, anomalous = slices.shown, np.zeros(len(slices.shown), np.bool_)
    if examination.tumour is not None:
        tumour = read_mask(examination.tumour).voxels
        if tumour.shape != slices.volume.values.shape:
            raise DatasetError(f"{examination.tumour} has another shape than {slices.volume.name}")
        area = tumour.sum(axis=(1, 2))[shown]
        decided = (area == 0) | (area >= MIN_TUMOUR)
        shown, anomalous = shown[decided], area[decided] > 0
    return _Slices(
        _in_16_bits(np.stack([slices.slice(number) for number in shown])),
        anomalous,
        (slices.mean, slices.std),
        slices.field,
        slices.extent,
        slices.volume.acquisition,
    )


def _in_16_bits(frames: NDArray[np.float32]) -> _Volume:
    """The same frames in 16 bits where those hold the values exactly."""
    if np.abs(frames).max(initial=0) < 2**15:
        small = frames.astype(np.int16)
        if np.array_equal(frames, small):
            return small
    return frames


class _Frames(Sequence[Frame]):
    """Slices of several volumes, one after another, as float32 [H, W, 1] of their fields."""

    def __init__(self, volumes: list[_Volume], fields: list[Field]) -> None:
        self._volumes, self._fields = volumes, fields
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
        frame = self._fields[number].of(self._volumes[number][index - self._ends[number]])
        return np.array(frame[..., None], np.float32)
