"""What is computed of frames beside their scores: the maps and boxes that some sink shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adae_edge.errors import FrameError
from adae_edge.placement import Placement, placement_of
from adae_edge.runtime.batching import batch_of
from adae_edge.runtime.boxes import boxes_of
from adae_edge.runtime.frame import Box, Frame
from adae_edge.runtime.scorer import Scorer
from adae_edge.runtime.sinks.sink import ANOMALOUS, BOXES, MAP, PIXELS, Sink
from adae_edge.stopwatch import stage


class Outcome(NamedTuple):
    """A frame's score, and what ``Scored`` says of its map where that is shown."""

    score: float
    anomaly_map: NDArray[np.float32] | None = None
    boxes: tuple[Box, ...] | None = None
    placement: Placement | None = None
    map_threshold: float | None = None


class Showing:
    """Scores frames, and computes what some sink shows of them.

    A map costs a second output of the graph. Where it is shown of anomalous frames alone, these are
    run a second time with it, and keep the score of their first run.

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
        of_all: set[str] = set()
        of_anomalous: set[str] = set()
        for sink in sinks:
            (of_anomalous if sink.shows == ANOMALOUS else of_all).update(sink.wants)
        self.lacks_map = MAP in of_all | of_anomalous and scorer.form.anomaly_map is None
        useless = {MAP} if self.lacks_map else set()
        if not scorer.has_boxes:
            useless.add(BOXES)
        self._of_all = of_all - useless
        self._of_anomalous = (of_all | of_anomalous) - useless

    def score(self, frames: Sequence[Frame]) -> list[Outcome | FrameError]:
        """The score of each frame, and its map if that is shown.

        Where a batch fails, its frames are scored one by one, and those that fail get the reason.
        """
        if not frames:
            return []
        try:
            with stage("convert"):
                arrays = batch_of(frames, self._scorer.contract.channels).arrays()
            if not _needs_map(self._of_all):
                return self._in_two_runs(frames, arrays)
            scores, maps = self._scorer.score_with_map(*arrays)
        except FrameError as error:
            if len(frames) == 1:
                return [error]
            return [outcome for frame in frames for outcome in self.score([frame])]
        return list(map(self._mapped, frames, scores.tolist(), maps))

    def kept(self, frame: Frame, anomalous: bool) -> Frame:
        """The frame, without pixels where no sink shows them, so that none are held in memory."""
        return frame if PIXELS in self._shown(anomalous) else frame.without_pixels()

    def _shown(self, anomalous: bool) -> set[str]:
        return self._of_anomalous if anomalous else self._of_all

    def _in_two_runs(
        self, frames: Sequence[Frame], arrays: Sequence[NDArray[Any]]
    ) -> list[Outcome | FrameError]:
        """Score frames, and then those above the threshold again with their maps."""
        scores = self._scorer.score(*arrays).tolist()
        outcomes: list[Outcome | FrameError] = [Outcome(score) for score in scores]
        shown = [
            place
            for place, (frame, score) in enumerate(zip(frames, scores, strict=True))
            if score > self._threshold and self._scorer.contract.covers(frame.acquisition)
        ]
        if shown and _needs_map(self._of_anomalous):
            _, maps = self._scorer.score_with_map(*(array[shown] for array in arrays))
            for place, anomaly_map in zip(shown, maps, strict=True):
                outcomes[place] = self._mapped(frames[place], scores[place], anomaly_map)
        return outcomes

    def _mapped(self, frame: Frame, score: float, anomaly_map: NDArray[np.float32]) -> Outcome:
        """What is said of a frame whose map is shown; boxes only where they are."""
        contract = self._scorer.contract
        place = placement_of(contract, *frame.size)
        if not contract.covers(frame.acquisition):  # no pixel has a verdict either
            return Outcome(score, anomaly_map, None, place)
        boxes = None
        if BOXES in self._shown(score > self._threshold):
            boxes = boxes_of(anomaly_map, contract, *frame.size)
        return Outcome(score, anomaly_map, boxes, place, contract.calibration.map_threshold)


def _needs_map(wanted: set[str]) -> bool:
    return MAP in wanted or BOXES in wanted
