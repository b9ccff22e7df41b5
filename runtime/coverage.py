"""For which frames a model's threshold holds, and what is told of the others."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from adae_edge.acquisition import Acquisition, listed
from adae_edge.contract import Contract
from adae_edge.decoding.rules import SHRUNK, is_covered
from adae_edge.light import Light, light_of
from adae_edge.runtime.frame import Event, Frame
from adae_edge.runtime.watcher import Watcher


class Coverage:
    """Tells which frames of a stream the model was calibrated for, once of each kind."""

    def __init__(self, contract: Contract) -> None:
        """
        Args:
            contract: the model's.
        """
        self._contract = contract
        self._shrunk = SHRUNK in (contract.decoding or "")
        self._told: set[str | Acquisition] = set()

    def wants(self, frame: Frame) -> str:
        """What ``Scored.wants`` is for a frame."""
        if not self._contract.covers(frame.acquisition):
            return "calibrate"
        return "" if is_covered(frame.decoding, self._contract.decoding) else "calibrate"

    def light(self, frame: Frame, watchers: Sequence[Watcher]) -> Light | None:
        """How light a picture is, for watchers; None where none of them wants to know.

        None also where those that calibrated were measured otherwise: a shrunk frame is not
        measured at the places of a whole one.
        """
        if not any(watcher.wants_light for watcher in watchers):
            return None
        if frame.pixels.dtype != np.uint8 or (frame.full is not None) != self._shrunk:
            return None
        return light_of(frame.pixels, self._contract.region)

    def note(self, frame: Frame, opened: str) -> list[Event]:
        """The note on the first frame of each kind for which the threshold was not chosen."""
        what: str | Acquisition | None = frame.acquisition
        if not self._contract.covers(frame.acquisition):
            assert frame.acquisition is not None
            detail = f"{frame.source} {self._why_not(frame.acquisition)}"
        elif self.wants(frame):
            what = frame.decoding
            detail = (
                f"{frame.source}: frames are decoded by the rule {what}, under which this model "
                "was not calibrated: its threshold may be off until adae-edge calibrate"
            )
        else:
            return []
        if what is None or what in self._told:
            return []
        self._told.add(what)
        return [Event(frame.source, time.time(), "note", detail, opened=opened)]

    def _why_not(self, acquisition: Acquisition) -> str:
        """Why the frames of an acquisition get no verdict, behind the source's name."""
        if unknown := acquisition.unknown:
            return (
                f"does not say its {listed(unknown)}, so no calibration holds for it: its slices "
                "get scores and no verdict"
            )
        known = self._contract.acquisitions
        differing = min((one.differences(acquisition) for one in known), key=len, default=[])
        differs = f", which differs in {listed(differing)}" if differing else ""
        return (
            f"comes from where this model was not calibrated ({acquisition}){differs}: its slices "
            "get scores and no verdict until adae-edge calibrate with series from there"
        )
