"""Things timed against each other: blocks of calls in alternation, and ratios within a round."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Not measured: another thing's threads go on spinning for a while after its last call, and caches
# are cold.
SETTLE_S = 0.03
BLOCK_S = 0.1
MIN_CALLS = 3

# Scores one batch and returns its scores, float32 [N].
Call = Callable[[], NDArray[np.float32]]
Rounds = NDArray[np.float64]


@dataclass(frozen=True)
class Ratio:
    """The time of one thing over the time of another, and what it has to be.

    Attributes:
        of, to: names of things, or of several of which the fastest counts.
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
class Question:
    """Things that score the same frames, and the ratios that are asked for.

    Attributes:
        name: of the group of questions that it belongs to.
        what: the frames and the network.
        things: what is timed, by name.
        ratios: names in them are those of ``things`` or of ``fastest``.
        fastest: names for the fastest of several things.
    """

    name: str
    what: str
    things: Mapping[str, Call]
    ratios: tuple[Ratio, ...]
    fastest: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def answer(self, rounds: int) -> dict[str, Any]:
        """Time everything and say what came of it, as JSON types."""
        times = in_turns(self.things, rounds)
        ratios = []
        for asked in self.ratios:
            of, to = self._timed(asked.of, times), self._timed(asked.to, times)
            ratio = float(np.median(times[of] / times[to]))
            row = {
                "of": of,
                "to": to,
                "ratio": round(ratio, 3),
                "goal": asked.goal,
                "met": asked.met(ratio),
            }
            ratios.append(row)
        things = {
            name: {
                "ms": round(float(np.median(ms)), 4),
                "score": float(self.things[name]()[0]),
                "rounds_ms": [round(float(value), 4) for value in ms],
            }
            for name, ms in times.items()
        }
        return {"name": self.name, "what": self.what, "things": things, "ratios": ratios}

    def _timed(self, name: str, times: dict[str, Rounds]) -> str:
        return min(self.fastest.get(name, (name,)), key=lambda one: float(np.median(times[one])))


def in_turns(things: Mapping[str, Call], rounds: int) -> dict[str, Rounds]:
    """The median time of a call of each thing, ms, in each round; every second round goes backwards."""
    times: dict[str, list[float]] = {name: [] for name in things}
    for turn in range(rounds):
        for name in list(things)[:: 1 if turn % 2 == 0 else -1]:
            times[name].append(_block_ms(things[name]))
    return {name: np.array(ms) for name, ms in times.items()}


def _block_ms(call: Call) -> float:
    until = time.perf_counter() + SETTLE_S
    call()
    while time.perf_counter() < until:
        call()
    took: list[float] = []
    until = time.perf_counter() + BLOCK_S
    while time.perf_counter() < until or len(took) < MIN_CALLS:
        begun = time.perf_counter()
        call()
        took.append(time.perf_counter() - begun)
    return float(np.median(took)) * 1e3
