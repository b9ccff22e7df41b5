"""The highest slice of a series beside its anomaly map, as a Secondary Capture for any viewer."""

from __future__ import annotations

from adae_edge import __version__
from adae_edge.decoding.planes import attribute_of, parts_of
from adae_edge.errors import printable
from adae_edge.extras import needs
from adae_edge.runtime.dicom.results.identity import instance_uid, series_uid
from adae_edge.runtime.dicom.results.origin import (
    UTF_8,
    finish,
    first_of,
    is_uid,
    origin_of,
    quiet,
    text_of,
)
from adae_edge.runtime.dicom.results.result import SeriesResult
from adae_edge.runtime.drawing import Picture, pair
from adae_edge.runtime.frame import Frame

with needs("Results as DICOM objects", "pacs"):
    from highdicom.sc import SCImage
    from pydicom.dataset import Dataset
    from pydicom.uid import ExplicitVRLittleEndian

SERIES_NUMBER = 9902
_WORKSTATION = "WSD"
# Height and width of pixels, the surest first (PS3.3 10.7 and C.7.6.3.1.7).
_SIDES = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")
_TALLEST = 20.0  # of pixels that are believed
_DERIVED = "The highest slice beside its anomaly map by adae-edge. Not a diagnosis."


def capture(result: SeriesResult, secret: bytes | None = None) -> Dataset:
    """Make the picture of a series: its highest slice, with score, threshold and verdict in it.

    Args:
        result: what is known of the series.
        secret: the site's, with which UIDs are keyed; None for none.

    Returns:
        A data set with its file meta information and RGB pixels, in explicit VR little endian.

    Raises:
        FrameError: it cannot be made of what the headers say, or the pixels are gone.
    """
    with quiet("a picture"):
        origin = origin_of(first_of(result))
        made = SCImage(
            picture(result),
            "RGB",
            8,
            "PATIENT",
            origin.StudyInstanceUID,
            series_uid(result, "capture", secret),
            SERIES_NUMBER,
            instance_uid(result, "capture", secret),
            result.end.revision,
            "adae-edge",
            patient_id=origin.PatientID,
            patient_name=origin.PatientName,
            patient_birth_date=origin.PatientBirthDate,
            patient_sex=origin.PatientSex,
            accession_number=origin.AccessionNumber,
            study_id=origin.StudyID,
            study_date=origin.StudyDate,
            study_time=origin.StudyTime,
            referring_physician_name=origin.ReferringPhysicianName,
            patient_orientation=("L", "P"),
            transfer_syntax_uid=ExplicitVRLittleEndian,
            manufacturer_model_name="adae-edge",
            software_versions=__version__,
            device_serial_number=result.contract.weights_sha256[:16],
            series_description="adae-edge highest slice, not a diagnosis",
            specific_character_set=UTF_8,
        )
        made.PatientOrientation = []  # of two pictures side by side
        made.Laterality = ""
        made.ConversionType = _WORKSTATION
        if (burned := _burned_in(result)) in ("YES", "NO"):  # otherwise nobody knows
            made.BurnedInAnnotation = burned
        made.DerivationDescription = _DERIVED
        made.SourceImageSequence = _sources(result)
        made.StudyDescription = origin.StudyDescription
        return finish(made, origin)


def picture(result: SeriesResult) -> Picture:
    """The highest slice, in its true proportions, and beside it with its map, under lines of text.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        FrameError: its pixels cannot be had any more.
    """
    highest, end = result.highest, result.end
    verdict = highest.verdict.upper() if highest.verdict == "anomalous" else highest.verdict
    revision = f", revision {end.revision}" if end.revision > 1 else ""
    lines = (
        f"{verdict}  score {highest.score:.4g}  threshold {highest.threshold:.4g}",
        f"NOT A DIAGNOSIS  highest of {len(result.slices)} slices{revision}",
        f"adae-edge {__version__}  {printable(result.model)}",
    )
    return pair(highest, lines, _tall(highest.frame))


def _tall(frame: Frame) -> float:
    """How many times as high as wide a frame's pixels are; 1 where nothing sound says so."""
    if frame.grid is not None:
        _, down, across = frame.grid.spacing
        return down / across
    if frame.instance is None:
        return 1.0
    parts = parts_of(frame.instance.dataset(), max(frame.instance.number - 1, 0))
    for name in _SIDES:
        try:
            down, across = map(float, attribute_of(parts, name))
            tall = down / across
        except (TypeError, ValueError, ZeroDivisionError):  # there is none, or not of two numbers
            continue
        if 1 / _TALLEST <= tall <= _TALLEST:
            return tall
    return 1.0


def _burned_in(result: SeriesResult) -> str:
    """Whether the slice that is shown has text in its pixels that tells the patient, if it says."""
    instance = result.highest.frame.instance
    return "" if instance is None else text_of(instance.dataset(), "BurnedInAnnotation").upper()


def _sources(result: SeriesResult) -> list[Dataset]:
    """The image that is shown; none where the slice was cut across several."""
    instance = result.highest.frame.instance
    if instance is None or not (is_uid(instance.sop_class) and is_uid(instance.sop_instance)):
        return []
    item = Dataset()
    item.ReferencedSOPClassUID = instance.sop_class
    item.ReferencedSOPInstanceUID = instance.sop_instance
    if instance.number:
        item.ReferencedFrameNumber = instance.number
    return [item]
