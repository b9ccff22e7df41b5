"""Contenders timed against each other: blocks of calls in turns, and ratios within a round."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Not measured: another contender's threads go on spinning for a while after its last call, and
# caches are cold.
SETTLE_S = 0.03
BLOCK_S = 0.1
MIN_CALLS = 3

# Scores one batch and returns its scores, float32 [N].
Call = Callable[[], NDArray[np.float32]]
Rounds = NDArray[np.float64]


@dataclass(frozen=True)
class Ratio:
    """The time of one contender over the time of another, and what it has to be.

    Attributes:
        of, to: names of contenders, or of several of which the fastest counts.
        at_least, at_most: the goal; neither for a ratio that is only recorded.
    """

    of: str
    to: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def goal(self) -> str | None:
        """The goal in words."""
        if self.at_least is not None:
            return f"at least {self.at_least:g}"
        return None if self.at_most is None else f"at most {self.at_most:g}"

    def met(self, ratio: float) -> bool | None:
        """Whether a ratio reaches the goal; None where there is none."""
        if self.at_least is not None:
            return ratio >= self.at_least
        return None if self.at_most is None else ratio <= self.at_most


@dataclass(frozen=True)
class Comparison:
    """Contenders that score the same frames, and the ratios that are asked for.

    Attributes:
        group: the group of comparisons that it belongs to.
        what: the frames and the network.
        contenders: what is timed, by name.
        ratios: names in them are those of ``contenders`` or of ``fastest``.
        fastest: names for the fastest of several contenders.
    """

    group: str
    what: str
    contenders: Mapping[str, Call]
    ratios: tuple[Ratio, ...]
    fastest: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def measure(self, rounds: int) -> dict[str, Any]:
        """Time everything and say what came of it, as JSON types."""
        times = in_turns(self.contenders, rounds)
        return {
            "group": self.group,
            "what": self.what,
            "contenders": {name: self._measured(name, ms) for name, ms in times.items()},
            "ratios": [self._ratio(ratio, times) for ratio in self.ratios],
        }

    def _measured(self, name: str, ms: Rounds) -> dict[str, Any]:
        """A contender's median, its first score, and its time in each round."""
        return {
            "ms": round(float(np.median(ms)), 4),
            "score": float(self.contenders[name]()[0]),
            "rounds_ms": [round(float(value), 4) for value in ms],
        }

    def _ratio(self, asked: Ratio, times: dict[str, Rounds]) -> dict[str, Any]:
        """The median over rounds of a ratio, and whether it reaches its goal."""
        of, to = self._timed(asked.of, times), self._timed(asked.to, times)
        ratio = float(np.median(times[of] / times[to]))
        return {
            "of": of,
            "to": to,
            "ratio": round(ratio, 3),
            "goal": asked.goal,
            "met": asked.met(ratio),
        }

    def _timed(self, name: str, times: dict[str, Rounds]) -> str:
        """The contender of this name, or the fastest of those that the name stands for."""
        names = self.fastest.get(name, (name,))
        return min(names, key=lambda contender: float(np.median(times[contender])))


def in_turns(contenders: Mapping[str, Call], rounds: int) -> dict[str, Rounds]:
    """The median time of a call in each round, ms; every second round goes backwards."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds):
        for name in list(contenders)[:: 1 if turn % 2 == 0 else -1]:
            times[name].append(_block_ms(contenders[name]))
    return {name: np.array(ms) for name, ms in times.items()}


def _block_ms(call: Call) -> float:
    """The median time of a call in one block of calls, ms."""
    until = time.perf_counter() + SETTLE_S
    call()
    while time.perf_counter() < until:
        call()
    took: list[float] = []
    until = time.perf_counter() + BLOCK_S
    while time.perf_counter() < until or len(took) < MIN_CALLS:
        started = time.perf_counter()
        call()
        took.append(time.perf_counter() - started)
    return float(np.median(took)) * 1e3
