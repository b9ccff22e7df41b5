"""The result of ``adae-edge bench`` as one HTML file with inline SVG, that needs no network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import accumulate
from typing import Any, NamedTuple

from adae_edge.benchmarks.figures import edges_ms
from adae_edge.benchmarks.markdown import (
    COLUMNS,
    COMPARISON,
    began,
    cell,
    comparison_cells,
    comparison_head,
    cut_short,
    name_of,
    powered,
    sentences,
)

_WIDTH, _HEIGHT = 420, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 26, 36
_COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#9498a0")
_STYLE = """
:root { color-scheme: light dark; --text: #1b1e23; --page: #fff; --about: #59616b; --rule: #dfe2e6;
  --chart: #fafbfc; --frame: #e6e8eb; --label: #4a5058; --axis: #8a919b;
  --wrong: #fdf1f2; --quiet: #f0f8f2 }
@media (prefers-color-scheme: dark) {
  :root { --text: #e4e7eb; --page: #16181c; --about: #a3abb6; --rule: #343a42;
    --chart: #1d2026; --frame: #30353d; --label: #b4bbc5; --axis: #6f7782;
    --wrong: #3a1f24; --quiet: #1c3024 }
}
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1340px; padding: 0 1em;
  color: var(--text); background: var(--page) }
h1 { font-size: 1.5em; margin-bottom: 0.2em } h2 { font-size: 1.15em; margin: 1.8em 0 0.4em }
h1, h2, p, code { overflow-wrap: anywhere }
table { display: block; overflow-x: auto; white-space: nowrap; border-collapse: collapse;
  font-variant-numeric: tabular-nums; margin: 0.8em 0 }
th, td { padding: 0.2em 0.7em; text-align: right; border-bottom: 1px solid var(--rule) }
th:first-child, td:first-child { text-align: left }
.charts { display: flex; flex-wrap: wrap; gap: 12px }
svg { max-width: 100%; height: auto; background: var(--chart);
  border: 1px solid var(--frame); border-radius: 4px }
svg text { font-size: 11px; fill: var(--label) } svg .title { font-size: 12px; font-weight: 600 }
.grid { stroke: var(--frame) } .axis { stroke: var(--axis) }
.wrong { border-left: 4px solid #d1495b; background: var(--wrong); padding: 0.4em 0.8em }
.quiet { border-left: 4px solid #3ca951; background: var(--quiet); padding: 0.4em 0.8em }
.about { color: var(--about) }
"""


class Scale(NamedTuple):
    """From values to pixels, on a linear or a logarithmic axis.

    Attributes:
        low, high: the values at both ends.
        start, end: their places, pixels.
        logarithmic: values are above 0 then.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """The place of a value, pixels."""
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(max(value, 1e-9))
        return self.start + (value - low) / ((high - low) or 1) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values between the ends, about five."""
        if self.logarithmic:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            steps = (1, 2, 5) if last - first < 4 else (1,)
            values = [step * 10.0**power for power in range(first, last + 1) for step in steps]
        else:
            rough = (self.high - self.low) / 5 or 1
            unit = 10 ** math.floor(math.log10(rough))
            step = next(unit * times for times in (1, 2, 5, 10) if unit * times >= rough * 0.99)
            count = math.floor(self.high / step + 1e-9)
            values = [step * number for number in range(math.ceil(self.low / step), count + 1)]
        return [value for value in values if self.low <= value <= self.high]


def as_html(result: Mapping[str, Any]) -> str:
    """The result as a page: what was measured where, the figures, what is wrong, and charts."""
    model, host = result["model"]["file"], result["machine"]
    rows = result["measurements"]
    about = (
        f"{host['cpu']}, {result['threads']} threads; {result['backend']}; "
        f"adae-edge {result['versions']['adae_edge']}, {host['system']}"
    )
    parts = [
        f"<h1>{escape(model)}</h1>",
        f'<p class="about">{escape(about)}<br>{escape(began(result))}<br>',
        *(f"{escape(sentence)}<br>" for sentence in powered(result)),
        f"<code>{escape(result['command'])}</code></p>",
        _figures(rows),
        *(f'<p class="wrong">{escape(sentence)}</p>' for sentence in cut_short(result)),
        *_verdicts(rows),
        *_comparison(result.get("compared")),
    ]
    for row in rows:
        parts.append(f"<h2>{escape(name_of(row))}</h2>")
        parts += [f"<p>{escape(sentence)}</p>" for sentence in sentences(row)]
        charts = "\n".join(_charts(row))
        parts.append(f'<div class="charts">\n{charts}\n</div>')
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{escape(model)}: bench</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _figures(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table of all measurements."""
    cells = [[name_of(row), *(cell(name, row[name]) for name in COLUMNS)] for row in rows]
    return _table(["", *COLUMNS.values()], cells)


def _table(heads: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """A table of texts."""
    lines = ["".join(f"<th>{escape(text)}</th>" for text in heads)]
    lines += ["".join(f"<td>{escape(text)}</td>" for text in texts) for texts in cells]
    return "<table>\n" + "\n".join(f"<tr>{line}</tr>" for line in lines) + "\n</table>"


def _verdicts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is wrong with the runs, or that nothing is."""
    told = [
        f'<p class="wrong"><b>{escape(verdict["name"])}</b> {escape(name_of(row))}: '
        f"{escape(verdict['because'])}; {escape(verdict['do'])}</p>"
        for row in rows
        for verdict in row["verdicts"]
    ]
    return told or ['<p class="quiet">nothing disturbed these runs, as far as the system tells</p>']


def _comparison(comparison: Mapping[str, Any] | None) -> list[str]:
    """The ratios to an older result."""
    if comparison is None:
        return []
    head = f"<p>{escape(comparison_head(comparison))}</p>"
    return [head, _table(COMPARISON, comparison_cells(comparison))]


def _charts(row: Mapping[str, Any]) -> list[str]:
    """Every chart of one measurement."""
    charts = [_cdf(row["histogram"]), _histogram(row["histogram"]), _course(row["course"])]
    if "stages_ms" in row:
        charts.append(_stages(row["stages_ms"]))
    if "queue" in row:
        places = list(range(1, len(row["queue"]) + 1))
        charts.append(_lines("calls in the queue over the run", places, [row["queue"]], "part"))
    if tried := sorted(
        (each["frames_per_s"], each["ms"]) for each in row.get("tried", []) if each["ms"]
    ):
        rates, latencies = zip(*tried, strict=True)
        charts.append(_lines("latency, ms, against the rate", rates, [latencies], "frames/s due"))
    return charts


def _cdf(histogram: Mapping[str, Any]) -> str:
    """Which share of the calls took at most so long, on a logarithmic axis."""
    edges, counts = edges_ms(histogram), histogram["counts"]
    x, y = _across(edges[0], edges[-1], logarithmic=True), _up(0, 1)
    shares = [0.0, *(total / sum(counts) for total in accumulate(counts))]
    line = _polyline(x, y, edges, shares, _COLOURS[0])
    return _chart("share of the calls that took at most so long", x, y, [line], "ms")


def _histogram(histogram: Mapping[str, Any]) -> str:
    """How many calls took so long."""
    edges, counts = edges_ms(histogram), histogram["counts"]
    x, y = _across(edges[0], edges[-1], logarithmic=True), _up(0, max(counts))
    bars = [
        _box(x(low), y(count), x(high), y(0), _COLOURS[0])
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
        if count
    ]
    return _chart("calls by the time that they took", x, y, bars, "ms")


def _course(course: Mapping[str, Sequence[float]]) -> str:
    """Medians and longest times over the run."""
    places = list(range(1, len(course["p50_ms"]) + 1))
    title = "ms over the run: medians blue, longest yellow"
    return _lines(title, places, [course["p50_ms"], course["max_ms"]], "part of the run")


def _stages(stages: Mapping[str, float]) -> str:
    """A frame's mean time as one bar, of a piece for each stage."""
    whole = sum(stages.values())
    x = _across(0, whole)
    drawn, place = [], 0.0
    for number, (name, value) in enumerate(stages.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        drawn.append(_box(x(place), 50, x(place + max(0.0, value)), 90, colour))
        top = 112 + number * 14
        drawn.append(_box(_LEFT, top - 9, _LEFT + 10, top + 1, colour))
        text = f"{name} {value:.3f} ms, {value / (whole or 1):.0%}"
        drawn.append(f'<text x="{_LEFT + 16}" y="{top}">{escape(text)}</text>')
        place += max(0.0, value)
    title = f'<text class="title" x="{_LEFT}" y="17">where a frame\'s {whole:.3f} ms go</text>'
    return _svg([title, *drawn])


def _lines(title: str, xs: Sequence[float], series: Sequence[Sequence[float]], unit: str) -> str:
    """One line for each series, over a linear axis."""
    x = _across(xs[0], xs[-1])
    y = _up(0, max(map(max, series)))
    drawn = [
        _polyline(x, y, xs, values, _COLOURS[number])
        for number, values in reversed(list(enumerate(series)))
    ]
    return _chart(title, x, y, drawn, unit)


def _across(low: float, high: float, logarithmic: bool = False) -> Scale:
    return Scale(low, high, _LEFT, _WIDTH - _RIGHT, logarithmic)


def _up(low: float, high: float) -> Scale:
    return Scale(low, high or 1, _HEIGHT - _BOTTOM, _TOP)


def _chart(title: str, x: Scale, y: Scale, drawn: Sequence[str], unit: str) -> str:
    """A drawing with its title, axes and their values."""
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    lines = [f'<text class="title" x="{_LEFT}" y="17">{escape(title)}</text>']
    for value in y.ticks():
        at = y(value)
        lines.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>')
        lines.append(f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in x.ticks():
        at = x(value)
        lines.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{bottom}"/>')
        lines.append(f'<text x="{at:.1f}" y="{bottom + 14}" text-anchor="middle">{value:g}</text>')
    lines.append(
        f'<text x="{right}" y="{bottom + 29}" text-anchor="end">{escape(unit)}</text>'
        f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>'
    )
    return _svg([*lines, *drawn])


def _svg(drawn: Sequence[str]) -> str:
    inside = "\n".join(drawn)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}">{inside}</svg>'
    )


def _polyline(x: Scale, y: Scale, xs: Sequence[float], ys: Sequence[float], colour: str) -> str:
    points = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in zip(xs, ys, strict=True))
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'


def _box(left: float, top: float, right: float, bottom: float, colour: str) -> str:
    size = f'width="{max(0.0, right - left):.1f}" height="{max(0.0, bottom - top):.1f}"'
    return f'<rect x="{left:.1f}" y="{top:.1f}" {size} fill="{colour}"/>'
