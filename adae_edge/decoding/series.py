"""DICOM series as volumes: which frames make one, in which order, and what is refused.

A series is split where its slices are told to be several volumes, as echoes are. What could give a
volume with slices in wrong places is refused.
"""

from __future__ import annotations

import math
import mmap
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from adae_edge.decoding.planes import TELLING, TURNED, File, Plane, copies_of
from adae_edge.decoding.volumes import Place, Volume, layout_of
from adae_edge.errors import FrameError, NoPicture
from adae_edge.grid import Grid, Vectors

MIN_SLICES = 8
MAX_VOXELS = 2**28  # 1 GiB as float32

# Slices nearer than this are at one place, mm.
_SAME_PLACE = 0.02
# Slices are no farther apart, mm.
_APART = 1e3
# Distances of neighbours differ by less than this part of them.
_UNEVEN = 0.05
# What all slices of a volume have in common.
_OF_ONE_SCAN = ("EchoTime", "EffectiveEchoTime", "EchoNumbers", "DiffusionBValue")


ReadPlanes: TypeAlias = Callable[[Iterable[File]], Iterator[list[Plane] | FrameError]]
ReadValues: TypeAlias = Callable[[Iterable[tuple[File, list[Plane]]]], Iterator[NDArray[Any]]]


class Series(NamedTuple):
    """The frames of one volume.

    Attributes:
        name: for messages, and as the source of slices that are no frames.
        planes: in order along the normal of the slices.
        grid: of the array [planes, rows, columns].
    """

    name: str
    planes: list[Plane]
    grid: Grid

    @property
    def person(self) -> str:
        """A hash that tells the patient, or ""."""
        return self.planes[0].person

    @property
    def folder(self) -> Path:
        """Where its first file lies."""
        return Path(str(self.planes[0].place)).parent


@dataclass
class Found:
    """The series that were found among files, and why others were not.

    Attributes:
        series: those that are volumes.
        refused: why others are none; of the kind NoPicture where that is no fault.
        left_out: how many files are no slices, by what they are called.
    """

    series: list[Series] = field(default_factory=list)
    refused: list[FrameError] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def find_series(
    files: Iterable[File], read: ReadPlanes, found: Found | None = None, name: str = ""
) -> Found:
    """Read the headers of DICOM files, and sort their frames into volumes.

    Args:
        files: of one or more series.
        read: gives the planes of each file in order, or why there are none.
        found: gets what is found; a new one if not given.
        name: of the series for messages, in place of their folders' and their own.

    Returns:
        What is found; the volumes of a series stand beside each other.
    """
    found = Found() if found is None else found
    groups: dict[str, dict[tuple[Any, ...], Plane]] = defaultdict(dict)
    for planes in read(files):
        if isinstance(planes, NoPicture):
            found.left_out["without a slice"] += 1
        elif isinstance(planes, FrameError):
            found.refused.append(planes)
        else:
            for plane in planes:
                groups[plane.series].setdefault(copies_of(plane), plane)

    names: Counter[str] = Counter()
    for group in groups.values():
        planes = list(group.values())
        called = name or _name(planes)
        names[called] += 1
        if names[called] > 1:
            called = f"{called} ({names[called]})"
        for result in _volumes(called, planes):
            if isinstance(result, FrameError):
                found.refused.append(result)
            else:
                found.series.append(result)
    first: dict[str, str] = {}
    for series in found.series:
        place, uid = str(series.planes[0].place), series.planes[0].series
        first[uid] = min(first.get(uid, place), place)
    found.series.sort(
        key=lambda series: (
            first[series.planes[0].series],
            series.planes[0].series,
            str(series.planes[0].place),
            series.name,
        )
    )
    return found


def read_series(series: Series, read: ReadValues) -> Volume:
    """Decode the frames of a series into a volume, without any window.

    Args:
        series: one of ``find_series``.
        read: gives the values of frames of files in order, as ``values_of`` does.

    Raises:
        FrameError: a frame cannot be decoded.
    """
    # where each frame goes
    shape = (len(series.planes), *series.planes[0].size)
    layout = layout_of(series.grid.steps)
    assert layout is not None
    turned = [shape[axis] for axis in layout.axes]
    of_files: dict[File, list[int]] = defaultdict(list)
    for index, plane in enumerate(series.planes):
        of_files[plane.place].append(index)
    order = [index for indices in of_files.values() for index in indices]

    # the frames, file by file, as integers while they are integers of one kind
    wanted = [
        (file, [series.planes[index] for index in indices]) for file, indices in of_files.items()
    ]
    values: NDArray[Any] | None = None
    padded = False
    for index, decoded in zip(order, read(wanted), strict=True):
        if decoded.shape != shape[1:]:
            raise FrameError(f"{series.planes[index].place} has changed since its header was read")
        if values is None:
            values = _room(turned, decoded.dtype)
        elif not np.can_cast(decoded.dtype, values.dtype):
            values = values.astype(np.float32)
        layout.turn_back(values)[index] = decoded
        padded = padded or (decoded.dtype.kind == "f" and bool(np.isnan(decoded).any()))
    assert values is not None

    # and what is known of them
    places = [Place(series.name, number) for number in range(len(values))]
    first = series.planes[0]
    across = first.origin._replace(sop_class="", sop_instance="", number=0)
    origins = [(across, first.place)] * len(values)
    if layout.axes[0] == 0:
        planes = series.planes[::-1] if layout.reversed[0] else series.planes
        places = [Place(str(plane.place), plane.uid) for plane in planes]
        origins = [(plane.origin, plane.place) for plane in planes]
    grid = layout.grid(series.grid, shape)
    between, rows, columns = (float(f"{length:.6g}") for length in grid.spacing)
    acquisition = replace(first.acquisition, spacing=(between, rows, columns))
    return Volume(
        series.name, values, grid, places, None, padded, series.person, acquisition, origins
    )


def _room(shape: list[int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array of zeros in small pages: large ones, which numpy asks for, may be long in coming."""
    flags = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if os.name == "posix" else {}
    pages = mmap.mmap(-1, math.prod(shape) * dtype.itemsize, **flags)
    return np.frombuffer(pages, dtype).reshape(shape)


def _name(planes: list[Plane]) -> str:
    """What a series is called: its file, or its folder with its number and description."""
    if all(plane.place == planes[0].place for plane in planes):
        return str(planes[0].place)
    folder = Path(str(planes[0].place)).parent
    return f"{folder}, series {planes[0].label}".removesuffix(" ")


def _volumes(name: str, planes: list[Plane]) -> Iterator[Series | FrameError]:
    """The volumes of a series, or why it, or a part of it, is none."""
    if len({plane.person for plane in planes if plane.person}) > 1:
        yield FrameError(f"{name} shows more than one patient under one series UID")
        return
    stacks = _by_orientation(planes)
    large = [stack for stack in stacks if len(stack) >= MIN_SLICES]
    if not large:
        what = f"{len(planes)} slices"
        if len(stacks) > 1:
            what += f" of {len(stacks)} orientations, as a localiser has"
        yield NoPicture(f"{name} has {what}, and a volume has {MIN_SLICES} of one orientation")
        return
    if len(large) < len(stacks):
        few = len(planes) - sum(map(len, large))
        yield NoPicture(f"{name} has {few} slices of other orientations, which are no volume")
    for number, stack in enumerate(large, start=1):
        own = f"{name}, orientation {number}" if len(large) > 1 else name
        try:
            _check_alike(own, stack)
            parts = list(_parts(own, stack))
        except FrameError as error:
            yield error
            continue
        for part, members in parts:
            try:
                yield Series(part, members, _grid(part, members))
            except FrameError as error:
                yield error


def _by_orientation(planes: list[Plane]) -> list[list[Plane]]:
    """The planes of each orientation."""
    stacks: list[list[Plane]] = []
    for plane in planes:
        for stack in stacks:
            if np.abs(stack[0].axes - plane.axes).max() < TURNED:
                stack.append(plane)
                break
        else:
            stacks.append([plane])
    return stacks


def _check_alike(name: str, planes: list[Plane]) -> None:
    """Refuse slices of several sizes or units, and rescaling that some do not say."""
    for what, values in (
        ("sizes", {plane.size for plane in planes}),
        ("pixel spacings", {tuple(f"{side:.4g}" for side in plane.spacing) for plane in planes}),
        ("units", {plane.units for plane in planes}),
    ):
        if len(values) > 1:
            raise FrameError(f"{name} has slices of {len(values)} {what}, and a volume has one")
    if {None, True} <= {plane.rescaled for plane in planes}:
        raise FrameError(f"{name} has slices that are rescaled, and others that do not say how")


def _check_one_scan(name: str, planes: list[Plane]) -> None:
    """Refuse slices between each other that several scans took: they look like one volume."""
    first = planes[0].acquisition
    passed = {*first.differences(first), "repetition time"}  # unknown; set by a heart's beat
    found = {what for plane in planes for what in first.differences(plane.acquisition)} - passed
    for attribute in _OF_ONE_SCAN:
        if len({plane.telling.get(attribute, "") for plane in planes}) > 1:
            found.add(TELLING[attribute])
    if len({plane.reference for plane in planes}) > 1:
        found.add("frame of reference")
    if found:
        raise FrameError(f"{name} has slices that differ in {' and '.join(sorted(found))}")


def _parts(name: str, planes: list[Plane]) -> Iterator[tuple[str, list[Plane]]]:
    """Split slices until none are at the same place, each part in order along the normal.

    An attribute splits them if it has no more values than there are slices at one place: then it
    counts volumes and not slices.

    Raises:
        FrameError: nothing tells them apart.
    """
    at = np.array([plane.position for plane in planes]) @ _normal(planes)
    order = np.argsort(at, kind="stable")
    planes, at = [planes[index] for index in order], at[order]
    ends = np.flatnonzero(np.append(np.diff(at) > _SAME_PLACE, True))
    most = int(np.diff(ends, prepend=-1).max())
    if most == 1:
        _check_one_scan(name, planes)
        yield name, planes
        return
    for attribute, word in TELLING.items():
        values = {plane.telling.get(attribute, "") for plane in planes}
        if 1 < len(values) <= most:
            for value in sorted(values):
                part = [plane for plane in planes if plane.telling.get(attribute, "") == value]
                yield from _parts(f"{name}, {word} {value or 'unknown'}", part)
            return
    first = int(ends[np.diff(ends, prepend=-1).argmax()])
    raise FrameError(
        f"{name} has slices at the same place, and nothing tells them apart: "
        f"{planes[first - 1].place} and {planes[first].place}"
    )


def _normal(planes: list[Plane]) -> Vectors:
    return np.cross(*planes[0].axes)


def _grid(name: str, planes: list[Plane]) -> Grid:
    """The grid of slices in order along their normal.

    Raises:
        FrameError: there are gaps, they are displaced or too many.
        NoPicture: there are too few.
    """
    # how many
    if len(planes) < MIN_SLICES:
        raise NoPicture(f"{name} has {len(planes)} slices, and a volume has {MIN_SLICES}")
    rows, columns = planes[0].size
    if len(planes) * rows * columns > MAX_VOXELS:
        raise FrameError(f"{name} has more than {MAX_VOXELS} voxels")

    # at even distances
    corners = np.array([plane.position for plane in planes])
    distances = np.diff(corners @ _normal(planes))
    step = float(np.median(distances))
    odd = int(np.abs(distances - step).argmax())
    if step > _APART:
        raise FrameError(f"{name} has slices that are {step:.3g} mm apart")
    if abs(distances[odd] - step) > _UNEVEN * step:
        raise FrameError(
            f"{name} has a gap: its slices are {step:.3g} mm apart, and {distances[odd]:.3g} mm "
            f"between {planes[odd].place} and {planes[odd + 1].place}"
        )

    # one behind the other
    along_row, down_column = planes[0].axes
    row_spacing, column_spacing = planes[0].spacing
    moved = (corners - corners[0]) @ planes[0].axes.T
    if (np.abs(moved) > (column_spacing, row_spacing)).any():
        raise FrameError(
            f"{name} has slices that are displaced against each other, as a tilted gantry does"
        )
    between = (corners[-1] - corners[0]) / (len(planes) - 1)
    steps = np.array([between, down_column * row_spacing, along_row * column_spacing])
    return Grid(corners[0], steps)
