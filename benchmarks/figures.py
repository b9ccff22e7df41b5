"""What the times of a run come to: percentiles, parts, intervals, and conditions on them."""

from __future__ import annotations

import math
import operator
import re
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adae_edge.errors import UsageError

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p999": 99.9}
PARTS = 10
_LEAST_ABOVE = 10  # calls above a percentile, with fewer of which it is no figure
_BINS_PER_DECADE = 50  # of the histogram: each is 4.7 % wider than the one before
_MOMENTS = 200  # of the run, whose medians and maxima are kept
_DRAWS = 4000
_CONDITION = re.compile(
    r"\s*([a-z][a-z0-9_]*)\s*(<=|>=|<|>)\s*(\d{1,15}(?:\.\d{1,15})?)\s*", re.ASCII
)
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Interval(NamedTuple):
    """A ratio and the bounds between which it lies with 95 % confidence."""

    ratio: float
    low: float
    high: float

    @property
    def shows_difference(self) -> bool:
        """Whether 1 lies outside of it."""
        return not self.low <= 1 <= self.high


@dataclass(frozen=True)
class Condition:
    """A comparison of a figure with a number, such as "p99_ms > 20".

    Attributes:
        text: as it was given.
        name: of the figure.
        sign: one of <, <=, > and >=.
        value: the number.
    """

    text: str
    name: str
    sign: str
    value: float

    @staticmethod
    def parse(text: str, names: Iterable[str]) -> Condition:
        """Read a condition on one of the figures with these names.

        Raises:
            UsageError: it is something else, or about another figure.
        """
        match = _CONDITION.fullmatch(text)
        if match is None:
            raise UsageError(
                f"a condition is a figure, one of < <= > >=, and a number, as p99_ms > 20, and "
                f"{text} is something else"
            )
        if match[1] not in (known := list(names)):
            raise UsageError(f"there is no figure {match[1]}: there are {', '.join(known)}")
        return Condition(text.strip(), match[1], match[2], float(match[3]))

    def holds(self, figures: Mapping[str, Any]) -> bool | None:
        """Whether it holds of these figures; None where the figure is not known."""
        value = figures.get(self.name)
        return None if value is None else _OPERATORS[self.sign](value, self.value)


def summary(times_s: array[float]) -> dict[str, Any]:
    """The figures of a run, of all its times in seconds, in the order in which they came.

    Returns:
        JSON types: the number of ``runs``, percentiles in ms under names such as ``p99_ms``, None
        where too few calls took longer to know it, and the parts, the histogram and the course of
        the run.

    Raises:
        ValueError: there are no times.
    """
    ms = np.array(times_s, np.float64) * 1e3
    if not len(ms):
        raise ValueError("there are no times")
    parts = np.array_split(ms, min(PARTS, len(ms)))
    mean, median = float(ms.mean()), float(np.median(ms))
    percentiles = {f"{name}_ms": percentile(ms, percent) for name, percent in PERCENTILES.items()}
    return {
        "runs": len(ms),
        "min_ms": _rounded(ms.min()),
        **percentiles,
        "max_ms": _rounded(ms.max()),
        "mean_ms": _rounded(mean),
        "mean_over_p50": round(mean / median, 3) if median else None,
        "parts_p50_ms": [_rounded(np.median(part)) for part in parts],
        "parts_mean_ms": [_rounded(part.mean()) for part in parts],
        "histogram": _histogram(ms),
        "course": _course(ms),
    }


def percentile(ms: NDArray[np.float64], percent: float) -> float | None:
    """A percentile of times; None where fewer than ten are above its rank."""
    if len(ms) < least_calls(percent):
        return None
    return _rounded(np.percentile(ms, percent))


def least_calls(percent: float) -> int:
    """How many calls it takes until ten of them are above a percentile."""
    return math.ceil(round(_LEAST_ABOVE / (1 - percent / 100), 6))


def spread(parts: Sequence[float]) -> float:
    """By how much the medians of a run's parts differ, relative to their median."""
    middle = float(np.median(parts))
    return (max(parts) - min(parts)) / middle if middle else 0.0


def ratio(new: Sequence[float], old: Sequence[float]) -> Interval:
    """The ratio of two runs' times, with an interval by a bootstrap over their parts.

    Single calls are not independent of each other, so whole parts are drawn. What differs from one
    start of the process to the next, no part can show.

    Args:
        new, old: a positive time of each part.
    """
    random = np.random.default_rng(0)
    logs = [np.log(np.asarray(parts, np.float64)) for parts in (new, old)]
    drawn = [log[random.integers(0, len(log), (_DRAWS, len(log)))].mean(axis=1) for log in logs]
    low, high = np.percentile(drawn[0] - drawn[1], [2.5, 97.5])
    middle = logs[0].mean() - logs[1].mean()
    return Interval(*(round(math.exp(value), 4) for value in (middle, low, high)))


def edges_ms(histogram: Mapping[str, Any]) -> list[float]:
    """The bounds of a histogram's bins in ms, one more than there are bins."""
    first, counts = histogram["first"], histogram["counts"]
    return [10 ** ((first + place) / _BINS_PER_DECADE) for place in range(len(counts) + 1)]


def _histogram(ms: NDArray[np.float64]) -> dict[str, Any]:
    """How many times lie in each bin; ``first`` is its place counted from 1 ms."""
    tiny = 1e-6  # a clock that stands still
    places = np.floor(np.log10(np.maximum(ms, tiny)) * _BINS_PER_DECADE).astype(int)
    first = int(places.min())
    return {"first": first, "counts": np.bincount(places - first).tolist()}


def _course(ms: NDArray[np.float64]) -> dict[str, list[float]]:
    """The median and the longest time of each moment of the run, in order."""
    moments = np.array_split(ms, min(_MOMENTS, len(ms)))
    return {
        "p50_ms": [_rounded(np.median(moment)) for moment in moments],
        "max_ms": [_rounded(moment.max()) for moment in moments],
    }


def _rounded(value: Any) -> float:
    return round(float(value), 5)
