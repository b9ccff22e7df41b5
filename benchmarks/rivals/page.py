"""What the rivals' run gave, as a page in Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from adae_edge.benchmarks.markdown import table
from adae_edge.benchmarks.rivals.turns import ratio

OURS = "adae-edge, fixed size"
_HOW = (
    "Every contender runs in an environment and a process of its own. All get the same frames of "
    "noise, one at a time, in {rounds} rounds of blocks in turns. A time is that from a frame in "
    "memory, uint8 in RGB, to its score. min is the shortest call, median that over rounds of a "
    "round's median. The ratio is to the time of adae-edge with a fixed size in the same round: "
    "its median over rounds, with quartiles. waited is the share of the time in which a thread of "
    "a contender had work and no CPU: far above 0 at one thread, the run was disturbed, while two "
    "pools of threads that spin wait for each other, too. A contender's process keeps to as many "
    "CPUs as it has threads. All networks have random weights, which do not "
    "change the time. {notes}."
)
_COSTS = (
    "CPU s are those of import and load, in a fresh process whose interpreter runs. resident is "
    "the memory after the first score, without the frames that were handed over. environment is "
    "what was installed for it, without pip and compiled bytecode; it holds all contenders of a "
    "package. The first two are medians over the tables above, each from a process of its own."
)
_FIGURES = {"ms": "a frame's time", "cpu_s": "import and load, CPU s", "resident_mb": "memory"}


def as_markdown(result: Mapping[str, Any]) -> str:
    """The result as a page."""
    host = result["machine"]
    lines = [
        "# adae-edge beside its rivals",
        "",
        f"`{result['command']}` on {host['cpu']}; adae-edge {result['versions']['adae_edge']}, "
        f"Python {host['python']}, {host['system']}.",
        "",
        *textwrap.wrap(
            _HOW.format(rounds=result["rounds"], notes=". ".join(result["notes"])).strip(), 100
        ),
    ]
    for measured in result["tables"]:
        lines += ["", f"## {where(measured)}", "", *times(measured)]
    lines += ["", "## Import, load and memory", "", *textwrap.wrap(_COSTS, 100), "", *costs(result)]
    lines += ["", "## What was to be reached", "", *goals(result["goals"])]
    if result["left_out"]:
        lines += ["", "Left out:", ""]
        lines += [f"- {name}: {reason}" for name, reason in result["left_out"].items()]
    return "\n".join(lines)


def times(measured: Mapping[str, Any]) -> list[str]:
    """A table of contenders' times."""
    rows = measured["contenders"]
    cells = []
    for name, row in rows.items():
        shown = "-"
        if OURS in rows and name != OURS:
            shown = _ratio(ratio(row, rows[OURS]))
        cells.append(
            [name, f"{row['min_ms']:.3f}", f"{row['median_ms']:.3f}", shown, f"{row['waited']:.1%}"]
        )
    return table(["contender", "min ms", "median ms", "ratio (quartiles)", "waited"], cells)


def costs(result: Mapping[str, Any]) -> list[str]:
    """A table of what contenders take beside time."""
    cells = [
        [
            name,
            f"{row['cpu_s']:.2f}",
            f"{row['resident_mb']:.0f}",
            f"{result['environments'][row['rival']]['mb']:.0f}",
        ]
        for name, row in result["costs"].items()
    ]
    return table(["contender", "CPU s", "resident MB", "environment MB"], cells)


def goals(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table of ratios with goals."""
    cells = [
        [
            f"{row['of']} / {row['to']}",
            _FIGURES[row["figure"]],
            row["where"],
            _ratio(row["ratio"]),
            row["goal"],
            "yes" if row["met"] else "no",
        ]
        for row in rows
    ]
    return table(["ratio", "of", "frame", "measured", "goal", "met"], cells)


def where(measured: Mapping[str, Any]) -> str:
    """What a table is of, as "640x480x3, threads: 2"."""
    return "{}x{}x3".format(*measured["size"]) + f", threads: {measured['threads']}"


def _ratio(found: Sequence[float]) -> str:
    """A ratio as "3.61 (3.58 to 3.70)"."""
    text = f"{found[0]:.2f}"
    return f"{text} ({found[1]:.2f} to {found[2]:.2f})" if len(found) > 1 else text
