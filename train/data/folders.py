"""A folder of images and DICOM files as a data set, whose frames are decoded when asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from adae_edge.contract import Window
from adae_edge.decoding.dicom_header import Header
from adae_edge.decoding.folders import left_out_words, list_folder
from adae_edge.decoding.images import declared_size, decode_image, is_grey, to_channels
from adae_edge.decoding.kinds import is_dicom
from adae_edge.decoding.layouts import FolderLayout, is_mask_of_neighbour, read_layout
from adae_edge.decoding.lending import Lender
from adae_edge.errors import DatasetError, FrameError, NoPicture
from adae_edge.train.data.masks import find_masks

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
        bits: of a camera's grey values in 16-bit files, or None.
        lender: of the processes that decode DICOM files.
    """

    def __init__(
        self,
        places: list[_Place],
        channels: int,
        window: Window | None,
        bits: int | None,
        lender: Lender,
    ) -> None:
        self.channels = channels
        self._bits = bits
        self._places = places
        self._window = window
        self._lender = lender

    @property
    def paths(self) -> list[Path]:
        """The file of each frame."""
        return [path for path, _ in self._places]

    def sizes(self, indices: NDArray[np.intp]) -> list[tuple[int, int]]:
        """The sides of these frames in pixels, in no order, by the headers of their files.

        Files whose headers cannot be read are left out.
        """
        with ThreadPoolExecutor() as pool:
            paths = {self._places[index][0] for index in indices}
            sizes = pool.map(partial(_size, lender=self._lender), paths)
            return [size for size in sizes if size is not None]

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> _Frame: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[_Frame]: ...
    def __getitem__(self, index: int | slice) -> _Frame | Sequence[_Frame]:
        if isinstance(index, slice):
            places = self._places[index]
            return Files(places, self.channels, self._window, self._bits, self._lender)
        path, number = self._places[index]
        if number is None:
            return to_channels(decode_image(path, self._bits), self.channels)
        with self._lender.lend() as worker:
            return to_channels(worker.picture(path, number, self._window), self.channels)


@dataclass(frozen=True)
class Folder:
    """What a folder holds.

    Attributes:
        frames: in order of path within each part, normals first.
        anomalous: bool [N].
        below: each frame's path below its part.
        masks: the mask of its defects for each frame, or None; normals have none.
        read_as: how the folder was understood and what is left out, in words.
    """

    frames: Files
    anomalous: NDArray[np.bool_]
    below: list[Path]
    masks: list[Path | None]
    read_as: str


def open_folder(folder: Path, window: Window | None = None, bits: int | None = None) -> Folder:
    """Find the frames of a folder, and which are anomalous.

    Args:
        folder: with images and DICOM files in parts whose names tell what they hold, as in
            ``read_layout``; without such names it holds normals only.
        window: centre and width for DICOM files, in place of their own.
        bits: of a camera's grey values in 16-bit files, or None for all 16.

    Raises:
        DatasetError: a part is empty or cannot be read, the names leave open what is normal, the
            header of a DICOM file cannot be read, or slices are oriented in different ways.
        MissingExtra: there are DICOM files, and the extra that reads them is not installed.
    """
    layout, left_out, lender = read_layout(folder), Counter[str](), Lender()
    normal = _look_through(layout.normal, layout.masks, left_out, lender)
    anomalous = _look_through(layout.anomalous, layout.masks, left_out, lender)
    for masks in layout.masks:
        if not any(part in masks.parents for part in layout.normal + layout.anomalous):
            left_out["masks"] += len(list_folder(masks).files)

    files = [file for _, found in normal + anomalous for file in found]
    _check_orientation(files)
    channels = 1 if all(file.grey for file in files) else 3
    parts = [[_places(found) for _, found in kind] for kind in (normal, anomalous)]
    places = [place for kind in parts for found in kind for place in found]
    below = [
        path.relative_to(part)
        for (part, _), found in zip(normal + anomalous, parts[0] + parts[1], strict=True)
        for path, _ in found
    ]
    counts = [sum(map(len, kind)) for kind in parts]
    frames = Files(places, channels, window, bits, lender)
    return Folder(
        frames,
        np.repeat([False, True], counts),
        below,
        [*[None] * counts[0], *find_masks(frames.paths[counts[0] :], layout.masks)],
        _read_as(folder, layout, counts, left_out),
    )


def _read_as(folder: Path, layout: FolderLayout, counts: list[int], left_out: Counter[str]) -> str:
    """How a folder was understood, in one line."""
    words = []
    if layout.labelled:
        for kind, parts, count in zip(
            ("normal", "anomalous"), (layout.normal, layout.anomalous), counts, strict=True
        ):
            names = ", ".join(str(part.relative_to(folder)) for part in parts)
            words.append(f"{count} {kind}" + (f" in {names}" if names else ""))
    else:
        words.append("every frame is normal: no part of it is named normal, good or ok")
    return "; ".join([f"{folder} is read as: {', '.join(words)}", left_out_words(left_out)]).strip(
        "; "
    )


def unusable(failures: list[FrameError]) -> DatasetError:
    """Make one error that lists frames which cannot be decoded."""
    shown = "; ".join(str(failure) for failure in failures[:_NAMES_SHOWN])
    more = f"; and {len(failures) - _NAMES_SHOWN} more" if len(failures) > _NAMES_SHOWN else ""
    return DatasetError(
        f"{len(failures)} image{'s' * (len(failures) > 1)} cannot be used: {shown}{more}"
    )


def _look_through(
    parts: list[Path], masks: list[Path], left_out: Counter[str], lender: Lender
) -> list[tuple[Path, list[_File]]]:
    """Find the files with frames beneath each part, and count what is left out.

    Raises:
        DatasetError: a part has none, or something in it cannot be read.
    """
    found = []
    for part in parts:
        listing = list_folder(part, masks)
        left_out.update(listing.left_out)
        paths = [path for path in listing.files if not is_mask_of_neighbour(path)]
        left_out["masks"] += len(listing.files) - len(paths)
        with ThreadPoolExecutor() as pool:
            results = list(pool.map(partial(_look_at, lender=lender), paths))
        failures = [FrameError(sentence) for sentence in listing.unreadable]
        failures += [result for result in results if isinstance(result, FrameError)]
        if failures:
            raise unusable(failures)
        files = [result for result in results if isinstance(result, _File)]
        left_out["without a picture"] += len(results) - len(files)
        if not files:
            raise DatasetError(f"there are no images and no DICOM files in {part}")
        found.append((part, files))
    left_out += Counter()  # without the kinds of which there is none
    return found


def _look_at(path: Path, lender: Lender) -> _File | FrameError | None:
    """Tell what a file is: one with frames, one whose header cannot be read, or no picture."""
    if is_dicom(path):
        try:
            with lender.lend() as worker:
                header = worker.header(path)
        except NoPicture:
            return None
        except FrameError as error:
            return error
        return _File(path, header.grey, header)
    try:
        return _File(path, is_grey(path), None)
    except FrameError as error:
        return error


def _size(path: Path, lender: Lender) -> tuple[int, int] | None:
    """The sides of a file's frames in pixels, in no order; None if its header cannot be read."""
    if not is_dicom(path):
        return declared_size(path)
    try:
        with lender.lend() as worker:
            return worker.header(path).size
    except FrameError:
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
