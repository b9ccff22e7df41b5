"""The result of ``adae-edge bench`` in Markdown, as the terminal shows it, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Columns of the table: a figure's name, and what stands above it.
COLUMNS = {
    "min_ms": "min",
    "p50_ms": "p50",
    "p90_ms": "p90",
    "p95_ms": "p95",
    "p99_ms": "p99",
    "p999_ms": "p99.9",
    "max_ms": "max",
    "mean_over_p50": "mean/p50",
    "frames_per_s": "frames/s",
    "peak_memory_mb": "MB",
}
_AGES = ("p50", "p99", "max")
_WHOLE = frozenset({"frames_per_s", "peak_memory_mb"})


def as_markdown(result: Mapping[str, Any]) -> str:
    """The result as a Markdown table under a description of the machine."""
    host, rows = result["machine"], result["measurements"]
    lines = [
        f"{result['model']['file']} on {host['cpu']}, {result['threads']} threads; "
        f"{result['backend']}; adae-edge {result['versions']['adae_edge']}, "
        f"Python {host['python']}, {host['system']}",
        "",
        f"load {result['load_ms']} ms, first inference {result['first_inference_ms']} ms"
        f"{_built(result)}; times in ms, MB of memory at the peak",
        "",
        *_table(rows),
    ]
    for row in rows:
        lines += _of_rate(row) + _stages(row) + _energy(row)
    if result["no_energy"]:
        lines += ["", f"no energy: {'; '.join(result['no_energy'])}"]
    told = [
        f"- **{verdict['name']}** {name_of(row)}: {verdict['because']}; {verdict['do']}"
        for row in rows
        for verdict in row["verdicts"]
    ]
    if "compared" in result:
        lines += comparison_lines(result["compared"])
    return "\n".join(lines + ([""] if told else []) + told)


def _built(result: Mapping[str, Any]) -> str:
    """How long the engine took to build, if it is one that tells it."""
    seconds = result.get("build_s")
    return f", engine built in {seconds:g} s" if seconds is not None else ""


def comparison_lines(comparison: Mapping[str, Any]) -> list[str]:
    """A comparison in lines of Markdown."""
    differs = comparison["machines_differ_in"]
    machine = f", on another machine: {', '.join(differs)} differ" if differs else ""
    cells = [
        [
            row["of"] if row["of"] == row["to"] else f"{row['of']} to {row['to']}",
            f"{row['p50']['ratio']:.3f}",
            f"{row['p50']['low']:.3f} to {row['p50']['high']:.3f}",
            row["says"],
        ]
        for row in comparison["ratios"]
    ]
    head = f"p50 over that of {comparison['with']}{machine}"
    if not cells:
        return ["", f"{head}: nothing in it was measured now"]
    return ["", f"{head}:", "", *table(["frame", "ratio", "95 % interval", "says"], cells)]


def name_of(row: Mapping[str, Any]) -> str:
    """What a measurement is of, as "640x480 in batches of 4"."""
    name = f"{row['width']}x{row['height']}"
    if row["batch"] > 1:
        name += f" in batches of {row['batch']}"
    if "threads" in row.get("swept", ()):
        name += f", threads: {row['threads']}"
    if row.get("streams", 1) > 1:
        name += f", {row['streams']} " + ("processes" if row["processes"] > 1 else "streams")
    return name


def _of_rate(row: Mapping[str, Any]) -> list[str]:
    """What a rate gave, in lines."""
    lines = []
    if "tried" in row:
        held = row["held"]
        found = "no rate holds it" if held is None else f"{held:g} frames/s hold it"
        lines += ["", f"looking for the highest rate for {name_of(row)}: {found}", ""]
        cells = [[f"{each['frames_per_s']:g}", cell("ms", each["ms"])] for each in row["tried"]]
        lines += table(["frames/s due", "latency"], cells) if cells else []
    if "queue_max" in row:
        ages = ""
        if "age_p50_ms" in row:
            p50, p99, longest = (cell("ms", row[f"age_{name}_ms"]) for name in _AGES)
            ages = f"; age when the score is known: p50 {p50}, p99 {p99}, max {longest} ms"
        queue = f"{row['queue_max']} in the queue at most"
        lines += ["", f"{row['rate']:g} frames/s due: {queue}{ages}"]
    return lines


def _energy(row: Mapping[str, Any]) -> list[str]:
    """What each meter told, in lines."""
    lines = [
        f"- {name_of(row)}: {told['joules_per_frame'] * 1e3:.3f} mJ a frame beyond idling by "
        f"{told['meter']}: {told['watts']:g} W, idle {told['idle_watts']:g} W"
        for told in row.get("energy", ())
    ]
    return ["", *lines] if lines else []


def _stages(row: Mapping[str, Any]) -> list[str]:
    """Where a frame's time goes, at the mean."""
    if "stages_ms" not in row:
        return []
    whole = sum(row["stages_ms"].values())
    cells = [
        [name, f"{value:.3f}", f"{value / whole:.1%}"] for name, value in row["stages_ms"].items()
    ]
    cells.append(["whole", f"{whole:.3f}", "100.0%"])
    return ["", *table(["stage", "mean ms", "share"], cells)]


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The lines of a Markdown table of measurements."""
    heads = ["frame", "batch", "threads", "streams", *COLUMNS.values()]
    cells = [
        [f"{row['width']}x{row['height']}", *(str(row[name]) for name in heads[1:4])]
        + [cell(name, row[name]) for name in COLUMNS]
        for row in rows
    ]
    return table(heads, cells)


def table(heads: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table whose first column is text and whose others are numbers."""
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    lines = []
    for texts in [heads, *cells]:
        first, *others = zip(texts, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]
        lines.append(f"| {' | '.join(padded)} |")
    rule = "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])])
    return [lines[0], f"|{rule}|", *lines[1:]]


def cell(name: str, value: float | None) -> str:
    """A figure as it is printed."""
    if value is None:
        return "too few"
    return f"{value:.0f}" if name in _WHOLE else f"{value:.3f}"
