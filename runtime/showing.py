"""What is computed of frames beside their scores: the maps and boxes that some sink shows."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adae_edge.errors import FrameError
from adae_edge.placement import Placement, placement_of
from adae_edge.runtime.batching import batch_of
from adae_edge.runtime.boxes import boxes_of
from adae_edge.runtime.frame import Box, Frame
from adae_edge.runtime.scorer import Scorer
from adae_edge.runtime.sinks.sink import ALL, ANOMALOUS, BOXES, HIGHEST, MAP, PIXELS, Sink
from adae_edge.stopwatch import stage


class Outcome(NamedTuple):
    """A frame's score, what is shown of it, and what ``Scored`` says of its map."""

    score: float
    shown: frozenset[str] = frozenset()
    anomaly_map: NDArray[np.float32] | None = None
    boxes: tuple[Box, ...] | None = None
    placement: Placement | None = None
    map_threshold: float | None = None


class Showing:
    """Scores frames, and computes what some sink shows of them.

    A map costs a second output of the graph. Where it is shown of anomalous frames alone, or of the
    highest one of a series, these are run a second time with it, and keep the score of their first
    run. The highest one is known at the end, so it is each that is higher than those before it.

    Attributes:
        lacks_map: whether a sink shows maps, and the model has none.
    """

    def __init__(self, scorer: Scorer, threshold: float, sinks: Iterable[Sink] = ()) -> None:
        """
        Args:
            scorer: the model.
            threshold: the score above which a frame is anomalous.
            sinks: what results go to.
        """
        self._scorer, self._threshold = scorer, threshold
        wanted: dict[str, set[str]] = {ALL: set(), ANOMALOUS: set(), HIGHEST: set()}
        for sink in sinks:
            wanted[sink.shows].update(sink.wants)
        self.lacks_map = MAP in set().union(*wanted.values()) and scorer.form.anomaly_map is None
        useless = {MAP} if self.lacks_map else set()
        if not scorer.has_boxes:
            useless.add(BOXES)
        self._wanted = {shows: frozenset(wants - useless) for shows, wants in wanted.items()}
        self._highest: dict[str, float] = {}  # score so far of each series

    def score(self, frames: Sequence[Frame]) -> list[Outcome | FrameError]:
        """The score of each frame, and its map if that is shown.

        Where a batch fails, its frames are scored one by one, and those that fail get the reason.
        """
        if not frames:
            return []
        try:
            with stage("convert"):
                arrays = batch_of(frames, self._scorer.contract.channels).arrays()
            if not _needs_map(self._wanted[ALL]):
                return self._in_two_runs(frames, arrays)
            scores, maps = self._scorer.score_with_map(*arrays)
        except FrameError as error:
            if len(frames) == 1:
                return [error]
            return [outcome for frame in frames for outcome in self.score([frame])]
        values = scores.tolist()
        shown = map(self._shown, frames, values)
        return list(map(self._mapped, frames, values, shown, maps))

    def kept(self, frame: Frame, outcome: Outcome) -> Frame:
        """The frame, without pixels where no sink shows them, so that none are held in memory."""
        return frame if PIXELS in outcome.shown else frame.without_pixels()

    def forget(self, series: str) -> None:
        """Forget a series that has ended, so that a frame of it would be the first again."""
        self._highest.pop(series, None)

    def _shown(self, frame: Frame, score: float) -> frozenset[str]:
        """What some sink shows of a frame, which is then the last one of its series so far."""
        shown = self._wanted[ALL]
        if score > self._threshold and self._scorer.contract.covers(frame.acquisition):
            shown |= self._wanted[ANOMALOUS]
        if self._wanted[HIGHEST] and frame.instance is not None:
            series = frame.instance.series
            if self._highest.get(series, -math.inf) < score < math.inf:
                self._highest[series] = score
                shown |= self._wanted[HIGHEST]
        return shown

    def _in_two_runs(
        self, frames: Sequence[Frame], arrays: Sequence[NDArray[Any]]
    ) -> list[Outcome | FrameError]:
        """Score frames, and then those again with their maps of which these are shown."""
        scores = self._scorer.score(*arrays).tolist()
        shown = list(map(self._shown, frames, scores))
        outcomes: list[Outcome | FrameError] = list(map(Outcome, scores, shown))
        places = [place for place, wanted in enumerate(shown) if _needs_map(wanted)]
        if places:
            _, maps = self._scorer.score_with_map(*(array[places] for array in arrays))
            for place, anomaly_map in zip(places, maps, strict=True):
                outcomes[place] = self._mapped(
                    frames[place], scores[place], shown[place], anomaly_map
                )
        return outcomes

    def _mapped(
        self, frame: Frame, score: float, shown: frozenset[str], anomaly_map: NDArray[np.float32]
    ) -> Outcome:
        """What is said of a frame whose map is shown; boxes only where they are."""
        contract = self._scorer.contract
        place = placement_of(contract, *frame.size)
        if not contract.covers(frame.acquisition):  # no pixel has a verdict either
            return Outcome(score, shown, anomaly_map, None, place)
        boxes = boxes_of(anomaly_map, contract, *frame.size) if BOXES in shown else None
        return Outcome(score, shown, anomaly_map, boxes, place, contract.calibration.map_threshold)


def _needs_map(wanted: Collection[str]) -> bool:
    return MAP in wanted or BOXES in wanted
