"""Contenders on the same frames in turns: all are loaded, and each has a block of every round."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adae_edge.benchmarks.bench import random_frames
from adae_edge.benchmarks.load import arrays_for
from adae_edge.benchmarks.paired import BLOCK_S, SETTLE_S, Ratio
from adae_edge.benchmarks.rivals.rival import Rival, RivalError, Worker

CHANNELS = 3
# Figures of a contender that have no rounds.
COSTS = ("cpu_s", "resident_mb")


@dataclass(frozen=True)
class Table:
    """What is measured at one time.

    Attributes:
        size: width and height of the frames, pixels.
        threads: of every contender.
        rounds: how many blocks each contender has.
    """

    size: tuple[int, int]
    threads: int
    rounds: int

    @property
    def name(self) -> str:
        """As "640x480, threads: 2"."""
        return "{}x{}, threads: {}".format(*self.size, self.threads)

    def measure(self, rivals: Sequence[Rival], told: Callable[[str], None]) -> dict[str, Any]:
        """Load all contenders, and time them in turns.

        Args:
            rivals: whose contenders.
            told: called with a line for each contender that is left out.

        Returns:
            JSON types: ``contenders`` by name, and ``left_out``, the reason of each that failed.
        """
        found: dict[str, dict[str, Any]] = {}
        left_out: dict[str, str] = {}
        workers: dict[str, Worker] = {}
        frames = random_frames(arrays_for(self.size, CHANNELS, 1), self.size, CHANNELS)

        def leave_out(contender: str, error: RivalError) -> None:
            left_out[contender] = str(error)
            workers.pop(contender).close()
            told(f"{contender} is left out: {error}")

        with contextlib.ExitStack() as running:
            for rival in rivals:
                for contender in rival.contenders:
                    log = f"{contender}-{self.name}".replace("/", "-")
                    worker = workers[contender] = running.enter_context(
                        rival.worker(log, self.threads)
                    )
                    try:
                        found[contender] = {
                            "rival": rival.name,
                            **self._loaded(rival, contender, worker),
                            **worker.ask("take", frames.data.cast("B"), shape=frames.shape),
                            "rounds": [],
                        }
                    except RivalError as error:
                        leave_out(contender, error)
            for turn in range(self.rounds):
                for contender in list(workers)[:: 1 if turn % 2 == 0 else -1]:
                    try:
                        block = workers[contender].ask("block", seconds=BLOCK_S, settle_s=SETTLE_S)
                        found[contender]["rounds"].append(block)
                    except RivalError as error:
                        leave_out(contender, error)
        kept = {name: row for name, row in found.items() if name not in left_out}
        return {
            "size": list(self.size),
            "threads": self.threads,
            "contenders": {name: _row(row) for name, row in kept.items()},
            "left_out": left_out,
        }

    def _loaded(self, rival: Rival, contender: str, worker: Worker) -> dict[str, Any]:
        """What loading a contender took."""
        return worker.ask(
            "load",
            contender=contender,
            folder=str(rival.files),
            threads=self.threads,
            size=self.size,
        )


def _row(found: dict[str, Any]) -> dict[str, Any]:
    """A contender's figures: minimum and median over rounds, and each round's median, in ms."""
    rounds = found.pop("rounds")
    medians = [round(block["median_ms"], 5) for block in rounds]
    return {
        **found,
        "min_ms": round(min(block["min_ms"] for block in rounds), 5),
        "median_ms": round(statistics.median(medians), 5),
        "rounds_ms": medians,
        "calls": sum(block["calls"] for block in rounds),
        "waited": statistics.median(block["waited"] for block in rounds),
    }


def costs(tables: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What each contender takes beside time: the medians over tables, in each a fresh process."""
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(name for table in tables for name in table["contenders"]):
        rows = [table["contenders"][name] for table in tables if name in table["contenders"]]
        found[name] = {"rival": rows[0]["rival"]}
        for figure in COSTS:
            found[name][figure] = round(statistics.median(row[figure] for row in rows), 3)
    return found


def ratio(of: dict[str, Any], to: dict[str, Any]) -> list[float]:
    """The median over rounds of the ratio within a round, and its quartiles."""
    within = np.array(of["rounds_ms"]) / np.array(to["rounds_ms"])
    return [round(float(value), 3) for value in np.percentile(within, [50, 25, 75])]


def against_goal(
    rows: dict[str, dict[str, Any]], asked: Ratio, fastest: dict[str, str], figure: str = "ms"
) -> dict[str, Any] | None:
    """What became of a ratio that is asked for; None where a contender is missing.

    Args:
        rows: contenders of a table, or their ``costs``.
        asked: names in it are those of contenders or of ``fastest``.
        fastest: names for the fastest of a rival's contenders: the name of the rival.
        figure: what the ratio is of: ms, or one of ``COSTS``.
    """
    names = []
    for name in (asked.of, asked.to):
        among = [each for each, row in rows.items() if row["rival"] == fastest.get(name)]
        names.append(min(among, key=lambda each: rows[each]["median_ms"], default=name))
    if not all(name in rows for name in names):
        return None
    of, to = (rows[name] for name in names)
    found = ratio(of, to) if figure == "ms" else [round(of[figure] / to[figure], 3)]
    return {
        "figure": figure,
        "of": names[0],
        "to": names[1],
        "ratio": found,
        "goal": asked.goal,
        "met": asked.met(found[0]),
    }
