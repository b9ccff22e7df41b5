"""UIDs of results, which follow from what was scored and how: the same input gives the same ones.

Scores are not part of it, for their last digits depend on the machine.
"""

from __future__ import annotations

import hashlib
import hmac
import json

from adae_edge import __version__
from adae_edge.runtime.dicom.results.result import SeriesResult, Written


def series_uid(result: SeriesResult, kind: str, secret: bytes | None) -> str:
    """The UID of the series that holds all results of a kind of one series by one model.

    Args:
        result: of that series.
        kind: of object, such as "report".
        secret: the site's, without which nobody finds the UID from the input; None for none.
    """
    return _uid(secret, "series", kind, *_model(result), *_series(result))


def instance_uid(result: SeriesResult, kind: str, secret: bytes | None) -> str:
    """The UID of one object: another frame, threshold or revision makes another object."""
    slices = sorted(
        (scored.frame.instance.sop_instance, scored.frame.instance.number, str(scored.frame.id))
        for scored in result.slices
        if scored.frame.instance is not None
    )
    rests = [result.highest.threshold, result.contract.calibration.target_fpr]
    replaces = result.replaces or ()
    told = [
        *_series(result),
        *_model(result),
        rests,
        result.calibrated,
        list(result.end),
        slices,
        replaces,
    ]
    return _uid(secret, "instance", kind, told)


def tracking_uid(result: SeriesResult, what: str, secret: bytes | None) -> str:
    """The UID of what is measured, the same in every revision: the series, or a slice of it."""
    return _uid(secret, "tracking", *_series(result), what)


def device_uid(result: SeriesResult, secret: bytes | None) -> str:
    """The UID of the device observer: this version with this model."""
    return _uid(secret, "device", *_model(result))


def written_of(report: object) -> Written:
    """What identifies a report, for the revision that replaces it.

    Args:
        report: a pydicom Dataset, as ``report`` returns it.
    """
    names = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    return Written(*(str(getattr(report, name)) for name in names))


def _series(result: SeriesResult) -> list[str]:
    instance = result.highest.frame.instance
    return ["" if instance is None else instance.study, result.end.uid]


def _model(result: SeriesResult) -> list[str]:
    contract = result.contract
    return [__version__, result.model, contract.version, contract.weights_sha256, contract.score]


def _uid(secret: bytes | None, *told: object) -> str:
    """A UID below 2.25 (PS3.5 B.2): a UUID of version 8, of a hash of all that is told."""
    text = json.dumps(["adae-edge", *told]).encode()
    digest = hashlib.sha256(text) if secret is None else hmac.new(secret, text, "sha256")
    number = int.from_bytes(digest.digest()[:16], "big")
    number = number & ~(0xF << 76) | 8 << 76  # version
    number = number & ~(0x3 << 62) | 2 << 62  # variant
    return f"2.25.{number}"
