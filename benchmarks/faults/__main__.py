"""Puts the real command through every fault of the table, and prints what was seen.

python -m adae_edge.benchmarks.faults [--only 55a,40] [--json FILE] [--markdown FILE]

Each fault is done in a folder of its own, with real peers. One whose peer or privilege is missing
says which. "lost" are rows that are missing, "doubled" those that are there twice, "false" those
about a frame that nobody sent, or with a time at which it was not made.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from adae_edge.benchmarks import record
from adae_edge.benchmarks.faults import (
    cameras,
    clock,
    doors,
    files,
    gst,
    http,
    network,
    network_sinks,
    rtsp,
    scrapers,
    signals,
    sinks,
)
from adae_edge.benchmarks.faults.fault import FAULTS, Fault
from adae_edge.benchmarks.faults.lab import Lab, WrongError
from adae_edge.benchmarks.peers.processes import MissingPeer
from adae_edge.machine import machine

# Their import fills the table.
MODULES = (
    rtsp,
    doors,
    network,
    http,
    cameras,
    clock,
    gst,
    files,
    signals,
    sinks,
    network_sinks,
    scrapers,
)
_ABOUT = (
    "    python -m adae_edge.benchmarks.faults --json FILE --markdown FILE",
    "",
    "`--only 3,15` does some of them again, and the JSON has the command and the machine of each.",
    "Frames are numbered pictures, and the model's score is the number that it reads, so that each",
    "row tells which frame it is about. Lost rows are missing, doubled ones are there twice, and",
    "false ones are about a frame that nobody sent, or have a time at which it was not made.",
    "Seconds were taken on busy cores, in several runs.",
)
_HEADER = (
    "| # | done | seen | recovered s | lost | doubled | false |\n|---|---|---|---:|---:|---:|---:|"
)


def main(
    only: Annotated[
        str, typer.Option(help="Numbers of faults, with commas between them [default: all].")
    ] = "",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="File of the results; others in it are kept.")
    ] = None,
    markdown_file: Annotated[
        Path | None, typer.Option("--markdown", help="File of the table.")
    ] = None,
) -> None:
    """Cause the faults and print the table."""
    chosen = _chosen(only)
    results = (
        json.loads(json_file.read_text())["faults"] if json_file and json_file.exists() else {}
    )
    for each in chosen:
        result = attempt(each)
        results[each.number] = result | {"command": record.command(), "machine": _machine()}
        typer.echo(_line(each.number, result))
        if json_file:
            json_file.write_text(json.dumps({"faults": _sorted(results)}, indent=1) + "\n")
    if markdown_file:
        markdown_file.write_text(table(_sorted(results)))
    if any(results[each.number]["outcome"] == "wrong" for each in chosen):
        raise typer.Exit(1)


def attempt(each: Fault) -> dict[str, Any]:
    """Cause one fault in a new folder; returns its result as JSON types."""
    folder = Path(tempfile.mkdtemp(prefix=f"fault-{each.number}-"))
    begun = time.monotonic()
    result: dict[str, Any] = {"done": each.done}
    try:
        seen = each.do(Lab.at(folder / "lab"))
        clean = not (seen.lost or seen.doubled or seen.false)
        result |= {"outcome": "right" if clean else "wrong", **vars(seen)}
    except MissingPeer as error:
        result |= {"outcome": "not tried", "seen": f"not tried: {error}"}
    except WrongError as error:
        result |= {"outcome": "wrong", "seen": f"wrong: {error}"}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    result["seen"] = result["seen"].replace(f"{folder / 'lab'}/", "").replace(str(folder), "LAB")
    return result | {"seconds": round(time.monotonic() - begun, 1)}


def _machine() -> str:
    """This machine in a few words; each result has them, because they come in several runs."""
    known = machine()
    cpu, python = f"{known['usable_cpus']} CPUs of {known['cpu']}", f"Python {known['python']}"
    return ", ".join([cpu, f"{known['memory_gb']} GB", known["system"], python])


def table(results: dict[str, dict[str, Any]]) -> str:
    """The Markdown page of the results."""
    lines = [_line(number, result) for number, result in results.items()]
    return "\n".join(["# Faults", "", *_ABOUT, "", _HEADER, *lines, ""])


def _line(number: str, result: dict[str, Any]) -> str:
    """One row of the table."""
    recovered = result.get("recovered_s")
    counts = [result.get(name, "") for name in ("lost", "doubled", "false")]
    cells = [number, result["done"], result["seen"].replace("|", "/")]
    cells += ["" if recovered is None else f"{recovered:.1f}", *counts]
    return f"| {' | '.join(map(str, cells))} |"


def _chosen(only: str) -> list[Fault]:
    """The faults that were asked for, by number alone or with the letter."""
    if not only:
        return list(FAULTS.values())
    wanted = only.split(",")
    found = [
        each
        for number, each in FAULTS.items()
        if number in wanted or number.rstrip("abcdefghij") in wanted
    ]
    if not found:
        raise typer.BadParameter(f"no fault {only}: choose among {', '.join(FAULTS)}")
    return found


def _sorted(results: dict[str, Any]) -> dict[str, Any]:
    """By number, and then by letter."""

    def key(number: str) -> tuple[int, str]:
        digits = number.rstrip("abcdefghij")
        return int(digits), number.removeprefix(digits)

    return {number: results[number] for number in sorted(results, key=key)}


if __name__ == "__main__":
    typer.run(main)
