"""What is known of a DICOM series whose frames are all scored, from which its results are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from adae_edge.contract import Contract
from adae_edge.runtime.frame import Scored, SeriesEnd


class Written(NamedTuple):
    """The instance UIDs of a report that was made: of its study, its series and itself."""

    study: str
    series: str
    sop_instance: str


@dataclass(frozen=True)
class SeriesResult:
    """The scores of one series, and what they rest on.

    Attributes:
        slices: every scored frame, one or more, each with its ``frame.instance``. Their pixels and
            maps are not looked at.
        highest: the one with the highest score, with its pixels, and with its map where the model
            has one.
        end: how the series ended.
        contract: the model's.
        model: the model's name for people, such as its file's.
        replaces: the report of the revision before, which this one replaces; None where there is
            none, or it is not known.
    """

    slices: tuple[Scored, ...]
    highest: Scored
    end: SeriesEnd
    contract: Contract
    model: str
    replaces: Written | None = None

    @property
    def calibrated(self) -> bool:
        """Whether the threshold holds for how every slice was acquired."""
        return all(scored.calibrated for scored in self.slices)

    @property
    def keeps_promise(self) -> bool:
        """Whether the threshold is the model's own, and so has its target rate."""
        return self.calibrated and self.highest.threshold == self.contract.calibration.threshold
