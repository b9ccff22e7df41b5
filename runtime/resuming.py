"""What sinks hold already, so that a stream goes on where an earlier one ended."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable

from adae_edge.errors import UsageError
from adae_edge.runtime.frame import OF_FRAMES, Event, Scored
from adae_edge.runtime.sinks.sink import Kept, Sink

_NUMBER = re.compile("[0-9]{1,18}")


class Held:
    """Which frames and events a sink holds; consecutive numbers of a source take no memory."""

    def __init__(self, rows: Iterable[Kept] = ()) -> None:
        """
        Args:
            rows: what the sink holds.
        """
        # Of each source the numbers from runs[0] up to below runs[1], from runs[2] on, and so on.
        self._numbers: dict[str, list[int]] = defaultdict(list)
        self._names: set[tuple[str, str]] = set()
        self._events: set[tuple[str, str, str]] = set()
        self.made_by: set[tuple[str, float]] = set()
        for row in rows:
            if row.event:
                if row.event in OF_FRAMES:
                    self._events.add((row.event, _text(row.source), _text(row.detail)))
            else:
                self._add(_text(row.source), row.frame)
                self.made_by.add((row.model, row.threshold))

    def has(self, source: str, frame: int | str) -> bool:
        """Whether it holds the row of a frame."""
        source, number = _text(source), _number(frame)
        if isinstance(number, str):
            return (source, number) in self._names
        return source in self._numbers and bisect_right(self._numbers[source], number) % 2 == 1

    def has_event(self, event: Event) -> bool:
        """Whether it holds the row of an event that comes again with its frames."""
        return (event.kind, _text(event.source), _text(event.detail)) in self._events

    def _add(self, source: str, frame: int | str) -> None:
        number = _number(frame)
        if isinstance(number, str):
            self._names.add((source, number))
            return
        runs = self._numbers[source]
        place = bisect_right(runs, number)
        if place % 2:
            return
        joins_before = place > 0 and runs[place - 1] == number
        joins_after = place < len(runs) and runs[place] == number + 1
        if joins_before and joins_after:
            del runs[place - 1 : place + 1]
        elif joins_before:
            runs[place - 1] = number + 1
        elif joins_after:
            runs[place] = number
        else:
            runs[place:place] = [number, number + 1]


class Resuming:
    """Leaves out what sinks hold already: at the sources what all hold, at each sink its own."""

    def __init__(self, model: str, threshold: float) -> None:
        """
        Args:
            model: the short hash of the model that scores, as in ``Scorer.model``.
            threshold: the one in use.
        """
        self._made_by = model, float(threshold)
        self._held: list[Held] = []

    def rest(self, sink: Sink) -> Sink:
        """The sink, as one that takes what it does not hold yet.

        Raises:
            UsageError: it holds rows of another model or threshold.
            SinkError: its rows cannot be read.
        """
        rows = sink.kept()
        if rows is None:
            return sink
        held = Held(rows)
        for model, threshold in sorted(held.made_by - {self._made_by}):
            if model != self._made_by[0]:
                other = f"the model {model}" if model else "an unknown model"
                ours = f"this one is {self._made_by[0]}"
            else:
                other, ours = f"the threshold {threshold:g}", f"this one is {self._made_by[1]:g}"
            raise UsageError(
                f"{sink.name} holds rows of {other}, and {ours}: give another file to go on with"
            )
        self._held.append(held)
        return _Rest(sink, held)

    def done(self, source: str, frame: int | str) -> bool:
        """Whether every sink that can say so holds the row of a frame; for ``Wanted.done``."""
        return bool(self._held) and all(held.has(source, frame) for held in self._held)


class _Rest(Sink):
    """A sink that gets what it does not hold yet."""

    def __init__(self, sink: Sink, held: Held) -> None:
        self._sink, self._held = sink, held
        self.wants, self.shows, self.name = sink.wants, sink.shows, sink.name

    def write(self, scored: Scored) -> None:
        if not self._held.has(scored.frame.source, scored.frame.id):
            self._sink.write(scored)

    def event(self, event: Event) -> None:
        if not self._held.has_event(event):
            self._sink.event(event)

    def flush(self) -> None:
        self._sink.flush()

    def close(self) -> None:
        self._sink.close()


def _number(frame: int | str) -> int | str:
    """A frame's number, also where a file holds it as text."""
    return int(frame) if isinstance(frame, str) and _NUMBER.fullmatch(frame) else frame


def _text(name: str) -> str:
    """A name as every sink can hold it: a file's name need not be UTF-8."""
    return name.encode(errors="backslashreplace").decode()
