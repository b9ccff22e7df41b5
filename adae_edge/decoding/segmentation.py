"""DICOM segmentations as brain masks of the series whose slices they name, or lie exactly on."""

from __future__ import annotations

import contextlib
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from adae_edge.decoding.dicom_header import value_of
from adae_edge.decoding.objects import BrainMask
from adae_edge.decoding.planes import Plane, attribute_of, parts_of, short_uid
from adae_edge.decoding.series import Series
from adae_edge.decoding.volumes import layout_of
from adae_edge.errors import FrameError, NoPicture

if TYPE_CHECKING:
    from adae_edge.decoding.dicom_file import DicomFile

# Of a fractional segmentation, the part of its largest value from which a voxel is marked.
_HALF = 0.5
# A frame lies on a slice where no pixel of it is off by more than about this part of a pixel.
_OFF = 0.05


class Segment(NamedTuple):
    """What one frame of a segmentation says of where it lies.

    Attributes:
        size: rows and columns.
        sources: the slices that it names, as ``Plane.uid`` has them.
        reference: the frame of reference UID, or "".
        place: the corner, 3 numbers, the directions of columns and rows, 6, and the spacing of rows
            and columns, 2; or none where it does not say so.
    """

    size: tuple[int, int]
    sources: list[str]
    reference: str
    place: list[float]


# The segments of a file, or the masks of those of these numbers: uint8 [H, W], 1 where marked.
ReadSegments: TypeAlias = Callable[
    [Path, list[int] | None], Iterator[tuple[Any, NDArray[Any] | None]]
]


def segments_of(
    path: Path, numbers: list[int] | None = None
) -> Iterator[tuple[list[Any], NDArray[np.uint8] | None]]:
    """Read what the frames of a segmentation say of themselves, or decode some of them.

    Raises:
        NoPicture: it is no segmentation.
        FrameError: it cannot be decoded.
    """
    from adae_edge.decoding.dicom_file import open_dicom

    file = open_dicom(path, segmentation=True)
    if numbers is None:
        for number in range(file.frames):
            with _refusing(path):
                about = _segment(file, number)
            yield about, None
        return
    with _refusing(path):
        most = int(value_of(file.header, "MaximumFractionalValue") or 1)
    for number in numbers:
        yield [], (file.values(number) >= _HALF * most).astype(np.uint8)


@contextlib.contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turn what pydicom raises on damaged values, which it reads when asked, into a FrameError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except Exception as error:
            raise FrameError(f"{path} cannot be read as a mask: its header is damaged") from error


def _segment(file: DicomFile, number: int) -> list[Any]:
    """The fields of the ``Segment`` that a frame is."""
    header = file.header
    reference = short_uid(value_of(header, "FrameOfReferenceUID"))
    parts = parts_of(header, number)
    return [file.size, list(_sources(parts)), reference, _place(parts)]


def read_segmentation(paths: Iterable[Path], series: Series, read: ReadSegments) -> BrainMask:
    """The mask of a series, marked by the segmentations that name its slices.

    All segments count. A slice that no segmentation names is background. A segmentation that names
    no slice at all counts if each of its frames lies exactly on a slice.

    Args:
        paths: of DICOM files; those that mark other series, and those that are no segmentations, do
            not count.
        series: whose slices are masked.
        read: reads segmentations.

    Returns:
        The mask, laid out as the series' volume.

    Raises:
        FrameError: a file is damaged, of another size or frame of reference, or none marks the
            series.
    """
    marked = np.zeros((len(series.planes), *series.planes[0].size), np.bool_)
    used, elsewhere = [], ""
    for path in paths:
        try:
            segments = [Segment(*about) for about, _ in read(path, None)]
        except NoPicture:
            continue
        marks = _named(path, segments, series)
        if not marks and not any(segment.sources for segment in segments):
            marks, reason = _lying(path, segments, series)
            elsewhere = elsewhere or reason
        if marks:
            used.append(path)
            for number, (_, mask) in zip(marks, read(path, list(marks)), strict=True):
                assert mask is not None
                marked[marks[number]] |= mask != 0
    if not used:
        why = f", and {elsewhere}" if elsewhere else ""
        raise FrameError(f"{series.name} has no brain mask: no segmentation names its slices{why}")
    layout = layout_of(series.grid.steps)
    assert layout is not None
    return BrainMask(str(used[0]), layout.turn(marked), layout.grid(series.grid, marked.shape))


def _named(path: Path, segments: list[Segment], series: Series) -> dict[int, list[int]]:
    """By the number of each frame of a segmentation, the slices of the series that it names."""
    of_slices = {plane.uid: number for number, plane in enumerate(series.planes)}
    named: dict[int, list[int]] = defaultdict(list)
    for number, segment in enumerate(segments):
        for uid in segment.sources:
            if uid in of_slices:
                named[number].append(of_slices[uid])
    if named and len(of_slices) < len(series.planes):
        raise FrameError(f"{path} names slices of {series.name}, several of which have one UID")
    if named and not all(segment.sources for segment in segments):
        raise FrameError(f"{path} has frames that name no slice, and others that do")
    if named and tuple(segments[0].size) != series.planes[0].size:
        raise FrameError(f"{path} has frames of another size than those of {series.name}")
    if named and not all(
        _are_one(segments[0].reference, plane.reference) for plane in series.planes
    ):
        raise FrameError(f"{path} has another frame of reference than {series.name}")
    return named


def _are_one(reference: str, other: str) -> bool:
    """Whether two frames of reference are the same, as far as they are told."""
    return not reference or not other or reference == other


def _lying(path: Path, segments: list[Segment], series: Series) -> tuple[dict[int, list[int]], str]:
    """By the number of each frame of a segmentation, the slice that it lies on; or why not."""
    lying: dict[int, list[int]] = {}
    for number, segment in enumerate(segments):
        on = [at for at, plane in enumerate(series.planes) if _lies_on(segment, plane)]
        if not on:
            return {}, f"{path}, which names none, does not lie exactly on them"
        lying[number] = on
    return lying, ""


def _lies_on(segment: Segment, plane: Plane) -> bool:
    """Whether the pixels of a segment are those of a slice."""
    same = segment.reference and segment.reference == plane.reference
    if not same or not segment.place or tuple(segment.size) != plane.size:
        return False
    corner, axes, spacing = np.split(np.array(segment.place), (3, 9))
    return bool(
        np.abs(corner - plane.position).max() < _OFF * min(plane.spacing)
        and np.abs(axes - plane.axes.ravel()).max() * max(plane.size) < _OFF
        and np.abs(spacing / plane.spacing - 1).max() * max(plane.size) < _OFF
    )


def _place(parts: list[Any]) -> list[float]:
    """Where a frame lies, as ``Segment.place``."""
    place: list[float] = []
    for name, count in (
        ("ImagePositionPatient", 3),
        ("ImageOrientationPatient", 6),
        ("PixelSpacing", 2),
    ):
        numbers = attribute_of(parts, name)
        if not numbers or len(numbers) != count:
            return []
        place += map(float, numbers)
    return place if np.isfinite(place).all() else []


def _sources(parts: list[Any]) -> Iterator[str]:
    """The slices that a frame of a segmentation names, as ``Plane.uid`` has them."""
    for image in attribute_of(parts, "SourceImageSequence") or ():
        uid = str(value_of(image, "ReferencedSOPInstanceUID") or "")
        frames = value_of(image, "ReferencedFrameNumber")
        if frames is None:
            yield uid
        else:
            yield from (f"{uid}/{int(frame)}" for frame in np.ravel(frames))
