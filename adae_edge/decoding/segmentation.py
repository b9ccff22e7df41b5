"""DICOM segmentations as brain masks of the series whose slices they name."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from adae_edge.decoding.dicom_file import DicomFile, open_dicom
from adae_edge.decoding.objects import BrainMask
from adae_edge.decoding.planes import attribute_of
from adae_edge.decoding.series import Series
from adae_edge.decoding.volumes import Mask, layout_of
from adae_edge.errors import FrameError, NoPicture

# Of a fractional segmentation, the part of its largest value from which a voxel is marked.
_HALF = 0.5


def read_segmentation(paths: Iterable[Path], series: Series) -> BrainMask:
    """The mask of a series, marked by the segmentations that name its slices.

    All segments count. A slice that no segmentation names is background.

    Args:
        paths: of DICOM files; those that mark other series, and those that are no segmentations, do
            not count.
        series: whose slices are masked.

    Returns:
        The mask, laid out as the series' volume.

    Raises:
        FrameError: a file is damaged, of another size or frame of reference, or none marks the
            series.
    """
    of_frames = {plane.uid: number for number, plane in enumerate(series.planes)}
    marked = np.zeros((len(series.planes), *series.planes[0].size), np.bool_)
    used = []
    for path in paths:
        try:
            file = open_dicom(path, segmentation=True)
        except NoPicture:
            continue
        if _mark(file, series, of_frames, marked):
            used.append(path)
    if not used:
        raise FrameError(f"{series.name} has no brain mask: no segmentation names its slices")
    layout = layout_of(series.grid.steps)
    assert layout is not None
    return BrainMask(str(used[0]), layout.turn(marked), layout.grid(series.grid, marked.shape))


def _mark(file: DicomFile, series: Series, of_frames: dict[str, int], marked: Mask) -> bool:
    """Mark the slices that a segmentation names; whether it names any."""
    named: dict[int, list[int]] = defaultdict(list)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(file.frames):
            for uid in _sources(file.header, number):
                if uid in of_frames:
                    named[number].append(of_frames[uid])
        reference = str(file.header.get("FrameOfReferenceUID") or "")
    if not named:
        return False
    if file.size != series.planes[0].size:
        raise FrameError(f"{file.name} has frames of another size than those of {series.name}")
    if reference and any(plane.reference not in ("", reference) for plane in series.planes):
        raise FrameError(f"{file.name} has another frame of reference than {series.name}")
    most = int(file.header.get("MaximumFractionalValue") or 1)
    for number, planes in named.items():
        values = file.values(number)
        for plane in planes:
            marked[plane] |= values >= _HALF * most
    return True


def _sources(header: Any, number: int) -> Iterator[str]:
    """The slices that a frame of a segmentation names, as ``Plane.uid`` has them."""
    for image in attribute_of(header, number, "SourceImageSequence") or ():
        uid = str(image.get("ReferencedSOPInstanceUID") or "")
        frames = image.get("ReferencedFrameNumber")
        if frames is None:
            yield uid
        else:
            yield from (f"{uid}/{int(frame)}" for frame in np.ravel(frames))
