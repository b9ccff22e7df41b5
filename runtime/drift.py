"""Drift: whether a source's last scores are distributed as those of the calibration's normals.

The contract keeps the normals' scores at 101 levels. Against them stand the last 480 scores, by two
statistics: the largest distance of the distribution functions at those levels (Kolmogorov and
Smirnov), and the population stability index of ten bins.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from adae_edge.contract import Calibration
from adae_edge.runtime.frame import Event, Scored
from adae_edge.runtime.watcher import Watcher

# A change has to be told within 500 frames, and the more frames are compared, the smaller a change
# is seen: as many as are there by then.
WINDOW = 480
LOOK = 20  # frames between two looks

# By chance a limit is passed in one of 100 streams of 100 000 frames, with 100 normals or more:
# benchmarks/drift.py draws them. A part for the window, which is drawn again and again, and one for
# the calibration's normals, which were drawn once.
KS_PARTS = 2.5, 2.25
PSI_PARTS = 42.0, 50.0
_BACK = 0.7  # part of the limits below which it is over
_CHANCE = 3 / math.sqrt(WINDOW)  # correlation of neighbours that independent frames may have


class Reference:
    """The scores of the calibration's normals, as the contract keeps them."""

    def __init__(self, calibration: Calibration) -> None:
        """
        Args:
            calibration: has the scores at 101 levels, and of how many normals they are.
        """
        quantiles = np.array(calibration.quantiles)
        # Of levels with one score the highest says how many normals do not exceed it.
        self.edges = sorted(set(calibration.quantiles))
        self.levels = (np.searchsorted(quantiles, self.edges, "right") - 1) / (len(quantiles) - 1)
        tenths = np.arange(1, 10) / 10
        self._inner = np.unique(np.searchsorted(self.levels, tenths - 1e-9))
        self.normals = calibration.normals
        self.median = float(quantiles[len(quantiles) // 2])

    def distances(self, counts: Sequence[int]) -> tuple[float, float]:
        """How far scores are from the normals' ones: KS, 0 to 1, and PSI, from 0 on.

        Args:
            counts: how many scores lie at or below each edge and above the one before, and then how
                many above the last one.
        """
        total = sum(counts)
        reached = np.cumsum(counts)[:-1] / total
        ks = float(np.abs(reached - self.levels).max())
        now, then = self._shares(reached, total), self._shares(self.levels, self.normals)
        return ks, float(((now - then) * np.log(now / then)).sum())

    def limits(self, alike: float) -> tuple[float, float]:
        """What KS and PSI do not exceed by chance.

        Args:
            alike: the correlation of neighbouring scores; what is alike counts for less.
        """
        frames = WINDOW * (1 - alike) / (1 + alike) if alike > _CHANCE else WINDOW
        frames = max(frames, 1.0)
        ks = math.sqrt(KS_PARTS[0] ** 2 / frames + KS_PARTS[1] ** 2 / self.normals)
        return ks, PSI_PARTS[0] / frames + PSI_PARTS[1] / self.normals

    def _shares(self, reached: NDArray[np.float64], total: int) -> NDArray[np.float64]:
        """The share of each of the ten bins, half a score added, so that none is empty."""
        shares = np.diff(np.concatenate([[0.0], reached[self._inner], [1.0]]))
        return (shares * total + 0.5) / (total + 0.5 * len(shares))


@dataclass
class _Watched:
    """What is known of a source.

    Attributes:
        counts: of the last scores, as for ``Reference.distances``.
        scores: the last ones.
        left: how many frames it is until the next look.
        psi: at the last look.
        frames: how many frames the drift has lasted; 0 where there is none.
    """

    counts: list[int]
    scores: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    left: int = WINDOW
    psi: float | None = None
    frames: int = 0


class Drift(Watcher):
    """Tells where the scores of a source drift from those of the calibration, and where no more.

    It looks at every 20th frame, from the 480th on. Light, lens, parts and their position may have
    changed: a threshold rests on the scores of the calibration.
    """

    def __init__(self, calibration: Calibration) -> None:
        """
        Args:
            calibration: the model's, with the scores of its normals.
        """
        self._reference = Reference(calibration)
        self._sources: dict[str, _Watched] = {}

    def watch(self, scored: Scored) -> tuple[Scored, Sequence[Event]]:
        """Take a score; an event of the kind "drift" where the drift of its source changes."""
        edges = self._reference.edges
        source = self._sources.get(scored.opened)
        if source is None:
            source = self._sources[scored.opened] = _Watched([0] * (len(edges) + 1))
        if scored.verdict == "uncalibrated":  # it is known to be distributed otherwise
            return replace(scored, drift=source.psi), []
        if len(source.scores) == WINDOW:
            source.counts[bisect_left(edges, source.scores[0])] -= 1
        source.counts[bisect_left(edges, scored.score)] += 1
        source.scores.append(scored.score)
        source.frames += source.frames > 0
        source.left -= 1
        events = []
        if not source.left:
            source.left = LOOK
            events = self._look(source, scored)
        return replace(scored, drift=source.psi), events

    def recalibrate(self, calibration: Calibration) -> Sequence[Event]:
        """Compare with another calibration, and begin anew; a drift that was is over."""
        events = [
            Event(
                name,
                time.time(),
                "drift",
                f"{name} is compared with the new calibration from here on",
                source.frames,
                over=True,
                opened=name,
            )
            for name, source in self._sources.items()
            if source.frames
        ]
        self._sources.clear()
        self._reference = Reference(calibration)
        return events

    def _look(self, source: _Watched, scored: Scored) -> list[Event]:
        """Compare the last scores with the normals' ones; what is to be told."""
        ks, source.psi = self._reference.distances(source.counts)
        ks_limit, psi_limit = self._reference.limits(_alike(np.array(source.scores)))
        most = max(ks / ks_limit, source.psi / psi_limit)
        seen = f"KS {ks:.3f} (limit {ks_limit:.3f}), PSI {source.psi:.3f} (limit {psi_limit:.3f})"
        if not source.frames and most > 1:
            source.frames = 1
            detail = (
                f"has drifted: the median of its last {WINDOW} scores is "
                f"{np.median(source.scores):.4f}, and was {self._reference.median:.4f} at the "
                f"calibration; {seen}"
            )
            return [_event(scored, detail, WINDOW)]
        if source.frames and most < _BACK:
            lasted, source.frames = source.frames, 0
            detail = f"has no drift any more: it lasted {lasted} frames; {seen}"
            return [_event(scored, detail, lasted, over=True)]
        return []


def _alike(scores: NDArray[np.float64]) -> float:
    """The correlation of neighbouring scores by their ranks, so that no outlier hides it."""
    ranks = np.empty(len(scores))
    ranks[np.argsort(scores, kind="stable")] = np.arange(len(scores)) - (len(scores) - 1) / 2
    return float(ranks[1:] @ ranks[:-1] / (ranks @ ranks))


def _event(scored: Scored, what: str, frames: int, over: bool = False) -> Event:
    name, when = scored.name, scored.frame.time
    return Event(name, when, "drift", f"{name} {what}", frames, over, scored.opened)
