"""What the header of a DICOM slice says of its acquisition and of the person whom it shows."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import Any

from adae_edge.acquisition import Acquisition
from adae_edge.decoding.dicom_header import value_of
from adae_edge.fields import fields_of

# Functional groups of an enhanced file that say how it was acquired.
_GROUPS = ("MRTimingAndRelatedParametersSequence", "MREchoSequence", "MRModifierSequence")
_DIGITS = 6  # of numbers, which are texts in some files and float32 in others


def acquisition_of(header: Any, spacing: tuple[float, float, float]) -> Acquisition:
    """The acquisition of a slice, by the attributes of classic files or of enhanced ones.

    Args:
        header: a pydicom data set. Of an enhanced file the first frame counts.
        spacing: from one slice, row and column to the next, mm.

    Returns:
        What it says. A value that is missing, empty or absurd is None.
    """
    found = {
        "manufacturer": _text(value_of(header, "Manufacturer")),
        "model": _text(value_of(header, "ManufacturerModelName")),
        "field_strength": _number(value_of(header, "MagneticFieldStrength")),
        "sequence": _text(_sequence(header)),
        "repetition_time": _number(_first(header, "RepetitionTime")),
        "echo_time": _number(_first(header, "EchoTime", "EffectiveEchoTime")),
        "inversion_time": _number(_first(header, "InversionTime", "InversionTimes")),
        "flip_angle": _number(_first(header, "FlipAngle")),
    }
    rules = fields_of(Acquisition)
    absurd = {name: None for name, value in found.items() if not rules[name].rule.accepts(value)}
    known: dict[str, Any] = found | absurd
    slices, rows, columns = map(_rounded, spacing)
    return Acquisition(**known, spacing=(slices, rows, columns))


def person_of(header: Any) -> str:
    """A hash that is the same for all series of one person in one hospital.

    It is of the patient's identifier and who issued it, or else of name and date of birth.

    Returns:
        64 hexadecimal digits, or "" where the header has none of these.
    """
    names = ("PatientID", "IssuerOfPatientID"), ("PatientName", "PatientBirthDate")
    for first, second in names:
        values = [" ".join(str(value_of(header, name) or "").split()) for name in (first, second)]
        if values[0]:
            return hashlib.sha256("\0".join([first, *values]).encode()).hexdigest()
    return ""


def _sequence(header: Any) -> str:
    """The scanning sequence, its variant, and 2D or 3D; of an enhanced file its name."""
    names = ("ScanningSequence", "SequenceVariant")
    if not value_of(header, "ScanningSequence"):
        names = ("PulseSequenceName", "EchoPulseSequence")
        if not value_of(header, "PulseSequenceName"):
            return ""
    return " ".join(_joined(value_of(header, name)) for name in (*names, "MRAcquisitionType"))


def _joined(value: Any) -> str:
    return "" if value is None else str(value) if isinstance(value, str) else "\\".join(value)


def _first(header: Any, *names: str) -> Any:
    """The first value under one of these names, also in the functional groups."""
    for data in _parts(header):
        for name in names:
            if value_of(data, name) is not None:
                return value_of(data, name)
    return None


def _parts(header: Any) -> Iterator[Any]:
    """The data set itself, and what is said of all frames of an enhanced one and of the first."""
    yield header
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in (value_of(header, groups) or ())[:1]:
            for name in _GROUPS:
                yield from value_of(group, name) or ()


def _text(value: Any) -> str | None:
    """One text of printable characters, at most 64, or None."""
    text = "".join(letter for letter in str(value or "") if letter.isprintable())
    return " ".join(text.split())[:64].strip() or None


def _number(value: Any) -> float | None:
    """One finite number, or None; of several the first."""
    try:
        if not isinstance(value, str | int | float):
            value = value[0]
        number = float(value)
    except (TypeError, ValueError, IndexError):
        return None
    return _rounded(number) if math.isfinite(number) else None


def _rounded(number: float) -> float:
    return float(f"{number:.{_DIGITS}g}")
