"""A folder of images and DICOM files as a data set, whose frames are decoded when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from adae_edge.contract import Window
from adae_edge.decoding.images import decode_image, is_grey, to_channels
from adae_edge.decoding.kinds import IMAGE_SUFFIXES, is_dicom, is_nifti
from adae_edge.errors import DatasetError, FrameError

if TYPE_CHECKING:
    from adae_edge.decoding.dicom import Header

# How far slices of one series may be turned against each other, and slices of different ones: no
# two patients are held alike, while axial, coronal and sagittal slices lie 90 degrees apart.
SERIES_DEGREES = 1.0
FOLDER_DEGREES = 45.0

_NAMES_SHOWN = 10

_Frame = NDArray[np.uint8]
# A file, and the number of a frame in it for DICOM, or None for an image.
_Place = tuple[Path, int | None]


class _File(NamedTuple):
    """A file with frames; ``dicom`` is None for an image."""

    path: Path
    grey: bool
    dicom: Header | None


class Files(Sequence[_Frame]):
    """Frames in files, decoded when they are asked for.

    Args:
        places: each frame's file, and its number in it for DICOM, None for an image.
        channels: 1 or 3, what every frame is converted to.
        window: centre and width for DICOM files, in place of their own.
    """

    def __init__(self, places: list[_Place], channels: int, window: Window | None) -> None:
        self.channels = channels
        self._places = places
        self._window = window

    @property
    def paths(self) -> list[Path]:
        """The file of each frame."""
        return [path for path, _ in self._places]

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> _Frame: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[_Frame]: ...
    def __getitem__(self, index: int | slice) -> _Frame | Sequence[_Frame]:
        if isinstance(index, slice):
            return Files(self._places[index], self.channels, self._window)
        path, number = self._places[index]
        if number is None:
            return to_channels(decode_image(path), self.channels)
        from adae_edge.decoding.dicom import decode_one

        return to_channels(decode_one(path, number, self._window), self.channels)


def open_folder(folder: Path, window: Window | None = None) -> tuple[Files, NDArray[np.bool_]]:
    """Find the frames of a folder, in order of path and normals first, and which are anomalous.

    Args:
        folder: with images and DICOM files in ``normal/`` and, for evaluation, ``anomalous/``;
            without ``normal/`` it holds normals only.
        window: centre and width for DICOM files, in place of their own.

    Returns:
        The frames, and anomalous, bool [N].

    Raises:
        DatasetError: a part is empty, the header of a DICOM file cannot be read, or slices are
            oriented in different ways.
        MissingExtra: there are DICOM files, and the extra that reads them is not installed.
    """
    if (folder / "normal").is_dir():
        normal = _look_through(folder / "normal")
        has_anomalous = (folder / "anomalous").is_dir()
        anomalous = _look_through(folder / "anomalous") if has_anomalous else []
    else:
        normal, anomalous = _look_through(folder), []

    _check_orientation(normal + anomalous)
    channels = 1 if all(file.grey for file in normal + anomalous) else 3
    normal_places, anomalous_places = _places(normal), _places(anomalous)
    frames = Files(normal_places + anomalous_places, channels, window)
    return frames, np.repeat([False, True], [len(normal_places), len(anomalous_places)])


def nifti_files(folder: Path) -> list[Path]:
    """All NIfTI files beneath a folder, in order of path."""
    return sorted(path for path in folder.rglob("*") if is_nifti(path) and path.is_file())


def unusable(failures: list[FrameError]) -> DatasetError:
    """Make one error that lists frames which cannot be decoded."""
    shown = "; ".join(str(failure) for failure in failures[:_NAMES_SHOWN])
    more = f"; and {len(failures) - _NAMES_SHOWN} more" if len(failures) > _NAMES_SHOWN else ""
    return DatasetError(
        f"{len(failures)} image{'s' * (len(failures) > 1)} cannot be used: {shown}{more}"
    )


def _look_through(folder: Path) -> list[_File]:
    """Find the files with frames beneath a folder.

    Raises:
        DatasetError: there are none, or the headers of some cannot be read.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(_look_at, paths))
    failures = [result for result in results if isinstance(result, FrameError)]
    if failures:
        raise unusable(failures)
    files = [result for result in results if isinstance(result, _File)]
    if not files:
        raise DatasetError(f"there are no images and no DICOM files in {folder}")
    return files


def _look_at(path: Path) -> _File | FrameError | None:
    """Tell what a file is: one with frames, one whose header cannot be read, or neither."""
    if is_dicom(path):
        from adae_edge.decoding.dicom import read_header

        try:
            header = read_header(path)
        except FrameError as error:
            return error
        return _File(path, header.grey, header)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return _File(path, is_grey(path), None)
    return None


def _places(files: list[_File]) -> list[_Place]:
    """List each frame of the files."""
    places: list[_Place] = []
    for path, _, dicom in files:
        if dicom is None:
            places.append((path, None))
        else:
            places.extend((path, number) for number in range(dicom.frames))
    return places


def _check_orientation(files: list[_File]) -> None:
    """Refuse slices that are turned against the first of their folder or of their series.

    A network learns one view of a body; another view is an anomaly to it, or blurs what is normal.
    Positions are not compared: echoes and time steps share them, and each slice is scored alone.

    Raises:
        DatasetError: some are.
    """
    folder = ""
    first: dict[str, tuple[Path, NDArray[np.float64]]] = {}
    for path, _, dicom in files:
        if dicom is None:
            continue
        series = dicom.series or str(path.parent)
        limits = ((series, SERIES_DEGREES, " in one series"), (folder, FOLDER_DEGREES, ""))
        for axes in dicom.orientations:
            for group, allowed, where in limits:
                other, reference = first.setdefault(group, (path, axes))
                degrees = _degrees_between(axes, reference)
                if degrees > allowed:
                    raise DatasetError(
                        f"{path} and {other} are slices turned by {degrees:.0f} degrees against "
                        f"each other{where}: a data set has one orientation"
                    )


def _degrees_between(axes: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Measure how far the axes of two slices, unit vectors [2, 3], differ at the most."""
    cosines = (axes * others).sum(axis=1)
    return float(np.degrees(np.arccos(np.clip(cosines, -1, 1))).max())
