"""A folder of images and DICOM files as a data set: which files, in what order, decoded when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from adae_edge.contract import Window
from adae_edge.decoding.images import IMAGE_SUFFIXES, decode_image, is_dicom, is_grey, to_channels
from adae_edge.errors import DatasetError, FrameError

if TYPE_CHECKING:
    from adae_edge.decoding.dicom import Header

# How far slices of one series may be turned against each other, and slices of different ones: no
# two patients are held alike, while axial, coronal and sagittal slices lie 90 degrees apart.
SERIES_DEGREES = 1.0
FOLDER_DEGREES = 45.0

_NAMES_SHOWN = 10

_Frame = NDArray[np.uint8]


class _Found(NamedTuple):
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

    def __init__(
        self, places: list[tuple[Path, int | None]], channels: int, window: Window | None
    ) -> None:
        self.channels = channels
        self._places = places
        self._window = window

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
    """The frames of a folder, in order of path and normals first, and which of them are anomalous.

    Args:
        folder: with images and DICOM files in ``normal/`` and, for evaluation, ``anomalous/``;
            without ``normal/`` it holds normals only.
        window: centre and width for DICOM files, in place of their own.

    Raises:
        DatasetError: a part is empty, the header of a DICOM file cannot be read, or slices are
            oriented in different ways.
        MissingExtra: there are DICOM files, and the extra that reads them is not installed.
    """
    sorted_out = (folder / "normal").is_dir()
    normal = _look_through(folder / "normal" if sorted_out else folder)
    anomalous = (
        _look_through(folder / "anomalous")
        if sorted_out and (folder / "anomalous").is_dir()
        else []
    )
    _check_orientation(normal + anomalous)
    channels = 1 if all(found.grey for found in normal + anomalous) else 3
    places = [_places(normal), _places(anomalous)]
    return Files(places[0] + places[1], channels, window), np.repeat(
        [False, True], [len(part) for part in places]
    )


def unusable(failures: list[FrameError]) -> DatasetError:
    """One error that lists frames which cannot be decoded."""
    shown = "; ".join(str(failure) for failure in failures[:_NAMES_SHOWN])
    more = f"; and {len(failures) - _NAMES_SHOWN} more" if len(failures) > _NAMES_SHOWN else ""
    return DatasetError(
        f"{len(failures)} image{'s' * (len(failures) > 1)} cannot be used: {shown}{more}"
    )


def _look_through(folder: Path) -> list[_Found]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    with ThreadPoolExecutor() as pool:
        looked = [found for found in pool.map(_look_at, files) if found is not None]
    failures = [found for found in looked if isinstance(found, FrameError)]
    if failures:
        raise unusable(failures)
    if not looked:
        raise DatasetError(f"there are no images and no DICOM files in {folder}")
    return [found for found in looked if isinstance(found, _Found)]


def _look_at(path: Path) -> _Found | FrameError | None:
    if is_dicom(path):
        from adae_edge.decoding.dicom import read_header

        try:
            header = read_header(path)
        except FrameError as error:
            return error
        return _Found(path, header.grey, header)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return _Found(path, is_grey(path), None)
    return None


def _places(files: list[_Found]) -> list[tuple[Path, int | None]]:
    places: list[tuple[Path, int | None]] = []
    for path, _, dicom in files:
        places.extend(
            [(path, None)] if dicom is None else ((path, number) for number in range(dicom.frames))
        )
    return places


def _check_orientation(files: list[_Found]) -> None:
    """Refuse slices that are turned against the first one, or more than a little against the first of their series.

    A network learns one view of a body; another view is an anomaly to it, or blurs what is normal.
    Positions are not compared: echoes and time steps share them, and each slice is scored alone.
    """
    first: dict[str, tuple[Path, NDArray[np.float64]]] = {}
    for path, _, dicom in files:
        if dicom is None:
            continue
        for axes in dicom.orientations:
            for key, allowed in (
                (dicom.series or str(path.parent), SERIES_DEGREES),
                ("", FOLDER_DEGREES),
            ):
                other, reference = first.setdefault(key, (path, axes))
                degrees = np.degrees(
                    np.arccos(np.clip((axes * reference).sum(axis=1), -1, 1))
                ).max()
                if degrees > allowed:
                    raise DatasetError(
                        f"{path} and {other} are slices turned by {degrees:.0f} degrees against "
                        "each other"
                        f"{' in one series' if key else ''}: a data set has one orientation"
                    )
