"""What every sink of results is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Protocol


@dataclass(frozen=True)
class Result:
    """What is kept of a scored frame.

    Attributes:
        source: the file's path, or camera:N.
        frame: number of the frame in its source, or its DICOM SOP instance UID.
        time: when the frame was captured or decoded, ISO 8601, UTC.
        score: the model's, one of ``contract.SCORES``.
        threshold: the score above which a frame is anomalous.
        verdict: "normal" or "anomalous".
    """

    source: str
    frame: int | str
    time: str
    score: float
    threshold: float
    verdict: str


class Sink(Protocol):
    """Keeps results."""

    def write(self, result: Result) -> None:
        """Keep one result; raises SinkError where that fails."""
        ...

    def close(self) -> None:
        """Finish; what was written is on the disk afterwards."""
        ...


def timestamp(seconds: float) -> str:
    """Seconds since 1970 -> ISO 8601 in UTC with milliseconds."""
    return (
        datetime.fromtimestamp(seconds, timezone.utc)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )
