"""The anomaly maps of a series as one Parametric Map, in the pixels of its slices."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from adae_edge import __version__
from adae_edge.decoding.planes import TURNED, attribute_of, parts_of, where_of
from adae_edge.errors import FrameError
from adae_edge.extras import needs
from adae_edge.grid import Grid
from adae_edge.runtime.dicom.results import concepts
from adae_edge.runtime.dicom.results.identity import instance_uid, series_uid
from adae_edge.runtime.dicom.results.origin import (
    UTF_8,
    finish,
    first_of,
    is_uid,
    origin_of,
    quiet,
)
from adae_edge.runtime.dicom.results.result import SeriesResult
from adae_edge.runtime.drawing import map_in_frame
from adae_edge.runtime.frame import Instance, Scored

with needs("Results as DICOM objects", "pacs"):
    from highdicom import VOILUTTransformation
    from highdicom.pm import ParametricMap, RealWorldValueMapping
    from pydicom.dataset import Dataset
    from pydicom.uid import MRImageStorage

SERIES_NUMBER = 9903
MOST_BYTES = 2**28  # of a map's pixels
_SAME_PLACE = 0.01  # mm
_DERIVED = "Anomaly maps by adae-edge. Not a diagnosis."


class _Slice(NamedTuple):
    """The map of a slice, and where it lies.

    Attributes:
        instance: that the slice is of.
        grid: of the slice's pixels.
        values: float32 [H, W] of the whole slice.
    """

    instance: Instance
    grid: Grid
    values: NDArray[np.float32]

    @property
    def has_image(self) -> bool:
        """Whether one image is this slice, and it was not cut across several."""
        return is_uid(self.instance.sop_class) and is_uid(self.instance.sop_instance)


def parametric_map(result: SeriesResult, secret: bytes | None = None) -> Dataset:
    """Make the map of a series: of every slice that was scored, float32, in its own pixels.

    Args:
        result: what is known of the series; every slice has its map.
        secret: the site's, with which UIDs are keyed; None for none.

    Returns:
        A data set with its file meta information, in explicit VR little endian.

    Raises:
        FrameError: a slice has no map or no place, they do not lie one behind the other, or there
            are more than ``MOST_BYTES`` of them.
    """
    with quiet("a map"):
        # the slices
        origin = origin_of(first_of(result))
        if "FrameOfReferenceUID" not in origin:
            raise FrameError("a map has no place: its slices name no frame of reference")
        slices = _slices(result)
        values = np.stack([each.values for each in slices])
        low, high = float(values.min()), float(values.max())
        if not np.isfinite(high - low):
            raise FrameError("a map cannot be made: its values are no finite numbers")

        # the object
        threshold = result.highest.map_threshold
        made = ParametricMap(
            [_source(each, origin) for each in slices],
            values,
            series_uid(result, "map", secret),
            SERIES_NUMBER,
            instance_uid(result, "map", secret),
            result.end.revision,
            "adae-edge",
            "adae-edge",
            __version__,
            result.contract.weights_sha256[:16],
            contains_recognizable_visual_features=False,
            real_world_value_mappings=[_meaning(low, high)],
            voi_lut_transformations=[_window(low, high if threshold is None else threshold)],
            content_label="ANOMALY_MAP",
            content_description="adae-edge anomaly map, not a diagnosis",
            series_description="adae-edge anomaly maps, not a diagnosis",
            specific_character_set=UTF_8,
        )
        made.DerivationDescription = _DERIVED
        made.Laterality = ""
        _refer(made, slices, origin)
        _name_dimensions(made, instance_uid(result, "map dimensions", secret))
        return finish(made, origin)


def _slices(result: SeriesResult) -> list[_Slice]:
    """Each slice with its map; raises FrameError where they are no stack."""
    if any(scored.anomaly_map is None for scored in result.slices):
        if result.contract.form.anomaly_map is None:
            raise FrameError("the model gives no anomaly maps")
        raise FrameError(f"the maps of the series take more than {MOST_BYTES >> 20} MiB")
    rows, columns = _size(result.slices[0])
    if len(result.slices) * rows * columns * 4 > MOST_BYTES:
        raise FrameError(f"the maps of the series take more than {MOST_BYTES >> 20} MiB")
    slices = [_Slice(_instance(each), _grid(each), _whole(each)) for each in result.slices]
    first = slices[0].grid.steps[1:]
    normal = np.cross(*first) / np.linalg.norm(np.cross(*first))
    for each in slices:
        alike = each.values.shape == (rows, columns)
        if not alike or np.abs(each.grid.steps[1:] - first).max() > TURNED * np.abs(first).max():
            raise FrameError("a map has slices of one size and orientation, and these have several")
    places = np.sort([each.grid.corner @ normal for each in slices])
    if len(slices) > 1 and np.diff(places).min() < _SAME_PLACE:
        raise FrameError("a map has one slice at a place, and this series has several, as echoes")
    return slices


def _instance(scored: Scored) -> Instance:
    assert scored.frame.instance is not None  # first_of has looked
    return scored.frame.instance


def _size(scored: Scored) -> tuple[int, int]:
    """Height and width of the whole slice."""
    cut = scored.frame.cut
    return scored.frame.size if cut is None else (cut.height, cut.width)


def _whole(scored: Scored) -> NDArray[np.float32]:
    """The map in the pixels of the whole slice, 0 where the model does not look."""
    values, cut = map_in_frame(scored), scored.frame.cut
    if cut is None:
        return values
    whole = np.zeros((cut.height, cut.width), np.float32)
    up, left = max(cut.top, 0), max(cut.left, 0)
    inside = values[up - cut.top :, left - cut.left :][: cut.height - up, : cut.width - left]
    whole[up : up + inside.shape[0], left : left + inside.shape[1]] = inside
    return whole


def _grid(scored: Scored) -> Grid:
    """Where the slice lies: as its volume has it, or else as its image says."""
    return scored.frame.grid or _grid_of_image(_instance(scored))


def _grid_of_image(instance: Instance) -> Grid:
    """Where the pixels of an image lie; its first axis is as long as the slice is thick, or 0."""
    header, number = instance.dataset(), max(instance.number - 1, 0)
    parts = parts_of(header, number)
    where = where_of(parts, "a slice of the series")
    along_row, down_column = where.axes
    thickness = float(attribute_of(parts, "SliceThickness") or 0)
    steps = (
        np.cross(along_row, down_column) * thickness,
        down_column * where.spacing[0],
        along_row * where.spacing[1],
    )
    return Grid(where.position, np.array(steps))


def _source(each: _Slice, origin: Dataset) -> Dataset:
    """A header from which highdicom takes the patient and the slice's place.

    It is that of a plain image whatever the file is, because highdicom reads those of several
    frames differently. ``_refer`` names the true images.
    """
    source = Dataset()
    source.update(origin)
    source.SOPClassUID = MRImageStorage
    source.Rows, source.Columns = each.values.shape
    thickness, rows, columns = each.grid.spacing
    down_column, along_row = each.grid.steps[1] / rows, each.grid.steps[2] / columns
    source.ImagePositionPatient = _texts(each.grid.corner)
    source.ImageOrientationPatient = _texts([*along_row, *down_column])
    source.PixelSpacing = _texts([rows, columns])
    source.SliceThickness = _texts([thickness])[0] if thickness else None
    return source


def _texts(numbers: list[float] | NDArray[np.float64]) -> list[str]:
    """Decimal strings of 16 characters at most."""
    return [f"{number + 0.0:.9g}" for number in numbers]


def _meaning(low: float, high: float) -> RealWorldValueMapping:
    """What a value is: what the model gives, without a unit."""
    told = "Anomaly map, not a diagnosis"
    kind = concepts.MAP
    return RealWorldValueMapping(
        "anomaly", told, concepts.ONE, (low, high), quantity_definition=kind
    )


def _window(low: float, middle: float) -> VOILUTTransformation:
    """A window from the lowest value, or 0, that has the threshold in its middle."""
    half = max(middle - (max(low, 0.0) if middle > 0 else low), 1e-6)
    return VOILUTTransformation(float(f"{middle:.6g}"), float(f"{2 * half:.6g}"))


def _refer(made: ParametricMap, slices: list[_Slice], origin: Dataset) -> None:
    """Name the images that the slices are: of each frame its own, and all of them once."""
    kept = "YES" if _in_pixels_of_images(slices) else "NO"
    at = {tuple(_texts(each.grid.corner)): each for each in slices}
    for group in made.PerFrameFunctionalGroupsSequence:
        place = _texts([*map(float, group.PlanePositionSequence[0].ImagePositionPatient)])
        each = at[tuple(place)]
        if not each.has_image:
            del group.DerivationImageSequence
            continue
        (item,) = group.DerivationImageSequence[0].SourceImageSequence
        item.ReferencedSOPClassUID = each.instance.sop_class
        item.ReferencedSOPInstanceUID = each.instance.sop_instance
        if each.instance.number:
            item.ReferencedFrameNumber = each.instance.number
        item.SpatialLocationsPreserved = kept
    images = {
        each.instance.sop_instance: each.instance.sop_class for each in slices if each.has_image
    }
    images = images or {origin.SOPInstanceUID: origin.SOPClassUID}
    named = []
    for uid, sop_class in images.items():
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
        named.append(item)
    made.SourceImageSequence = named
    made.ReferencedSeriesSequence[0].ReferencedInstanceSequence = named


def _in_pixels_of_images(slices: list[_Slice]) -> bool:
    """Whether slices lie as their images do, which a volume may have turned; all do alike."""
    each = next((each for each in slices if each.has_image), None)
    if each is None:
        return False
    steps = _grid_of_image(each.instance).steps[1:]
    return bool(np.abs(each.grid.steps[1:] - steps).max() < TURNED * np.abs(steps).max())


def _name_dimensions(made: ParametricMap, uid: str) -> None:
    """Give the organisation of the frames, which highdicom names by chance, this UID."""
    for item in (*made.DimensionOrganizationSequence, *made.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid
