"""A table on a terminal that follows a stream: rate, age and scores of each source."""

from __future__ import annotations

import io
import sys
import time
from collections import deque
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from adae_edge.errors import printable
from adae_edge.runtime.frame import Scored

_SCORES, _LAST_ANOMALOUS, _MOST_SOURCES = 30, 5, 10
_RATE_S = 5.0  # seconds over which the rate is taken
_REFRESH_S = 0.125
_BARS, _PLAIN_BARS = "▁▂▃▄▅▆▇█", "_.,-~=+#"


@dataclass
class _Row:
    """What is shown of a source.

    Attributes:
        frames: how many were scored.
        anomalous, uncalibrated: how many of these are.
        scores: the last ones, and whether each is anomalous.
        times: when frames were scored, and how many were by then.
        last: the newest result.
    """

    frames: int = 0
    anomalous: int = 0
    uncalibrated: int = 0
    scores: deque[tuple[float, bool]] = field(default_factory=lambda: deque(maxlen=_SCORES))
    times: deque[tuple[float, int]] = field(default_factory=deque)
    last: Scored | None = None

    def take(self, scored: Scored, now: float) -> None:
        """Count one result."""
        anomalous = scored.verdict == "anomalous"
        self.frames += 1
        self.anomalous += anomalous
        self.uncalibrated += scored.verdict == "uncalibrated"
        self.scores.append((scored.score, anomalous))
        self.last = scored
        if not self.times or now - self.times[-1][0] > _REFRESH_S:
            self.times.append((now, self.frames))

    def rate(self, now: float) -> float:
        """Frames a second of late."""
        while len(self.times) > 1 and now - self.times[0][0] > _RATE_S:
            self.times.popleft()
        since, before = self.times[0] if self.times else (now, 0)
        return (self.frames - before) / max(now - since, _REFRESH_S)


class _Above(io.TextIOBase):
    """A standard error output whose lines stand above the table."""

    encoding, errors = "utf-8", "backslashreplace"

    def __init__(self, console: Console) -> None:
        self._console, self._line = console, ""

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._console.print(Text(line))
        return len(text)


class LiveTable:
    """The table, drawn anew in its place a few times a second."""

    def __init__(self, console: Console) -> None:
        """
        Args:
            console: the terminal.
        """
        self._rows: dict[str, _Row] = {}
        self._anomalous: deque[str] = deque(maxlen=_LAST_ANOMALOUS)
        self._bars = _BARS if console.encoding.lower().startswith("utf") else _PLAIN_BARS
        self._drawn = 0.0
        self._console, self._errors = console, sys.stderr
        # The loop calls, and no thread of rich's.
        self._live = Live(
            console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )

    def start(self) -> None:
        """Begin to draw."""
        self._errors = sys.stderr
        if self._errors.isatty():
            sys.stderr = _Above(self._console)
        self._live.start()

    def take(self, scored: Scored, line: str, shown: bool) -> None:
        """Take in one result and what a line says of it, and draw if the table is shown."""
        now = time.monotonic()
        self._rows.setdefault(scored.name, _Row()).take(scored, now)
        if scored.verdict == "anomalous":
            self._anomalous.append(line)
        if shown and now - self._drawn > _REFRESH_S:
            self.draw()

    def draw(self) -> None:
        """Draw what is known now."""
        self._drawn = time.monotonic()
        self._live.update(self._shown(self._drawn), refresh=True)

    def stop(self) -> None:
        """Draw once more, and leave it there."""
        sys.stderr = self._errors
        self.draw()
        self._live.stop()

    def _shown(self, now: float) -> Group:
        table = Table(box=None, pad_edge=False)
        table.add_column("source", overflow="ellipsis", no_wrap=True)
        without = any(row.uncalibrated for row in self._rows.values())
        verdicts = ("anomalous", *(["uncalibrated"] if without else []))
        for heading in ("frames", *verdicts, "per second", "age ms", "score"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("scores", no_wrap=True)
        shown = list(self._rows.items())[-_MOST_SOURCES:]
        for name, row in shown:
            assert row.last is not None
            table.add_row(
                Text(printable(name)),
                str(row.frames),
                str(row.anomalous),
                *([str(row.uncalibrated)] if without else []),
                f"{row.rate(now):.1f}",
                f"{row.last.age * 1000:.0f}",
                f"{row.last.score:.4f}",
                self._sparkline(row),
            )
        parts: list[Table | Text] = [table]
        if len(self._rows) > len(shown):
            parts.append(Text(f"and {len(self._rows) - len(shown)} more sources"))
        if self._anomalous:
            parts.append(Text("last anomalous frames"))
            parts += [Text(line, no_wrap=True, overflow="ellipsis") for line in self._anomalous]
        return Group(*parts)

    def _sparkline(self, row: _Row) -> Text:
        """A bar for each of the last scores, from the lowest to the highest, anomalous ones red."""
        values = [score for score, _ in row.scores]
        low, span = min(values), max(values) - min(values)
        line = Text()
        for value, anomalous in row.scores:
            height = int((value - low) / span * (len(self._bars) - 1)) if span else 0
            line.append(self._bars[height], "bold red" if anomalous else "")
        return line
