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
# Heads of the table of a comparison.
COMPARISON = ("frame", "ratio", "95 % interval", "says")
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
        f"{began(result)}; times in ms, MB of memory at the peak",
        *(line for sentence in powered(result) for line in ("", sentence)),
        "",
        *_table(rows),
    ]
    for row in rows:
        lines += [line for sentence in sentences(row) for line in ("", sentence)]
        lines += _tried(row) + _stages(row)
    if result["no_energy"]:
        lines += ["", f"no energy: {'; '.join(result['no_energy'])}"]
    told = [
        f"- **{verdict['name']}** {name_of(row)}: {verdict['because']}; {verdict['do']}"
        for row in rows
        for verdict in row["verdicts"]
    ]
    told += [f"- **cut short**: {sentence}" for sentence in cut_short(result)]
    if "compared" in result:
        cells = comparison_cells(result["compared"])
        lines += ["", comparison_head(result["compared"]), "", *table(COMPARISON, cells)]
    return "\n".join(lines + ([""] if told else []) + told)


def began(result: Mapping[str, Any]) -> str:
    """How long it took until a first frame had its score."""
    text = f"load {result['load_ms']} ms, first inference {result['first_inference_ms']} ms"
    seconds = result.get("build_s")
    return text if seconds is None else f"{text}, engine built in {seconds:g} s"


def powered(result: Mapping[str, Any]) -> list[str]:
    """The power mode of a Jetson, and the state of the GPUs before the run, in sentences."""
    host, told = result["machine"], []
    if host.get("power_mode"):
        fixed = {True: "fixed", False: "not fixed"}.get(host.get("clocks_fixed"), "unknown")
        told.append(f"power mode {host['power_mode']}, clocks {fixed}")
    for gpu in result.get("gpus", ()):
        words = [gpu["name"]]
        words += [f"driver {gpu['driver']}"] if gpu["driver"] else []
        words += [f"{gpu['clock_mhz']} MHz"] if gpu["clock_mhz"] else []
        words[-1] += f" of {gpu['most_clock_mhz']}" if gpu["most_clock_mhz"] else ""
        words += [f"at most {gpu['power_limit_w']:g} W"] if gpu["power_limit_w"] else []
        words += [f"{gpu['temperature_c']} degrees"] if gpu["temperature_c"] else []
        told.append(", ".join(words + [f"held back by {why}" for why in gpu["held_by"]]))
    return told


def cut_short(result: Mapping[str, Any]) -> list[str]:
    """Why less was measured than asked for, in sentences."""
    stopped = ["a signal stopped it"] if result.get("stopped") else []
    return stopped + ([result["ended_early"]] if result.get("ended_early") else [])


def comparison_head(comparison: Mapping[str, Any]) -> str:
    """What stands above a comparison."""
    differs = comparison["machines_differ_in"]
    machine = f", on another machine: {', '.join(differs)} differ" if differs else ""
    return f"p50 over that of {comparison['with']}{machine}"


def comparison_cells(comparison: Mapping[str, Any]) -> list[list[str]]:
    """The rows of a comparison's table."""
    return [
        [
            row["of"] if row["of"] == row["to"] else f"{row['of']} to {row['to']}",
            f"{row['p50']['ratio']:.3f}",
            f"{row['p50']['low']:.3f} to {row['p50']['high']:.3f}",
            row["says"],
        ]
        for row in comparison["ratios"]
    ]


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


def sentences(row: Mapping[str, Any]) -> list[str]:
    """What a rate and each meter told of a measurement."""
    told = []
    if "tried" in row:
        held = row["held"]
        found = "no rate holds it" if held is None else f"{held:g} frames/s hold it"
        told.append(f"looking for the highest rate for {name_of(row)}: {found}")
    if "queue_max" in row:
        ages = ""
        if "age_p50_ms" in row:
            p50, p99, longest = (cell("ms", row[f"age_{name}_ms"]) for name in _AGES)
            ages = f"; age when the score is known: p50 {p50}, p99 {p99}, max {longest} ms"
        queue = f"{row['queue_max']} in the queue at most"
        told.append(f"{row['rate']:g} frames/s due: {queue}{ages}")
    if row.get("given_up"):
        told.append(given_up(row))
    told += [
        f"{name_of(row)}: {meter['joules_per_frame'] * 1e3:.3f} mJ a frame beyond idling by "
        f"{meter['meter']}: {meter['watts']:g} W, idle {meter['idle_watts']:g} W"
        for meter in row.get("energy", ())
    ]
    return told


def given_up(row: Mapping[str, Any]) -> str:
    """That calls of a measurement were due and never made, in a sentence."""
    return (
        f"{name_of(row)}: {row['given_up']} calls were due and never made: "
        f"{row['rate']:g} frames/s are far too many"
    )


def _tried(row: Mapping[str, Any]) -> list[str]:
    """The rates that were tried, and their latencies."""
    cells = [[f"{each['frames_per_s']:g}", cell("ms", each["ms"])] for each in row.get("tried", ())]
    return ["", *table(["frames/s due", "latency"], cells)] if cells else []


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
