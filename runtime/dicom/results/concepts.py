"""The concepts of results: those of the standard, and our own in the coding scheme 99ADAE.

docs/dicom-results.md lists our own. A code keeps its meaning for ever: another meaning is another
code.
"""

from __future__ import annotations

from adae_edge.contract import SCORES
from adae_edge.extras import needs

with needs("Results as DICOM objects", "pacs"):
    from highdicom.coding_schemes import CodingSchemeIdentificationItem
    from highdicom.sr import CodedConcept

SCHEME = "99ADAE"


def _own(value: str, meaning: str) -> CodedConcept:
    return CodedConcept(value, SCHEME, meaning)


# what a report is about
TITLE = CodedConcept("126000", "DCM", "Imaging Measurement Report")
SOURCE = CodedConcept("260753009", "SCT", "Source")
OTHER = CodedConcept("OT", "DCM", "Other")
PROCEDURE = _own("procedure", "Unsupervised anomaly detection")
SERIES = _own("series", "Anomaly assessment of a series")
SLICE = _own("slice", "Anomaly assessment of a slice")

# what is measured
SCORE = _own("score", "Anomaly score")
HIGHEST = _own("highest", "Highest anomaly score of the series")
THRESHOLD = _own("threshold", "Threshold of the anomaly score")
TARGET_RATE = _own("target-rate", "Target rate of normal slices above the threshold")
ANOMALOUS = _own("anomalous-slices", "Number of anomalous slices")
SCORED = _own("scored-slices", "Number of scored slices")
SLICES = _own("all-slices", "Number of slices of the series")
REVISION = _own("revision", "Revision of the result of the series")
MAP = _own("map", "Value of the anomaly map")

# what a score is, by its name in the contract
METHODS = {name: _own(f"score-{name}", f"Anomaly score by the method {name}") for name in SCORES}

# what is judged, and how
VERDICT = _own("verdict", "Verdict")
VERDICTS = {
    "normal": _own("normal", "Not above the threshold"),
    "anomalous": _own("anomalous", "Above the threshold"),
    "uncalibrated": _own("uncalibrated", "No verdict: the threshold does not hold here"),
}
CALIBRATED = _own("calibrated", "Threshold holds for this acquisition")
YES = CodedConcept("373066001", "SCT", "Yes")
NO = CodedConcept("373067005", "SCT", "No")
OBJECT = _own("object", "Rule by which voxels are looked at")
OBJECTS = {
    "": _own("object-all", "The whole picture"),
    "nonzero": _own("object-nonzero", "Voxels that are not background"),
    "mask": _own("object-mask", "Voxels of a brain mask"),
    "head": _own("object-head", "Voxels of the head"),
}
COMPLETE = _own("complete", "By what the series is known to be complete")
COMPLETED = {
    "files": _own("by-files", "By the files that were given"),
    "archive": _own("by-archive", "By the count of the archive"),
    "enhanced": _own("by-enhanced", "By an instance that holds all of it"),
    "commitment": _own("by-commitment", "By a storage commitment request"),
    "declared": _own("by-declared", "By the count that the scanner declared"),
    "quiet": _own("by-quiet", "By a time in which nothing came"),
}
STATUS = _own("status", "Status of this result")
NO_DIAGNOSIS = _own("no-diagnosis", "Not a diagnosis")

# units
ONE = CodedConcept("1", "UCUM", "no units")
COUNTED = CodedConcept("{slices}", "UCUM", "slices")

OWN = (
    *(PROCEDURE, SERIES, SLICE, SCORE, HIGHEST, THRESHOLD, TARGET_RATE, ANOMALOUS, SCORED),
    *(SLICES, REVISION, MAP, *METHODS.values(), VERDICT, *VERDICTS.values(), CALIBRATED, OBJECT),
    *(*OBJECTS.values(), COMPLETE, *COMPLETED.values(), STATUS, NO_DIAGNOSIS),
)


def scheme() -> CodingSchemeIdentificationItem:
    """The item that declares our scheme in an object that uses it."""
    return CodingSchemeIdentificationItem(
        SCHEME, name="adae-edge's own concepts", responsible_organization="adae-edge"
    )
