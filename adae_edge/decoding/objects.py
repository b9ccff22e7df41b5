"""What of a volume is object and what background, by named rules, and the slices that show it.

docs/model-file.md describes the rules for other programs. They are numpy alone, and the same in
training, calibration and scoring.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adae_edge.decoding.silhouette import silhouette
from adae_edge.decoding.volumes import Mask, Values, Volume, shape_word
from adae_edge.errors import FrameError
from adae_edge.grid import Grid
from adae_edge.interface import check_size

# A slice with less object than this part of the volume's largest has hardly any: the poles and the
# neck, which differ more between people than between healthy and ill.
MIN_OBJECT = 0.2

# A volume with so few whole values, none of them large, is a mask.
_MAX_LABELS, _MAX_LABEL = 16, 255

# What a voxel of the object becomes whose value is 0, in standard deviations: 0 is background.
_NEARLY_0 = 1e-6

# A variance below this part of the squared mean is summed around the mean, and not around 0.
_CANCELLED = 1e-6

# The object's length along an axis holds all but this part of its voxels at either end.
_OUTLYING = 0.005

# Otsu's threshold: of how many voxels at most, into how many bins, and without which part of the
# lowest and the highest values.
_SAMPLED, _BINS, _EXTREME = 2**21, 256, 0.001


class Span(NamedTuple):
    """The part of an axis that an object takes: its first pixel, and the one after its last."""

    first: int
    end: int


class Field(NamedTuple):
    """A rectangle of pixels around an object, which may reach beyond the slice."""

    top: int
    left: int
    height: int
    width: int

    def of(self, plane: NDArray[Any]) -> NDArray[Any]:
        """Cut the field out of a slice [H, W]; what lies beyond the slice is 0."""
        up, left = max(-self.top, 0), max(-self.left, 0)
        inside = plane[
            max(self.top, 0) : max(self.top + self.height, 0),
            max(self.left, 0) : max(self.left + self.width, 0),
        ]
        if inside.shape == (self.height, self.width):
            return inside
        field = np.zeros((self.height, self.width), plane.dtype)
        field[up : up + inside.shape[0], left : left + inside.shape[1]] = inside
        return field


class Slices(NamedTuple):
    """The slices of a volume, and what standardises them.

    Attributes:
        volume: as it was read.
        inside: where the object is, uint8 [S, H, W / 8], eight voxels of a row in each.
        shown: int [K], the slices that show enough of the object to be judged.
        mean, std: of the object's voxels.
        spans: the object's rows and columns, over all slices.
    """

    volume: Volume
    inside: NDArray[np.uint8]
    shown: NDArray[np.intp]
    mean: float
    std: float
    spans: tuple[Span, Span]

    def slice(self, number: int, field: Field | None = None) -> Values:
        """A slice float32 [H, W] in the volume's units, 0 outside of the object and only there.

        Of a field, that part of it.
        """
        stored = self.volume.values[number]
        inside = _unpacked(self.inside[number], stored.shape[1])
        if field is not None:
            stored, inside = field.of(stored), field.of(inside)
        if stored.dtype.kind == "f":
            values = np.zeros(stored.shape, np.float32)
            np.copyto(values, stored, where=inside, casting="same_kind")
        else:  # which takes half the time
            values = (stored * inside).astype(np.float32)
        zero = inside & (stored == 0)
        if zero.any():
            values[zero] = self.std * _NEARLY_0
        return values

    @property
    def values(self) -> Values:
        """All slices, float32 [S, H, W]; they are made anew each time."""
        return np.stack([self.slice(number) for number in range(len(self.inside))])

    @property
    def spacing(self) -> tuple[float, float]:
        """Of rows and of columns, mm."""
        return self.volume.grid.spacing[1:]

    @property
    def extent(self) -> float:
        """The longer side of the object in a slice, mm."""
        sides = zip(self.spans, self.spacing, strict=True)
        return max((span.end - span.first) * spacing for span, spacing in sides)

    def field(self, field_of_view: float | None) -> Field:
        """The square of this side, mm, around the object; all of a slice for None.

        Raises:
            FrameError: the volume does not say how large its voxels are.
        """
        height, width = self.volume.values.shape[1:]
        if field_of_view is None:
            return Field(0, 0, height, width)
        if not all(1e-3 < spacing < 1e3 for spacing in self.spacing):
            raise FrameError(f"{self.volume.name} does not say how large its voxels are")
        height, width = (max(round(field_of_view / spacing), 1) for spacing in self.spacing)
        check_size(height, width, self.volume.name)
        rows, columns = self.spans
        top, left = (
            (rows.first + rows.end - height) // 2,
            (columns.first + columns.end - width) // 2,
        )
        return Field(top, left, height, width)


class BrainMask(NamedTuple):
    """Where the brain of a volume is.

    Attributes:
        name: what it is called in messages.
        voxels: bool [S, H, W], True in the brain, laid out as a volume.
        grid: where they lie; None where that is not known.
    """

    name: str
    voxels: Mask
    grid: Grid | None


def slices_of(volume: Volume, rule: str, mask: BrainMask | None = None) -> Slices:
    """Find the object of a volume.

    Args:
        volume: which is not changed.
        rule: one of ``contract.OBJECTS``. By "nonzero" a mask takes the place of the background
            value, by "mask" there has to be one, and by "head" there is none.
        mask: of the brain.

    Raises:
        FrameError: the mask is missing or lies elsewhere, there is no object or only one value in
            it, its few whole values are labels, or values are not finite.
    """
    values, noun = volume.values, "head" if rule == "head" else "brain"
    find = _finder(volume, rule, mask)

    # what of the object is where, and its sums
    counts = np.zeros(len(values), np.intp)
    shadow = np.zeros(values.shape[1:], np.min_scalar_type(len(values)))  # slices inside there
    total = squares = 0.0
    packed = np.empty((*values.shape[:2], -(-values.shape[2] // 8)), np.uint8)
    for number, stored in enumerate(values):
        inside = find(number, stored)
        packed[number] = np.packbits(inside, axis=1)
        shadow += inside
        counts[number] = np.count_nonzero(inside)
        exact = stored[inside].astype(np.float64)
        total += float(exact.sum())
        squares += float(np.square(exact, out=exact).sum())
        if not math.isfinite(total):
            raise FrameError(f"{volume.name} has voxels that are not finite numbers")
    voxels = int(counts.sum())
    if not voxels:
        where = " inside its mask" if mask is not None else ""
        raise FrameError(f"{volume.name} shows no {noun}: every voxel{where} is background")

    # what standardises it
    mean = total / voxels
    variance = squares / voxels - mean**2
    if variance < _CANCELLED * mean**2:  # hardly any digit of it is left
        variance = _squares(values, packed, mean) / voxels
    std = variance**0.5
    if not np.float32(std) > 0:
        raise FrameError(f"{volume.name} shows nothing: every voxel of the {noun} is {mean:g}")
    if volume.stored is not None and _are_labels(volume.stored[_unpacked(packed, values.shape[2])]):
        raise FrameError(f"{volume.name} holds labels, such as a tumour's mask, and no picture")

    shown_slices = np.flatnonzero(counts >= MIN_OBJECT * counts.max())
    spans = _span(shadow.sum(axis=1)), _span(shadow.sum(axis=0))
    return Slices(replace(volume, stored=None), packed, shown_slices, mean, std, spans)


def _squares(values: Values, packed: NDArray[np.uint8], mean: float) -> float:
    """The sum of the squared distances of the object's voxels from their mean."""
    return sum(
        float(np.square(plane[_unpacked(inside, plane.shape[1])].astype(np.float64) - mean).sum())
        for plane, inside in zip(values, packed, strict=True)
    )


def _unpacked(packed: NDArray[np.uint8], width: int) -> Mask:
    """The mask whose rows of so many voxels are packed as bits."""
    return np.unpackbits(packed, axis=-1, count=width).view(np.bool_)


def _finder(
    volume: Volume, rule: str, mask: BrainMask | None
) -> Callable[[int, NDArray[Any]], Mask]:
    """What finds the object, bool [H, W], in the slice of a number with these values, by a rule."""

    def unpadded(values: NDArray[Any], plane: Mask) -> Mask:
        return plane & ~np.isnan(values) if volume.padded else plane

    if rule == "head":
        threshold = _head_threshold(volume)
        if volume.values.dtype.kind != "f":  # which are compared as what they are, at once
            threshold = math.floor(threshold)
        return lambda _, values: unpadded(values, silhouette(values > threshold))
    if mask is not None:
        _check_mask(volume, mask)
        voxels = mask.voxels
        return lambda number, values: unpadded(values, voxels[number] & (values != 0))
    if rule == "mask" or volume.stored is None:
        raise FrameError(
            f"{volume.name} has no brain mask, and the model looks at the brain alone: give one by "
            "--brain-mask, or train a model with --object head"
        )
    stored, background = volume.stored, _background(volume.stored)
    return lambda number, _: np.asarray(stored[number] != background)


def _check_mask(volume: Volume, mask: BrainMask) -> None:
    """Refuse a mask of other voxels than the volume's.

    Of NIfTI volumes the shapes alone are compared: many tools write no place into a mask.
    """
    if mask.voxels.shape != volume.values.shape:
        raise FrameError(
            f"{mask.name} has the shape {shape_word(mask.voxels)}, and {volume.name}, which it "
            f"masks, has {shape_word(volume.values)}"
        )
    elsewhere = mask.grid is not None and not mask.grid.is_near(volume.grid, volume.values.shape)
    if volume.stored is None and elsewhere:
        raise FrameError(f"{mask.name} lies elsewhere in the patient than {volume.name}")


def _head_threshold(volume: Volume) -> float:
    """Half of Otsu's threshold, both above the lowest value; the highest where all are equal."""
    thinned = max(int(np.ceil((volume.values.size / _SAMPLED) ** 0.5)), 1)
    sample = volume.values[:, ::thinned, ::thinned]
    values, counts = np.unique(sample[np.isfinite(sample)], return_counts=True)
    if not counts.size:
        return np.inf
    values = values.astype(np.float64)
    low, high = (_quantile(values, counts, part) for part in (_EXTREME, 1 - _EXTREME))
    if not high > low:
        return high
    counts, edges = np.histogram(np.clip(values, low, high), _BINS, (low, high), weights=counts)
    return float(low + (_otsu(counts, edges) - low) / 2)


def _quantile(values: NDArray[np.float64], counts: NDArray[np.intp], part: float) -> float:
    """The value below which this part of all values lies; they rise, and each comes so often."""
    at = part * (counts.sum() - 1)
    around = values[np.searchsorted(np.cumsum(counts), (math.floor(at), math.ceil(at)), "right")]
    return float(np.quantile(around, at % 1))


def _otsu(counts: NDArray[np.intp], edges: NDArray[np.float64]) -> float:
    """The edge of a histogram that parts it into two classes farthest apart (Otsu 1979)."""
    weights, centres = counts / counts.sum(), (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(weights)[:-1]
    moment = np.cumsum(weights * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (moment[-1] * below - moment[:-1]) ** 2 / (below * (1 - below))
    return float(edges[1 + np.nanargmax(between)])


def _background(stored: NDArray[Any]) -> Any:
    """The stored value that fills at least half of a volume's six faces; 0 if none does."""
    faces = [stored[[0, -1]], stored[:, [0, -1]], stored[:, :, [0, -1]]]
    values, counts = np.unique(np.concatenate([face.ravel() for face in faces]), return_counts=True)
    most = counts.argmax()
    return values[most] if 2 * counts[most] >= counts.sum() else 0


def _are_labels(values: NDArray[Any]) -> bool:
    """Whether values are a few whole numbers from 0 on."""
    low, high = values.min(), values.max()
    if low < 0 or high > _MAX_LABEL or not np.array_equal(values, np.rint(values)):
        return False
    return len(np.unique(values)) <= _MAX_LABELS


def _span(profile: NDArray[np.intp]) -> Span:
    """The part of an axis that an object takes, of how many of its voxels lie at each place."""
    upto, outlying = np.cumsum(profile), _OUTLYING * profile.sum()
    first = np.searchsorted(upto, outlying, "right")
    last = np.searchsorted(upto, upto[-1] - outlying, "left")
    return Span(int(first), int(last) + 1)
