"""The rules by which files become frames, each by a name and a version.

A version counts up where the same sound file becomes another frame than before, for thresholds of
models that were calibrated on such frames no longer hold. A contract keeps the rules in force when
its threshold was chosen.
"""

from __future__ import annotations

PICTURES = "pictures 1"
TIFF = "tiff 2"  # 1 lacked inversion and orientation of some files
DICOM = "dicom 2"
VIDEO = "video 2"
VOLUMES = "volumes 2"

# Contracts without rules are of the time when these were in force.
_FIRST = frozenset({"pictures 1", "tiff 1", "dicom 1", "video 1", "volumes 1"})


def rules_of(kind: str) -> str:
    """What the contract of a model keeps that takes frames of a kind, "image" or "modality"."""
    return VOLUMES if kind == "modality" else ", ".join((PICTURES, TIFF, DICOM, VIDEO))


def is_covered(rule: str, kept: str | None) -> bool:
    """Whether a threshold was chosen under a rule.

    Args:
        rule: by which a frame was decoded; "" for one that was no file.
        kept: the contract's rules, or None where it keeps none.
    """
    return not rule or rule in (_FIRST if kept is None else kept.split(", "))
