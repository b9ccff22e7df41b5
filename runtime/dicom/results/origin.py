"""What results take over from the series that they are about: patient, study, and the time.

Values that break the standard, which are many in old files, are left empty or cut, so that one of
them does not cost the result.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import re
import warnings
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from adae_edge.errors import FrameError
from adae_edge.extras import needs
from adae_edge.runtime.dicom.results.result import SeriesResult
from adae_edge.runtime.frame import Instance

with needs("Results as DICOM objects", "pacs"):
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

# Attributes of patient and study, and how many letters each may have.
_TEXTS = {
    "PatientID": 64,
    "IssuerOfPatientID": 64,
    "AccessionNumber": 16,
    "StudyID": 16,
    "StudyDescription": 64,
}
_NAMES = ("PatientName", "ReferringPhysicianName")
_NAME = 64  # letters of each of a name's three groups
_DATES, _TIMES = ("PatientBirthDate", "StudyDate"), ("StudyTime",)
# Where the time of a result is looked for, date and time, the nearest first.
_MOMENTS = (
    ("AcquisitionDate", "AcquisitionTime"),
    ("ContentDate", "ContentTime"),
    ("SeriesDate", "SeriesTime"),
    ("StudyDate", "StudyTime"),
)
_UNKNOWN = ("19000101", "000000")
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?")
_ZONE = re.compile(r"[+-](0\d|1[0-4])[0-5]\d")
UTF_8 = "ISO_IR 192"
_TOLD_BY = logging.getLogger("highdicom"), logging.getLogger("pydicom")


@contextlib.contextmanager
def quiet(name: str) -> Iterator[None]:
    """Silence pydicom and highdicom, whose messages quote the patient's values.

    Args:
        name: what sentences call the result.

    Raises:
        FrameError: it cannot be made; in place of whatever was raised, which stays the cause.
    """
    levels = [logger.level for logger in _TOLD_BY]
    for logger in _TOLD_BY:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except FrameError:
        raise
    except Exception as error:  # a foreign header can make them raise many kinds
        raise FrameError(f"{name} cannot be made of what the headers of its series say") from error
    finally:
        for logger, level in zip(_TOLD_BY, levels, strict=True):
            logger.setLevel(level)


def first_of(result: SeriesResult) -> Instance:
    """The instance whose header stands for the series: the one with the least UID.

    Raises:
        FrameError: a slice names no instance, or its study or series is no UID.
    """
    instances = [scored.frame.instance for scored in result.slices]
    known = [instance for instance in instances if instance is not None]
    if not known or len(known) < len(instances):
        raise FrameError("a result is about slices of a DICOM series, and a frame is none")
    first = min(known, key=lambda instance: (instance.sop_instance, instance.number))
    for uid in {uid for each in known for uid in (each.study, each.series)}:
        if not is_uid(uid):
            raise FrameError("a result cannot be filed: its series names no study that is a UID")
    return first


def is_uid(text: str) -> bool:
    """Whether a text is a UID, as far as archives take it for one."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def origin_of(instance: Instance) -> Dataset:
    """What the instance of a series says of patient, study, time and itself, as valid values.

    Returns:
        A data set in UTF-8 with every attribute that a result must have, empty if unknown.

    Raises:
        FrameError: its header cannot be read any more, or it has no UIDs.
    """
    header, origin = instance.dataset(), Dataset()
    origin.SpecificCharacterSet = UTF_8
    origin.SOPClassUID = text_of(header, "SOPClassUID")
    origin.SOPInstanceUID = text_of(header, "SOPInstanceUID")
    origin.StudyInstanceUID, origin.SeriesInstanceUID = instance.study, instance.series
    if not all(is_uid(uid) for uid in (origin.SOPClassUID, origin.SOPInstanceUID)):
        raise FrameError("a result has nothing to refer to: its series has no SOP instance UIDs")
    for name, most in _TEXTS.items():
        setattr(origin, name, text_of(header, name).replace("\\", " ")[:most].strip())
    for name in _NAMES:
        groups = text_of(header, name).replace("\\", " ").split("=")[:3]
        parts = ("^".join(group.split("^")[:5])[:_NAME].strip() for group in groups)
        setattr(origin, name, "=".join(parts))
    for name in _DATES:
        setattr(origin, name, _date(text_of(header, name)))
    for name in _TIMES:
        setattr(origin, name, _time(text_of(header, name)))
    sex = text_of(header, "PatientSex").upper()
    origin.PatientSex = sex if sex in ("M", "F", "O") else ""
    origin.Modality = text_of(header, "Modality").upper()[:16] or "OT"
    origin.ContentDate, origin.ContentTime = _moment(header)
    if _ZONE.fullmatch(zone := text_of(header, "TimezoneOffsetFromUTC")):
        origin.TimezoneOffsetFromUTC = zone
    if is_uid(reference := text_of(header, "FrameOfReferenceUID")):
        origin.FrameOfReferenceUID = reference
        origin.PositionReferenceIndicator = ""
    return origin


def text_of(header: Any, name: str) -> str:
    """A value as one line of text without control characters; "" where there is none to be read."""
    try:
        value = header.get(name)
    except Exception:  # of a value that cannot be decoded
        return ""
    text = "" if value is None else str(value)
    return "".join(letter for letter in text if letter.isprintable()).strip()


def finish(made: Dataset, origin: Dataset) -> Dataset:
    """An object without what differs from one making to the next, and with the series' time.

    Args:
        made: by highdicom, whose times are now.
        origin: as ``origin_of`` returns it.
    """
    plain = Dataset()
    plain.update(copy.copy(made))
    for name in ("Content", "Series", "InstanceCreation"):
        setattr(plain, f"{name}Date", origin.ContentDate)
        setattr(plain, f"{name}Time", origin.ContentTime)
    if "DateOfSecondaryCapture" in plain:
        plain.DateOfSecondaryCapture = origin.ContentDate
        plain.TimeOfSecondaryCapture = origin.ContentTime
    if "TimezoneOffsetFromUTC" in origin:
        plain.TimezoneOffsetFromUTC = origin.TimezoneOffsetFromUTC
    for name in ("ContributingEquipmentSequence", "ContentDateTime"):
        if name in plain:
            delattr(plain, name)
    plain.file_meta = FileMetaDataset()
    plain.file_meta.MediaStorageSOPClassUID = plain.SOPClassUID
    plain.file_meta.MediaStorageSOPInstanceUID = plain.SOPInstanceUID
    plain.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    plain.preamble = bytes(128)
    return plain


def _date(text: str) -> str:
    """A date of the standard, or ""."""
    with contextlib.suppress(ValueError):
        if re.fullmatch(r"\d{8}", text):
            datetime.strptime(text, "%Y%m%d")
            return text
    return ""


def _time(text: str) -> str:
    """A time of the standard, or ""."""
    return text if _TIME.fullmatch(text) else ""


def _moment(header: Any) -> tuple[str, str]:
    """Date and time of the series; the first day of 1900 where it tells none."""
    whole = text_of(header, "AcquisitionDateTime")
    for day, hour in [
        (whole[:8], re.split("[+-]", whole[8:])[0]),
        *((text_of(header, date), text_of(header, time)) for date, time in _MOMENTS),
    ]:
        if _date(day):
            return day, _time(hour) or "000000"
    return _UNKNOWN
