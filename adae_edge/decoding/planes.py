"""What the frames of DICOM files say of themselves as slices of volumes, and their values."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from adae_edge.acquisition import Acquisition
from adae_edge.decoding.acquisitions import acquisition_of, person_of
from adae_edge.decoding.dicom_header import value_of
from adae_edge.decoding.instances import Origin, open_place, origin_of
from adae_edge.decoding.kinds import Member
from adae_edge.decoding.stored import Stored, read_stored, stored_from
from adae_edge.errors import FrameError, NoPicture, printable
from adae_edge.grid import Vectors

if TYPE_CHECKING:
    from adae_edge.decoding.dicom_file import DicomFile

File: TypeAlias = Path | Member

# Attributes that tell the volumes of a series apart, and the word for each.
TELLING = {
    "EchoTime": "echo time",
    "EffectiveEchoTime": "echo time",
    "EchoNumbers": "echo",
    "ImageType": "image type",
    "FrameType": "frame type",
    "DiffusionBValue": "b-value",
    "DiffusionGradientOrientation": "gradient",
    "TemporalPositionIdentifier": "time",
    "TemporalPositionIndex": "time",
    "TriggerTime": "trigger time",
    "NominalCardiacTriggerDelayTime": "trigger delay",
    "InversionTime": "inversion time",
    "FlipAngle": "flip angle",
    "StackID": "stack",
    "AcquisitionNumber": "acquisition",
    "AcquisitionTime": "acquisition time",
    "AcquisitionDateTime": "acquisition time",
    "FrameAcquisitionDateTime": "acquisition time",
}
# Direction cosines of one stack differ by less.
TURNED = 0.01
# No slice lies farther from the origin, and no pixel is larger, or smaller than a micron; in mm.
_FAR, _LARGE = 1e5, 1e3
_UID = re.compile(r"[0-9.]{1,64}")


class Plane(NamedTuple):
    """What one frame of a DICOM file says of itself.

    Attributes:
        place: where the file is.
        number: of the frame in it, from 0.
        uid: the SOP instance UID, with "/1", "/2" ... for a frame of several; or the file's name.
        series: the series instance UID, or a hash of an odd one, or else the file's folder.
        reference: the frame of reference UID, or "".
        label: the series' number and description, for messages.
        person: a hash that tells the patient, or "".
        size: rows and columns.
        axes: float64 [2, 3], the directions of columns and of rows: along a row, and down a column.
        position: float64 [3], of the first pixel, mm.
        spacing: of rows and of columns, mm.
        units: of the values.
        rescaled: whether stored values become others; None where it does not say so.
        telling: attributes by which volumes are told apart, as text.
        acquisition: of the file; its spacing does not count.
        origin: the instance, and what it says of the rest of its series.
        stored: where its values lie in the file as they are; None where they do not.
    """

    place: File
    number: int
    uid: str
    series: str
    reference: str
    label: str
    person: str
    size: tuple[int, int]
    axes: Vectors
    position: Vectors
    spacing: tuple[float, float]
    units: str
    rescaled: bool | None
    telling: dict[str, str]
    acquisition: Acquisition
    origin: Origin
    stored: Stored | None


class Where(NamedTuple):
    """Where a frame lies in the patient: ``axes``, ``position`` and ``spacing`` as of a plane."""

    axes: Vectors
    position: Vectors
    spacing: tuple[float, float]


def planes_of(place: File) -> Iterator[Plane]:
    """Read what the frames of a DICOM file say of themselves, one after another.

    Raises:
        FrameError: the file cannot be decoded, or its header is damaged.
        NoPicture: it holds no slices that lie somewhere in a patient.
    """
    file = open_place(place)
    if not file.grey:
        raise NoPicture(f"{place} has colours, and a slice of a volume has values")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            same = _same_in_all(place, file)
            for number in range(file.frames):
                yield _plane(place, file, number, same)
    except FrameError:
        raise
    except Exception as error:  # pydicom reads values when they are asked for
        raise FrameError(f"{place} cannot be read as a slice: its header is damaged") from error


def values_of(
    place: File, numbers: Iterable[int], stored: Stored | None = None
) -> Iterator[NDArray[Any]]:
    """Decode frames of a DICOM file by their numbers into modality values, without any window.

    Args:
        place: of the file.
        numbers: of frames, from 0.
        stored: of its only frame, where that is known.

    Yields:
        float32 [H, W], NaN where a frame is padded; or integers that are the values.

    Raises:
        FrameError: the file cannot be decoded.
    """
    if stored is not None and isinstance(place, Path):
        with contextlib.suppress(OSError):  # which is told below
            if (values := read_stored(place, stored)) is not None:
                yield values
                return
    file = open_place(place)
    yield from map(file.values, numbers)


def as_json(plane: Plane) -> dict[str, Any]:
    """The fields of a plane as JSON types, without its place."""
    return plane._asdict() | {
        "place": None,
        "axes": plane.axes.tolist(),
        "position": plane.position.tolist(),
        "acquisition": vars(plane.acquisition),
    }


def from_json(place: File, fields: dict[str, Any]) -> Plane:
    """The plane whose fields ``as_json`` returned."""
    acquisition = fields["acquisition"]
    return Plane(
        **fields
        | {
            "place": place,
            "size": tuple(fields["size"]),
            "axes": np.array(fields["axes"]),
            "position": np.array(fields["position"]),
            "spacing": tuple(fields["spacing"]),
            "acquisition": Acquisition(**acquisition | {"spacing": tuple(acquisition["spacing"])}),
            "origin": Origin(*fields["origin"]),
            "stored": stored_from(fields["stored"]),
        }
    )


def _same_in_all(place: File, file: DicomFile) -> dict[str, Any]:
    """The fields of a plane that are the same for all frames of a file."""
    header = file.header
    label = " ".join(
        text
        for name in ("SeriesNumber", "SeriesDescription")
        if (text := _text(value_of(header, name)))
    )
    return {
        "place": place,
        "series": short_uid(value_of(header, "SeriesInstanceUID")) or str(Path(str(place)).parent),
        "reference": short_uid(value_of(header, "FrameOfReferenceUID")),
        "label": label,
        "person": person_of(header),
        "size": file.size,
        "acquisition": acquisition_of(header, (1.0, 1.0, 1.0)),
    }


def _plane(place: File, file: DicomFile, number: int, same: dict[str, Any]) -> Plane:
    """What the frame of a number says of itself, with what all frames say."""
    parts = parts_of(file.header, number)
    said = partial(attribute_of, parts)
    where = where_of(parts, str(place))
    uid = str(value_of(file.header, "SOPInstanceUID") or "")
    uid = uid if _UID.fullmatch(uid) else Path(str(place)).name
    own = uid if file.frames == 1 else f"{uid}/{number + 1}"
    return Plane(
        **same,
        number=number,
        uid=own,
        axes=where.axes,
        position=where.position,
        spacing=where.spacing,
        units=_text(said("RescaleType")) or _text(said("Units")),
        rescaled=_is_rescaled(said),
        telling={name: text for name in TELLING if (text := _text(said(name)))},
        origin=origin_of(file, own, number),
        stored=file.stored(),
    )


def where_of(parts: list[Any], name: str) -> Where:
    """Where a frame lies in the patient, by its ``parts_of``.

    Raises:
        NoPicture: it does not say; ``name`` is the file's.
        FrameError: that is no place.
    """
    orientation = attribute_of(parts, "ImageOrientationPatient")
    position = attribute_of(parts, "ImagePositionPatient")
    spacing = attribute_of(parts, "PixelSpacing")
    if not orientation or not position or not spacing:
        raise NoPicture(f"{name} does not say where its picture lies in the patient")
    axes, corner, sides = (
        tuple(float(number) for number in numbers) for numbers in (orientation, position, spacing)
    )
    sound = len(axes) == 6 and len(corner) == 3 and len(sides) == 2
    sound = sound and all(abs(number) < 2 for number in axes)
    sound = sound and all(abs(number) < _FAR for number in corner)
    if not sound or not all(1 / _LARGE < side < _LARGE for side in sides):
        raise FrameError(f"{name} has a place in the patient that is none")
    directions = _directions(axes)
    if directions is None:
        raise FrameError(f"{name} has an orientation that is no pair of directions")
    return Where(directions, np.array(corner), (sides[0], sides[1]))


@functools.lru_cache(maxsize=16)
def _directions(cosines: tuple[float, ...]) -> Vectors | None:
    """Six direction cosines -> float64 [2, 3], of length 1; None where they are no directions."""
    axes = np.array(cosines).reshape(2, 3)
    lengths = np.linalg.norm(axes, axis=1)
    if (np.abs(lengths - 1) > TURNED).any() or abs(axes[0] @ axes[1]) > TURNED:
        return None
    axes /= lengths[:, None]
    axes.flags.writeable = False
    return axes


def _is_rescaled(said: Callable[[str], Any]) -> bool | None:
    """Whether a frame's stored values become others; None where it does not say so."""
    if said("ModalityLUTSequence"):
        return True
    numbers = said("RescaleSlope"), said("RescaleIntercept")
    return None if None in numbers else tuple(map(float, numbers)) != (1, 0)


def parts_of(header: Any, number: int) -> list[Any]:
    """The data sets that describe a frame: those of it alone, those of all frames, and the file.

    An enhanced file keeps attributes in sequences of one item in groups (PS3.3 C.7.6.16).
    """
    parts = []
    for kind, index in (("PerFrame", number), ("Shared", 0)):
        groups = value_of(header, f"{kind}FunctionalGroupsSequence") or []
        for item in _items(groups[index]) if index < len(groups) else ():
            parts += [item, *_items(item)]
    return [*parts, header]


def attribute_of(parts: list[Any], name: str) -> Any:
    """An attribute of a frame by the first of its ``parts_of`` that has it; None for none."""
    return next((found for part in parts if (found := value_of(part, name)) is not None), None)


def _items(data: Any) -> Iterator[Any]:
    """The first item of each sequence of a data set."""
    return (element.value[0] for element in data if element.VR == "SQ" and element.value)


def copies_of(plane: Plane) -> tuple[Any, ...]:
    """What is the same for copies of a frame: its instance UID and its place in the patient.

    A UID that is none is no sign, and some writers give all slices one.
    """
    known = _UID.fullmatch(plane.uid.partition("/")[0])
    own = plane.uid if known else (str(plane.place), plane.number)
    return own, *plane.position.tolist(), *plane.axes.ravel().tolist()


def short_uid(uid: Any) -> str:
    """A UID, or a hash of what is none, however long it is; "" for nothing."""
    text = str(uid or "")
    known = not text or _UID.fullmatch(text)
    return text if known else hashlib.sha256(text.encode(errors="replace")).hexdigest()


def _text(value: Any) -> str:
    """A value as a text of up to 64 printable characters; several have backslashes between."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else "\\".join(map(_word, np.ravel(value)))
    return printable(text)[:64].strip()


def _word(value: Any) -> str:
    return f"{float(value):g}" if isinstance(value, int | float) else str(value)
