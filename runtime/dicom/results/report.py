"""A structured report of the scores of a series: Comprehensive 3D SR by the template TID 1500.

It follows IHE's profile AI Results (AIR): a device observed, the algorithm is identified, what is
measured is tracked, and refers to its images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from adae_edge import __version__
from adae_edge.extras import needs
from adae_edge.runtime.dicom.results import concepts
from adae_edge.runtime.dicom.results.identity import (
    device_uid,
    instance_uid,
    series_uid,
    tracking_uid,
)
from adae_edge.runtime.dicom.results.origin import (
    UTF_8,
    finish,
    first_of,
    is_uid,
    origin_of,
    quiet,
)
from adae_edge.runtime.dicom.results.result import SeriesResult, Written
from adae_edge.runtime.frame import Instance, Scored

with needs("Results as DICOM objects", "pacs"):
    from highdicom.sr import (
        AlgorithmIdentification,
        CodeContentItem,
        CodedConcept,
        Comprehensive3DSR,
        ContainerContentItem,
        ContentItem,
        ContentSequence,
        DeviceObserverIdentifyingAttributes,
        ImageContentItem,
        LanguageOfContentItemAndDescendants,
        Measurement,
        MeasurementReport,
        MeasurementsAndQualitativeEvaluations,
        ObservationContext,
        ObserverContext,
        QualitativeEvaluation,
        RelationshipTypeValues,
        SourceImageForMeasurementGroup,
        TrackingIdentifier,
        UIDRefContentItem,
    )
    from pydicom.dataset import Dataset
    from pydicom.sr.codedict import codes
    from pydicom.uid import Comprehensive3DSRStorage

MOST_SLICES = 50  # with a group of their own: highdicom takes 8 s for 384
SERIES_NUMBER = 9901
_DIGITS = 6  # of scores, whose further ones depend on the machine
_CONTAINS = RelationshipTypeValues.CONTAINS
_ACQUIRED = RelationshipTypeValues.HAS_ACQ_CONTEXT


def report(result: SeriesResult, secret: bytes | None = None) -> Dataset:
    """Make the report of a series: completed, and verified by nobody.

    Args:
        result: what is known of the series.
        secret: the site's, with which UIDs are keyed; None for none.

    Returns:
        A data set with its file meta information, in explicit VR little endian.

    Raises:
        FrameError: it cannot be made of what the headers say.
    """
    with quiet("a report"):
        # what it is about
        origin = origin_of(first_of(result))
        groups = [_of_series(result, secret)]
        groups += [_of_slice(result, number, secret) for number in _told(result)]

        # what it says
        content = MeasurementReport(
            _observed(result, secret),
            concepts.PROCEDURE,
            groups,
            concepts.TITLE,
            LanguageOfContentItemAndDescendants(CodedConcept("en", "RFC5646", "English")),
        )
        library = _library(origin, [image for group in groups for image in group.source_images])
        content[0].ContentSequence.insert(len(content[0].ContentSequence) - 1, library)

        # the object
        made = Comprehensive3DSR(
            [origin, *_evidence(result)],
            content[0],
            series_uid(result, "report", secret),
            SERIES_NUMBER,
            instance_uid(result, "report", secret),
            result.end.revision,
            manufacturer="adae-edge",
            manufacturer_model_name="adae-edge",
            software_versions=__version__,
            device_serial_number=result.contract.weights_sha256[:16],
            series_description="adae-edge anomaly scores, not a diagnosis",
            is_complete=True,
            is_final=True,
            previous_versions=None if result.replaces is None else [_predecessor(result.replaces)],
            coding_schemes=[concepts.scheme()],
            specific_character_set=UTF_8,
        )
        return finish(made, origin)


def rounded(value: float) -> float:
    """A score as results tell it."""
    return float(f"{value:.{_DIGITS}g}")


def _told(result: SeriesResult) -> list[int]:
    """The numbers of the slices with a group of their own: the highest that are anomalous."""
    scores = {n: each.score for n, each in enumerate(result.slices) if each.verdict == "anomalous"}
    return sorted(scores, key=lambda number: -scores[number])[:MOST_SLICES]


def _observed(result: SeriesResult, secret: bytes | None) -> ObservationContext:
    """Who observed: this program with its model, as a device."""
    device = DeviceObserverIdentifyingAttributes(
        device_uid(result, secret),
        name="adae-edge",
        manufacturer_name="adae-edge",
        model_name="adae-edge",
        serial_number=result.contract.weights_sha256[:16],
    )
    return ObservationContext(ObserverContext(codes.DCM.Device, device))


def _algorithm(result: SeriesResult) -> AlgorithmIdentification:
    """Which model scored, with which weights."""
    contract = result.contract
    return AlgorithmIdentification(
        f"adae-edge {result.model}",
        contract.version,
        [f"weights SHA-256 {contract.weights_sha256}", f"score {contract.score}"],
    )


def _of_series(result: SeriesResult, secret: bytes | None) -> MeasurementsAndQualitativeEvaluations:
    """The group of the whole series."""
    method = concepts.METHODS[result.contract.score]
    anomalous = sum(scored.verdict == "anomalous" for scored in result.slices)
    measured = [
        _measured(concepts.HIGHEST, result.highest.score, method=method),
        _measured(concepts.THRESHOLD, result.highest.threshold, method=method),
    ]
    if result.keeps_promise:
        target = result.contract.calibration.target_fpr
        measured.append(_measured(concepts.TARGET_RATE, target))
    if result.calibrated:
        measured.append(_measured(concepts.ANOMALOUS, anomalous, concepts.COUNTED))
    measured += [
        _measured(concepts.SCORED, len(result.slices), concepts.COUNTED),
        _measured(concepts.SLICES, result.end.slices, concepts.COUNTED),
        _measured(concepts.REVISION, result.end.revision),
    ]
    return MeasurementsAndQualitativeEvaluations(
        TrackingIdentifier(tracking_uid(result, "series", secret), "series"),
        finding_type=concepts.SERIES,
        algorithm_id=_algorithm(result),
        measurements=measured,
        qualitative_evaluations=[
            _judged(concepts.STATUS, concepts.NO_DIAGNOSIS),
            _judged(concepts.VERDICT, concepts.VERDICTS[result.highest.verdict]),
            _judged(concepts.CALIBRATED, concepts.YES if result.calibrated else concepts.NO),
            _judged(concepts.OBJECT, concepts.OBJECTS[result.end.object]),
            _judged(concepts.COMPLETE, concepts.COMPLETED[result.end.complete]),
        ],
        source_images=_images(result.highest),
    )


def _of_slice(
    result: SeriesResult, number: int, secret: bytes | None
) -> MeasurementsAndQualitativeEvaluations:
    """The group of one anomalous slice, by its number among those that were scored."""
    scored = result.slices[number]
    tracked = f"{_instance(scored).sop_instance} {scored.frame.id}"
    return MeasurementsAndQualitativeEvaluations(
        TrackingIdentifier(tracking_uid(result, tracked, secret), f"scored slice {number + 1}"),
        finding_type=concepts.SLICE,
        algorithm_id=_algorithm(result),
        measurements=[
            _measured(concepts.SCORE, scored.score, method=concepts.METHODS[result.contract.score])
        ],
        qualitative_evaluations=[
            _judged(concepts.STATUS, concepts.NO_DIAGNOSIS),
            _judged(concepts.VERDICT, concepts.VERDICTS[scored.verdict]),
        ],
        source_images=_images(scored),
    )


def _measured(
    name: CodedConcept,
    value: float,
    unit: CodedConcept = concepts.ONE,
    method: CodedConcept | None = None,
) -> Measurement:
    if not isinstance(value, int):
        return Measurement(name, rounded(value), unit, method=method)
    counted = Measurement(name, value, unit, method=method)
    counted[0].MeasuredValueSequence[0].NumericValue = str(value)  # highdicom writes 44.0
    return counted


def _judged(name: CodedConcept, value: CodedConcept) -> QualitativeEvaluation:
    return QualitativeEvaluation(name, value)


def _instance(scored: Scored) -> Instance:
    assert scored.frame.instance is not None  # first_of has looked
    return scored.frame.instance


def _images(scored: Scored) -> list[SourceImageForMeasurementGroup] | None:
    """The image that a slice is; None where it was cut across several."""
    instance = _instance(scored)
    if not is_uid(instance.sop_instance) or not is_uid(instance.sop_class):
        return None
    numbers = [instance.number] if instance.number else None
    return [
        SourceImageForMeasurementGroup(instance.sop_class, instance.sop_instance, numbers),
    ]


def _library(origin: Dataset, referred: Sequence[ImageContentItem]) -> ContainerContentItem:
    """The library of the images that groups refer to, which are of one series (TID 1600)."""
    described: list[ContentItem] = [
        CodeContentItem(codes.DCM.Modality, _modality(origin.Modality), _ACQUIRED)
    ]
    if "FrameOfReferenceUID" in origin:
        reference = origin.FrameOfReferenceUID
        described.append(UIDRefContentItem(codes.DCM.FrameOfReferenceUID, reference, _ACQUIRED))
    classes = {
        image.referenced_sop_instance_uid: image.referenced_sop_class_uid for image in referred
    }
    classes = classes or {origin.SOPInstanceUID: origin.SOPClassUID}
    images = [
        ImageContentItem(concepts.SOURCE, sop_class, uid, relationship_type=_CONTAINS)
        for uid, sop_class in classes.items()
    ]
    group = ContainerContentItem(codes.DCM.ImageLibraryGroup, relationship_type=_CONTAINS)
    group.ContentSequence = ContentSequence([*described, *images])
    library = ContainerContentItem(codes.DCM.ImageLibrary, relationship_type=_CONTAINS)
    library.ContentSequence = ContentSequence([group])
    return library


def _modality(value: str) -> CodedConcept:
    """The code of a modality (CID 29), or that of another one."""
    known = [getattr(codes.cid29, name) for name in codes.cid29.dir()]
    return next((code for code in known if code.value == value), concepts.OTHER)


def _evidence(result: SeriesResult) -> Iterator[Dataset]:
    """Every instance that was scored."""
    for scored in result.slices:
        instance = _instance(scored)
        if is_uid(instance.sop_instance) and is_uid(instance.sop_class):
            item = Dataset()
            item.StudyInstanceUID, item.SeriesInstanceUID = instance.study, instance.series
            item.SOPClassUID, item.SOPInstanceUID = instance.sop_class, instance.sop_instance
            yield item


def _predecessor(written: Written) -> Dataset:
    """What identifies the report that is replaced."""
    item = Dataset()
    item.SOPClassUID = Comprehensive3DSRStorage
    item.StudyInstanceUID, item.SeriesInstanceUID, item.SOPInstanceUID = written
    return item
