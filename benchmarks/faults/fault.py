"""The table of faults: a function for each, by its number."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from adae_edge.benchmarks.faults.lab import Lab, Seen


class Fault(NamedTuple):
    """A fault.

    Attributes:
        number: in the table, with a letter where there are several.
        done: what is done, in words.
        do: does it.
        fast: whether it takes seconds and no privilege, so that it is a test, too.
    """

    number: str
    done: str
    do: Callable[[Lab], Seen]
    fast: bool


FAULTS: dict[str, Fault] = {}


def fault(
    number: str, done: str, fast: bool = False
) -> Callable[[Callable[[Lab], Seen]], Callable[[Lab], Seen]]:
    """Put a function into the table."""

    def enter(do: Callable[[Lab], Seen]) -> Callable[[Lab], Seen]:
        FAULTS[number] = Fault(number, done, do, fast)
        return do

    return enter
