"""The page docs/benchmarks.md, from the results in docs/results alone.

python -m adae_edge.benchmarks.table [--results docs/results] [--out docs/benchmarks.md]

A result that is not there is a row "not measured" with the command that gives it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from adae_edge.benchmarks.markdown import table
from adae_edge.formats.files import write_atomically

Lines = Callable[[Mapping[str, Any]], list[str]]

HEAD = """\
# Benchmarks

This page is made by `python -m adae_edge.benchmarks.table` from the JSON in
[results](results), which has every figure, the machine and the versions.
`bash benchmarks/remake.sh LOCAL TURNED` measures what is of a CPU anew.
[Measuring](bench.md) says what the figures and the verdicts mean. Times are milliseconds.
"""
_SPEED = re.compile(r"(?P<what>\S+) batch (?P<batch>\d+)(?: (?P<how>\w+))?")


def main(
    results: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("docs/results"),
    out: Annotated[Path, typer.Option(help="The page.")] = Path("docs/benchmarks.md"),
) -> None:
    """Write the page anew."""
    write_atomically(out, page(results).encode())


@dataclass(frozen=True)
class Part:
    """A result and how it is shown.

    Attributes:
        title: its heading.
        file: its name; "*" stands for anything, and each file is shown.
        command: gives the file where it is missing.
        lines: the file's content in Markdown.
    """

    title: str
    file: str
    command: str
    lines: Lines


def page(results: Path) -> str:
    """The whole page, Markdown."""
    lines = [HEAD]
    for part in PARTS:
        lines += [f"## {part.title}", ""]
        for path in sorted(results.glob(part.file)):
            result = json.loads(path.read_bytes())
            lines += [*_about(path, result), "", *part.lines(result), ""]
        if not any(results.glob(part.file)):
            lines += [f"**not measured**: `{part.command}`", ""]
    return "\n".join(lines)


def _about(path: Path, result: Mapping[str, Any]) -> list[str]:
    """Which machine, versions and command a result is of, in a sentence."""
    machine = result.get("machine", {})
    host = machine.get("adae_edge", machine)  # the GPU kit's own is one level further down
    gpu = result.get("gpu") or machine.get("gpu")
    name = str(gpu["name"] if isinstance(gpu, dict) else gpu).partition(",")[0]
    parts = [f"{host['cpu']}, {host['usable_cpus']} usable", *([name] if gpu else [])]
    if mode := host.get("power_mode"):
        parts.append(f"power mode {mode}")
    commands = result.get("commands") or [result["command"]]
    told = ", ".join(f"`{command}`" for command in commands)
    return [f"[{path.name}](results/{path.name}), {', '.join(parts)}: {told}"]


def bench(result: Mapping[str, Any]) -> list[str]:
    """The result of ``adae-edge bench``."""
    times = ("min_ms", "p50_ms", "p99_ms", "max_ms")
    rows = [
        [
            f"{row['width']}x{row['height']}",
            str(row["batch"]),
            *(_ms(row.get(name)) for name in times),
            f"{row['frames_per_s']:.0f}",
            _verdicts(row),
        ]
        for row in result["measurements"]
    ]
    heads = ["frame", "batch", "min", "p50", "p99", "max", "frames/s", "verdicts"]
    took = f"Load {result['load_ms']} ms, first score {result['first_inference_ms']} ms"
    built = result.get("build_s")
    return [*table(heads, rows), "", took + (f", engine built in {built} s." if built else ".")]


def comparisons(result: Mapping[str, Any]) -> list[str]:
    """Ratios of contenders that ran in turns."""
    ratios = [
        [comparison["what"], ratio["of"], ratio["to"], f"{ratio['ratio']:.3f}", _goal(ratio)]
        for comparison in result.get("comparisons", result.get("questions", ()))
        for ratio in comparison["ratios"]
    ]
    return table(["what", "time of", "over that of", "ratio", "goal"], ratios)


def peers(result: Mapping[str, Any]) -> list[str]:
    """What comparable programs take, and what became of the goals."""
    times = [
        ["{}x{}".format(*each["size"]), str(each["threads"]), name, *map(_ms, (least, median))]
        for each in result["tables"]
        for name, row in each["contenders"].items()
        for least, median in [(row["min_ms"], row["median_ms"])]
    ]
    costs = [
        [name, f"{row['cpu_s']:.2f}", f"{row['resident_mb']:.0f}"]
        for name, row in result["costs"].items()
    ]
    goals = [
        [row["where"], row["figure"], row["of"], row["to"], f"{row['ratio'][0]:.2f}", _goal(row)]
        for row in result["goals"]
    ]
    return [
        *table(["frame", "threads", "contender", "min", "median"], times),
        "",
        *table(["contender", "import and load, CPU s", "resident MB"], costs),
        "",
        *table(["frame", "figure", "of", "over that of", "ratio", "goal"], goals),
    ]


def roof(result: Mapping[str, Any]) -> list[str]:
    """Networks over the machine's limit."""
    rows, told = [], []
    for measured in result["measurements"]:
        product, copy = (max(measured[name].values()) for name in ("gflop_per_s", "copy_gb_per_s"))
        threads = str(measured["threads"])
        told.append(f"Best of {threads} threads: {product:.0f} GFLOP/s, {copy:.1f} GB/s copied.")
        for row in measured["networks"]:
            quartiles = " to ".join(f"{value:.2f}" for value in row["quartiles"])
            most = list(row["profile"].items())[:3]
            rows.append(
                [
                    row["network"],
                    threads,
                    str(row["batch"]),
                    _ms(row["ms"]),
                    f"{row['gflop_per_s']:.0f}",
                    f"{row['over_roof']:.2f}",
                    quartiles,
                    _goal({**row, "goal": row["goal"] and f"at most {row['goal']:g}"}),
                    ", ".join(f"{kind} {share:.0%}" for kind, share in most),
                ]
            )
    heads = ["network", "threads", "batch", "p50", "GFLOP/s", "over its roof", "quartiles"]
    return [*told, "", *table([*heads, "goal", "most of its time"], rows)]


def curves(result: Mapping[str, Any]) -> list[str]:
    """Every point of every curve, and the long run's tenths."""
    rows = [
        [
            row["curve"],
            row["at"],
            *map(_ms, (row["p50_ms"], row["p99_ms"])),
            f"{row['frames_per_s']:.0f}",
            ", ".join(row["verdicts"]) or "none",
        ]
        for row in result["points"]
    ]
    lines = table(["curve", "at", "p50", "p99", "frames/s", "verdicts"], rows)
    for row in result["points"]:
        if row["curve"] == "length":
            first, *_, last = row["parts_p50_ms"]
            told = (
                f"first tenth {_ms(first)} ms, last tenth {_ms(last)} ms, {last / first:.3f} times"
            )
            lines += ["", f"Of {row['at']} the {told}."]
    return lines


def gpu(result: Mapping[str, Any]) -> list[str]:
    """Parity and speed of the GPU kit."""
    sections = {
        name: section.get("results", section)
        for name, section in result.get("sections", result).items()
        if isinstance(section, dict)
    }
    rows = []
    for section in ("speed", "torch"):
        for name, row in sections.get(section, {}).items():
            found = _SPEED.fullmatch(name)
            if found is None or "p50" not in row:
                continue
            who = "PyTorch" if section == "torch" else "ONNX Runtime"
            how = f"{who}, {found['how']}" if found["how"] else who
            figures = [_ms(row["p50"]), _ms(row["p99"]), f"{row['frames_per_s']:.0f}"]
            rows.append([found["what"], how, found["batch"], *figures])
    lines = table(["network", "by", "batch", "p50", "p99", "frames/s"], rows)
    parity = [
        [name, f"{row['worst_relative']:.1e}", str(row["decisions_changed"])]
        for name, row in sections.get("parity", {}).items()
        if isinstance(row, dict) and "worst_relative" in row
    ]
    heads = ["model", "worst difference from the CPU's scores", "decisions changed"]
    return lines + (["", *table(heads, parity)] if parity else [])


def rows_of(result: Mapping[str, Any]) -> list[str]:
    """The rows of a result as they are."""
    return flat(result["rows"])


def flat(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rows of texts and numbers as a table; what is neither is left out."""
    names = list(dict.fromkeys(name for row in rows for name in row if _is_cell(row[name])))
    return table(names, [[_cell(row.get(name, "")) for name in names] for row in rows])


def _is_cell(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float))


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str("-" if value is None else value)


def _ms(value: float | None) -> str:
    return "too few" if value is None else f"{value:.3f}"


def _verdicts(row: Mapping[str, Any]) -> str:
    """What was wrong with a measurement; results of before have no verdicts."""
    if "verdicts" not in row:
        return "not judged"
    return ", ".join(verdict["name"] for verdict in row["verdicts"]) or "none"


def _goal(row: Mapping[str, Any]) -> str:
    """A goal and whether it is met."""
    return f"{row['goal']}: {'met' if row['met'] else 'not met'}" if row["goal"] else ""


_MODULE = "python -m adae_edge.benchmarks"
_RESULT = "--json"
_BOARDS = ("orin-nano", "orin-nx", "agx-orin", "thor")
PARTS = (
    Part(
        "The model alone",
        "bench.json",
        "bash benchmarks/remake.sh",
        bench,
    ),
    Part(
        "The score `local`: parts as they lie",
        "bench-local.json",
        "bash benchmarks/remake.sh LOCAL TURNED",
        bench,
    ),
    Part(
        "The score `local`: parts turned upright",
        "bench-local-turned.json",
        "bash benchmarks/remake.sh LOCAL TURNED",
        bench,
    ),
    Part("Against peers", "peers.json", f"{_MODULE}.rivals FOLDER", peers),
    Part(
        "Against the network without this project",
        "graphs*.json",
        f"{_MODULE}.against.graphs",
        comparisons,
    ),
    Part("Against the machine's limit", "roof.json", f"{_MODULE}.roof {_RESULT} roof.json", roof),
    Part("Curves", "curves.json", f"{_MODULE}.curves curves {_RESULT} curves.json", curves),
    Part(
        "`Scorer` over the bare session",
        "overhead.json",
        f"{_MODULE}.against.overhead MODEL {_RESULT} overhead.json",
        rows_of,
    ),
    Part(
        "Whether verdicts are right",
        "disturbances.json",
        f"{_MODULE}.disturbances MODEL {_RESULT} disturbances.json",
        rows_of,
    ),
    Part(
        "Whether two runs agree",
        "agreement.json",
        f"{_MODULE}.agreement MODEL {_RESULT} agreement.json",
        rows_of,
    ),
    Part(
        "Streams, over decoding alone",
        "streaming*.json",
        f"{_MODULE}.streaming streaming --model MODEL --video VIDEO",
        rows_of,
    ),
    Part("On an NVIDIA H100", "gpu-h100*.json", "bash .gpu/main/run.sh parity speed torch", gpu),
    *(
        Part(
            f"Jetson: {board}",
            f"bench-jetson-{board}.json",
            "adae-edge bench parts.engine --size 640x480 --batch 1 --seconds 30 --strict "
            f"--json bench-jetson-{board}.json",
            bench,
        )
        for board in _BOARDS
    ),
)


if __name__ == "__main__":
    typer.run(main)
