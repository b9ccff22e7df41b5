"""Whether two runs of ``adae-edge bench`` agree, or say that they cannot.

python -m adae_edge.benchmarks.agreement MODEL [--pairs 3] [--seconds 5] [--json FILE]
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from adae_edge.benchmarks.disturbances import bench
from adae_edge.benchmarks.record import record
from adae_edge.formats.files import write_json

# By how much the medians of two runs may differ, by the batch.
LIMITS = {1: 0.03, 64: 0.05}


def main(
    model: Annotated[Path, typer.Argument(help="A model file.")],
    pairs: Annotated[int, typer.Option(min=1, help="Pairs of runs.")] = 3,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of each measurement.")] = 5.0,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Print by how much the medians of each pair differ, and what the tool says of it."""
    rows = []
    options = ("--batch", ",".join(map(str, LIMITS)), "--seconds", f"{seconds:g}")
    for pair in range(1, pairs + 1):
        runs = [bench(model, *options)["measurements"] for _ in range(2)]
        rows += [{"pair": pair} | agreed(*two) for two in zip(*runs, strict=True)]
        for row in rows[-len(LIMITS) :]:
            line = (
                "pair {pair}, batch {batch}: {first_ms} and {second_ms} ms, {differ} apart, {says}"
            )
            typer.echo(line.format(**row))
    if json_file is not None:
        write_json(json_file, record(seconds=seconds, rows=rows))


def agreed(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Whether the medians of two measurements agree; JSON types."""
    p50 = first["p50_ms"], second["p50_ms"]
    apart, limit = max(p50) / min(p50) - 1, LIMITS[first["batch"]]
    wrong = {verdict["name"] for each in (first, second) for verdict in each["verdicts"]}
    says = ", ".join(sorted(wrong)) or "nothing wrong"
    return {
        "batch": first["batch"],
        "first_ms": p50[0],
        "second_ms": p50[1],
        "differ": f"{apart:.1%}",
        "says": says,
        "goal": f"at most {limit:.0%}, or told",
        "met": apart <= limit or bool(wrong),
    }


if __name__ == "__main__":
    typer.run(main)
