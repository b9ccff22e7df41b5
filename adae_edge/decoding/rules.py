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
SHRUNK = "shrunk 2"  # beside another one, where a frame was shrunk while it was decoded

# Contracts without rules are of the time when these were in force.
_FIRST = frozenset({"pictures 1", "tiff 1", "dicom 1", "video 1", "volumes 1"})


def rules_of(kind: str, shrunk: bool = False) -> str:
    """What the contract of a model keeps that takes frames of a kind, "image" or "modality".

    Args:
        kind: of the frames.
        shrunk: whether some that calibrated it were shrunk while they were decoded.
    """
    if kind == "modality":
        return VOLUMES
    return ", ".join((PICTURES, TIFF, DICOM, VIDEO, *([SHRUNK] if shrunk else ())))


def rule_of(rule: str, shrunk: bool) -> str:
    """What a frame is decoded by: one of the rules, and that it was shrunk."""
    return f"{rule}, {SHRUNK}" if shrunk else rule


def is_covered(rule: str, kept: str | None) -> bool:
    """Whether a threshold was chosen under a rule.

    Whether frames were shrunk makes no difference: their scores agree to 0.2 % with those of whole
    ones, which ``benchmarks/shrunk.py`` measures.

    Args:
        rule: by which a frame was decoded; "" for one that was no file.
        kept: the contract's rules, or None where it keeps none.
    """
    plain = rule.removesuffix(f", {SHRUNK}")
    return not plain or plain in (_FIRST if kept is None else kept.split(", "))
