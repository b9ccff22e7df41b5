"""Data sets by their names on the command line."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from adae_edge.contract import Window
from adae_edge.decoding.scans import nifti_files
from adae_edge.errors import DatasetError, UsageError
from adae_edge.train.data import official
from adae_edge.train.data.dataset import WHOLE, Dataset, Viewing
from adae_edge.train.data.folders import open_folder
from adae_edge.train.data.groups import groups_in, groups_of, is_list
from adae_edge.train.data.official import CIFAR10_CLASSES, Labelled

# Data sets with ten classes: what reads them from a folder.
_READERS: dict[str, Callable[[Path], Labelled]] = {
    "digits": lambda folder: official.digits(),
    "mnist": official.mnist,
    "cifar10": official.cifar10,
}

# The classes of CIFAR-10 that its official files call otherwise.
_OFFICIAL_NAMES = {"airplane": "plane", "automobile": "car"}


def load_dataset(
    spec: str,
    anomalous: int | None = None,
    window: Window | None = None,
    modality: str | None = None,
    group: str | None = None,
    bits: int | None = None,
    viewing: Viewing = WHOLE,
) -> Dataset:
    """Open a data set.

    Args:
        spec: "digits", "mnist:DIR", "cifar10:DIR", "brats:DIR", "nifti:DIR", "dicom:DIR", or a
            folder with images and DICOM files as ``read_layout`` tells them apart, normal/ and
            anomalous/ for example; a folder without such names holds normals only.
        anomalous: the class that is held out, for data sets that have classes.
        window: centre and width of the grey values of DICOM files, in place of their own.
        modality: which volumes of brats and nifti are taken, flair, t1, t1ce or t2; None for flair.
            Of dicom it says what all of them show.
        group: which frames of a folder belong together: a file for ``groups_in``, or a rule for
            ``groups_of``; None for none.
        bits: of a camera's grey values in 16-bit files, 9 to 16; None for all 16.
        viewing: what of volumes is looked at.

    Raises:
        UsageError: no such data set, or a class, window, group or bits where none can be chosen or
            is missing.
        GroupError: as ``groups_in`` and ``groups_of``.
        DatasetError: the files are missing, damaged or empty, or show several orientations.
    """
    name, _, place = spec.partition(":")
    read = _READERS.get(spec if name == "digits" else name)
    volumes = spec.startswith(("brats:", "nifti:", "dicom:"))
    if anomalous is not None and read is None:
        raise UsageError(
            "--anomalous chooses a class of digits, mnist or cifar10; a folder says it by normal/ "
            "and anomalous/"
        )
    if window is not None and (volumes or read is not None):
        raise UsageError(f"--window is for DICOM files, and {name} has none")
    if bits is not None and (volumes or read is not None):
        raise UsageError(f"--bits is for pictures of a camera in a folder, and {name} has none")
    if modality is not None and not volumes:
        raise UsageError("--modality is for the volumes of brats:DIR, nifti:DIR and dicom:DIR")
    if not volumes and (viewing.object or viewing.brain_mask):
        raise UsageError("--object and --brain-mask are for the volumes of nifti:DIR and dicom:DIR")
    if group is not None and (volumes or read is not None):
        raise UsageError("--group is for folders: volumes are divided by patient, classes by frame")
    if volumes:
        from adae_edge.train.data.brain import load_brains

        return load_brains(spec, modality, viewing)
    if read is None:
        return _folder(Path(spec), window, group, bits)
    if anomalous is None or not 0 <= anomalous <= 9:
        raise UsageError(f"{name} needs the class that is anomalous: --anomalous 0 to 9")
    return _with_classes(spec, read(Path(place or ".")), anomalous)


def class_number(spec: str, anomalous: str | None) -> int | None:
    """Return the class that ``--anomalous`` chooses by its number or, for cifar10, by its name.

    Raises:
        UsageError: it is neither.
    """
    if anomalous is None:
        return None
    if anomalous.isdecimal():
        return int(anomalous)
    if spec.partition(":")[0] != "cifar10":
        raise UsageError(
            f"--anomalous takes a class by its number, 0 to 9, and {anomalous} is none"
        )
    name = _OFFICIAL_NAMES.get(anomalous, anomalous)
    if name not in CIFAR10_CLASSES:
        raise UsageError(
            f"cifar10 has no class {name}: choose 0 to 9 or {', '.join(CIFAR10_CLASSES)}"
        )
    return CIFAR10_CLASSES.index(name)


def whole_digest(spec: str) -> str:
    """Return the SHA-256 of a whole data set, whichever class or modality is taken of it.

    Of data sets with classes it is over pictures and labels. Of brain volumes it is over the files'
    names, which tell the patients, and their contents.

    Args:
        spec: as for ``load_dataset``, without a folder of images.

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
    for path in nifti_files(folder):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        sha.update(f"{path.relative_to(folder)} {content}".encode())
    return sha.hexdigest()


def _with_classes(name: str, labelled: Labelled, anomalous: int) -> Dataset:
    held_out = labelled.labels == anomalous
    if not held_out.any():
        raise DatasetError(
            f"{name} has no image of the class {anomalous}, so nothing would be anomalous"
        )
    if held_out.all():
        raise DatasetError(
            f"{name} has only images of the class {anomalous}, so nothing would be normal"
        )
    channels = labelled.frames.shape[3]
    return Dataset(labelled.frames, held_out, channels, small=True, note=labelled.note)


def _folder(folder: Path, window: Window | None, group: str | None, bits: int | None) -> Dataset:
    if not folder.is_dir():
        raise UsageError(
            f"there is no data set {folder}: give digits, mnist:DIR, cifar10:DIR, brats:DIR, "
            "nifti:DIR, dicom:DIR or a folder"
        )
    opened = open_folder(folder, window, bits)
    groups, normals = None, int((~opened.anomalous).sum())
    if group is not None and is_list(group):
        paths = [path.relative_to(folder) for path in opened.frames.paths]
        groups = groups_in(Path(group), paths, normals)
    elif group is not None:
        groups = groups_of(opened.below, normals, group)
    return Dataset(
        opened.frames,
        opened.anomalous,
        opened.frames.channels,
        small=False,
        groups=groups,
        masks=opened.masks,
        read_as=opened.read_as,
    )
