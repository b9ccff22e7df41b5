"""Drift: whether a source's last frames are as those of the calibration's normals were.

The contract keeps the normals' scores at 101 levels, and of pictures how light they were. Against
each of these quantities stand its last 480 values, by two statistics: the largest distance of the
distribution functions at those levels (Kolmogorov and Smirnov), and the population stability index
of ten bins.
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

# By chance one of the limits of three quantities is passed in one of 100 streams of 100 000
# frames: they were chosen on uniform numbers, for 1000 and 5000 normals. A part for the window,
# which is drawn again and again, and one for the calibration's normals, which were drawn once.
KS_PARTS = 2.8, 2.25
PSI_PARTS = 49.0, 50.0
_BACK = 0.7  # part of the limits below which it is over
_CHANCE = 3 / math.sqrt(WINDOW)  # correlation of neighbours that independent frames may have

SCORES, GREYS, WHITES = "scores", "grey levels", "shares of white pixels"


class Reference:
    """Values of the calibration's normals, as the contract keeps them."""

    def __init__(self, quantiles: Sequence[float], normals: int) -> None:
        """
        Args:
            quantiles: the values at 101 levels, rising.
            normals: of how many normals they are.
        """
        # Of levels with one value the highest says how many normals do not exceed it.
        self.edges = sorted(set(quantiles))
        self.levels = (np.searchsorted(quantiles, self.edges, "right") - 1) / (len(quantiles) - 1)
        tenths = np.arange(1, 10) / 10
        self._inner = np.unique(np.searchsorted(self.levels, tenths - 1e-9))
        self.normals = normals
        self.median = float(quantiles[len(quantiles) // 2])

    def distances(self, counts: Sequence[int]) -> tuple[float, float]:
        """How far values are from the normals' ones: KS, 0 to 1, and PSI, from 0 on.

        Args:
            counts: how many values lie at or below each edge and above the one before, and then how
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
            alike: the correlation of neighbouring values; what is alike counts for less.
        """
        frames = WINDOW * (1 - alike) / (1 + alike) if alike > _CHANCE else WINDOW
        frames = max(frames, 1.0)
        ks = math.sqrt(KS_PARTS[0] ** 2 / frames + KS_PARTS[1] ** 2 / self.normals)
        return ks, PSI_PARTS[0] / frames + PSI_PARTS[1] / self.normals

    def _shares(self, reached: NDArray[np.float64], total: int) -> NDArray[np.float64]:
        """The share of each of the ten bins, half a value added, so that none is empty."""
        shares = np.diff(np.concatenate([[0.0], reached[self._inner], [1.0]]))
        return (shares * total + 0.5) / (total + 0.5 * len(shares))


@dataclass
class _Watched:
    """What is known of a quantity of a source.

    Attributes:
        reference: what the calibration's normals had.
        counts: of the last values, as for ``Reference.distances``.
        values: the last ones.
        left: how many frames it is until the next look.
        psi: at the last look.
        frames: how many frames the drift has lasted; 0 where there is none.
    """

    reference: Reference
    counts: list[int] = field(default_factory=list)
    values: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    left: int = WINDOW
    psi: float | None = None
    frames: int = 0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.reference.edges) + 1)

    def take(self, value: float) -> bool:
        """Take a value; whether it is time for a look."""
        edges = self.reference.edges
        if len(self.values) == WINDOW:
            self.counts[bisect_left(edges, self.values[0])] -= 1
        self.counts[bisect_left(edges, value)] += 1
        self.values.append(value)
        self.frames += self.frames > 0
        self.left -= 1
        return not self.left


class Drift(Watcher):
    """Tells where a source's frames drift from those of the calibration, and where no more.

    It looks at every 20th frame, from the 480th on. Light, lens, parts and their position may have
    changed: a threshold rests on the scores of the calibration. Each quantity drifts by itself.
    """

    def __init__(self, calibration: Calibration) -> None:
        """
        Args:
            calibration: the model's, with the scores of its normals.
        """
        self._begin(calibration)

    def watch(self, scored: Scored) -> tuple[Scored, Sequence[Event]]:
        """Take a result; an event of the kind "drift" where the drift of a quantity changes."""
        source = self._sources.get(scored.opened)
        if source is None:
            source = {name: _Watched(known) for name, known in self._references.items()}
            self._sources[scored.opened] = source
        events: list[Event] = []
        if scored.verdict != "uncalibrated":  # it is known to be distributed otherwise
            values = {SCORES: scored.score}
            if scored.light is not None:
                values |= zip((GREYS, WHITES), scored.light, strict=True)
            for name, watched in source.items():
                if name in values and watched.take(values[name]):
                    watched.left = LOOK
                    events += _look(name, watched, scored)
        of_light = [each.psi for name, each in source.items() if name != SCORES and each.psi]
        light_drift = max(of_light, default=None)
        return replace(scored, drift=source[SCORES].psi, light_drift=light_drift), events

    def recalibrate(self, calibration: Calibration) -> Sequence[Event]:
        """Compare with another calibration, and begin anew; a drift that was is over."""
        events = [
            Event(
                name,
                time.time(),
                "drift",
                f"the {quantity} of {name} are compared with the new calibration from here on",
                watched.frames,
                over=True,
                opened=name,
            )
            for name, source in self._sources.items()
            for quantity, watched in source.items()
            if watched.frames
        ]
        self._begin(calibration)
        return events

    def _begin(self, calibration: Calibration) -> None:
        known = {
            SCORES: calibration.quantiles,
            GREYS: calibration.greys,
            WHITES: calibration.whites,
        }
        self._references = {
            name: Reference(quantiles, calibration.normals)
            for name, quantiles in known.items()
            if quantiles is not None
        }
        self.wants_light = len(self._references) > 1
        self._sources: dict[str, dict[str, _Watched]] = {}


def _look(name: str, watched: _Watched, scored: Scored) -> list[Event]:
    """Compare the last values with the normals' ones; what is to be told."""
    ks, watched.psi = watched.reference.distances(watched.counts)
    values = np.array(watched.values)
    ks_limit, psi_limit = watched.reference.limits(_alike(values))
    most = max(ks / ks_limit, watched.psi / psi_limit)
    seen = f"KS {ks:.3f} (limit {ks_limit:.3f}), PSI {watched.psi:.3f} (limit {psi_limit:.3f})"
    if not watched.frames and most > 1:
        watched.frames = 1
        detail = (
            f"has drifted: the median of its last {WINDOW} {name} is {np.median(values):.4f}, and "
            f"was {watched.reference.median:.4f} at the calibration; {seen}"
        )
        return [_event(scored, detail, WINDOW)]
    if watched.frames and most < _BACK:
        lasted, watched.frames = watched.frames, 0
        what = "" if name == SCORES else f" of its {name}"
        detail = f"has no drift{what} any more: it lasted {lasted} frames; {seen}"
        return [_event(scored, detail, lasted, over=True)]
    return []


def _alike(values: NDArray[np.float64]) -> float:
    """The correlation of neighbours by their ranks, so that no outlier hides it; equals share one.

    Values that are all the same are as alike as can be.
    """
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts + len(values)) / 2)[place]
    spread = float(ranks @ ranks)
    return float(ranks[1:] @ ranks[:-1]) / spread if spread else 1.0


def _event(scored: Scored, what: str, frames: int, over: bool = False) -> Event:
    name, when = scored.name, scored.frame.time
    return Event(name, when, "drift", f"{name} {what}", frames, over, scored.opened)
