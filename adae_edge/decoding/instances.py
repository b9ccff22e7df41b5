"""Which DICOM instance a frame is of, and what its file says of the rest of its series."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from adae_edge.decoding.dicom_header import value_of
from adae_edge.decoding.kinds import Member

if TYPE_CHECKING:
    from adae_edge.decoding.dicom_file import DicomFile

_UID = re.compile(r"[0-9.]{1,64}")
_MOST_SLICES = 10**6


class Origin(NamedTuple):
    """Where a frame comes from, as its file says; a UID that is none is "".

    Attributes:
        id: of the frame, as ``decode_dicom`` names it.
        study, series, sop_class, sop_instance: UIDs.
        number: the frame in a multi-frame instance from 1; 0 where it is the only one.
        enhanced: whether the instance holds a whole acquisition by its kind.
        declared: how many frames its acquisition has, as the scanner filled in; 0 where it did not.
        acquisition: which one of the series it is.
    """

    id: str
    study: str
    series: str
    sop_class: str
    sop_instance: str
    number: int = 0
    enhanced: bool = False
    declared: int = 0
    acquisition: str = ""


def origin_of(file: DicomFile, id_: str, number: int) -> Origin:
    """The origin of a frame of a file, by its name and its number from 0."""
    header = file.header
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Origin(
            id_,
            study=_uid(_value(header, "StudyInstanceUID")),
            series=_uid(_value(header, "SeriesInstanceUID")),
            sop_class=_uid(_value(header, "SOPClassUID")),
            sop_instance=_uid(_value(header, "SOPInstanceUID")),
            number=number + 1 if file.frames > 1 else 0,
            enhanced=_is_enhanced(file),
            declared=_count(header, "ImagesInAcquisition") or _count(header, "NumberOfSlices"),
            acquisition=str(_value(header, "AcquisitionNumber") or "")[:16],
        )


def open_place(place: Path | Member) -> DicomFile:
    """Read and check the header of a DICOM file, which may lie in an archive.

    Raises:
        As ``open_dicom`` and ``open_member``.
    """
    from adae_edge.decoding.archives import open_member
    from adae_edge.decoding.dicom_file import open_dicom

    if isinstance(place, Member):
        return open_dicom(open_member(place), str(place))
    return open_dicom(place)


def dataset_of(place: Path | Member) -> Any:
    """The attributes of a DICOM file without its pixels, as a pydicom Dataset.

    Raises:
        As ``open_place``.
    """
    return open_place(place).header


def _is_enhanced(file: DicomFile) -> bool:
    """Whether a file holds a whole acquisition: enhanced, and no part of a concatenation."""
    header = file.header
    parts = value_of(header, "ConcatenationUID") or value_of(header, "InConcatenationNumber")
    return file.frames > 1 and "PerFrameFunctionalGroupsSequence" in header and not parts


def _count(header: Any, name: str) -> int:
    """A number of frames; 0 where there is none that can be."""
    try:
        count = int(_value(header, name) or 0)
    except (TypeError, ValueError):
        return 0
    return count if 0 < count <= _MOST_SLICES else 0


def _uid(value: Any) -> str:
    text = str(value or "")
    return text if _UID.fullmatch(text) else ""


def _value(header: Any, name: str) -> Any:
    """A value that pydicom reads when it is asked for; None where it cannot be read."""
    try:
        return value_of(header, name)
    except Exception:
        return None
