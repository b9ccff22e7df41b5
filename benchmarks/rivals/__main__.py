"""adae-edge beside what else scores frames on a CPU: time, load, memory and size of each.

python -m adae_edge.benchmarks.rivals FOLDER [--rounds 11] [--rival NAME]... [--out FILE]

Each rival gets an environment in FOLDER with pinned versions, 7 GB in all, which is kept for the
next run. A run that was interrupted goes on with the table that it was at.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from adae_edge.benchmarks.paired import Ratio
from adae_edge.benchmarks.record import record
from adae_edge.benchmarks.rivals import models, page
from adae_edge.benchmarks.rivals.page import OURS
from adae_edge.benchmarks.rivals.rival import RIVALS, Rival, RivalError, project_digest
from adae_edge.benchmarks.rivals.turns import Table, against_goal, costs
from adae_edge.errors import AdaeEdgeError
from adae_edge.formats.files import check_writable, write_atomically, write_json
from adae_edge.machine import available_threads

SIZES = ((32, 32), (640, 480), (1920, 1080))
GANOMALY = "anomalib GANomaly, OpenVINO"
FASTEST = {"anomalib's fastest": "anomalib"}
_BEHIND_OPENCV = Ratio(OURS, "INTER_AREA and the bare graph", at_most=1.2)
# What is to be reached, by size of frames.
GOALS: dict[tuple[int, int], tuple[Ratio, ...]] = {
    (32, 32): (
        Ratio("anomalib's fastest", OURS, at_least=3),
        Ratio("anomalib GANomaly, PyTorch", OURS, at_least=20),
        Ratio("PyTorch, eager", OURS, at_least=10),
        Ratio(OURS, "two ONNX files and numpy", at_most=1),
    ),
    (640, 480): (
        Ratio(GANOMALY, OURS, at_least=1.5),
        Ratio(GANOMALY, "adae-edge, any size", at_least=1),
        _BEHIND_OPENCV,
    ),
    (1920, 1080): (_BEHIND_OPENCV,),
}
COST_GOALS = {
    "cpu_s": Ratio(GANOMALY, OURS, at_least=20),
    "resident_mb": Ratio(GANOMALY, OURS, at_least=6),
}
# The same network: these have to give adae-edge's score, at 32x32 alone or of all frames.
SAME_AT_32 = ("two ONNX files", "INTER_AREA", "PyTorch, ")
SAME = ("adae-edge, ", "InferenceSession", "OpenVINO")
TOLERANCE = 1e-3


def main(
    folder: Annotated[Path, typer.Argument(help="Where environments and logs go.")],
    rounds: Annotated[int, typer.Option(min=1, help="Blocks of each contender.")] = 11,
    rival: Annotated[
        list[str] | None, typer.Option(help="Beside adae-edge; may be repeated [default: all].")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the results go, .json and .md.")] = Path(
        "docs/results/peers"
    ),
) -> None:
    """Install rivals, time them in turns, and write what came of it."""
    try:
        result = run(folder.resolve(), rounds, rival or RIVALS, out)
    except AdaeEdgeError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(error.exit_code) from error
    typer.echo(page.as_markdown(result))
    if result["left_out"]:
        raise typer.Exit(1)


def run(folder: Path, rounds: int, names: Sequence[str], out: Path) -> dict[str, Any]:
    """Measure all tables, and write the results.

    Raises:
        AdaeEdgeError: a rival is unknown, adae-edge itself cannot be installed, or the results
            cannot be written.
    """
    if unknown := set(names) - set(RIVALS):
        raise RivalError(f"there is no rival {min(unknown)}: choose among {', '.join(RIVALS)}")
    for suffix in (".json", ".md"):
        check_writable(out.with_suffix(suffix))
    models.write(folder / "models", SIZES)
    chosen = [name for name in RIVALS if name in {"ours", *names}]
    rivals, left_out = installed([Rival(name, folder) for name in chosen])
    tables = []
    for threads in sorted({1, available_threads()}):
        for size in SIZES:
            tables.append(measured(Table(size, threads, rounds), rivals, folder / "parts"))
            left_out |= tables[-1]["left_out"]
    taken = costs(tables)
    result = record(
        rounds=rounds,
        notes=[each.module.NOTE for each in rivals if hasattr(each.module, "NOTE")],
        environments={
            each.name: {
                "mb": round(each.size_mb(), 1),
                "asked_for": list(each.module.PACKAGES),
                "versions": each.versions(),
            }
            for each in rivals
        },
        tables=tables,
        costs=taken,
        goals=reached(tables, taken),
        left_out=left_out,
    )
    write_json(out.with_suffix(".json"), result)
    write_atomically(out.with_suffix(".md"), f"{page.as_markdown(result)}\n".encode())
    shutil.rmtree(folder / "parts")
    return result


def installed(rivals: Sequence[Rival]) -> tuple[list[Rival], dict[str, str]]:
    """The rivals that are ready, and why others are not."""
    ready: list[Rival] = []
    left_out: dict[str, str] = {}
    for each in rivals:
        typer.echo(f"{each.name}: installing, unless it is there", err=True)
        try:
            each.install()
            ready.append(each)
        except RivalError as error:
            if each.name == "ours":
                raise
            typer.echo(f"{each.name} is left out: {error}", err=True)
            left_out |= dict.fromkeys(each.contenders, str(error))
    return ready, left_out


def measured(table: Table, rivals: Sequence[Rival], parts: Path) -> dict[str, Any]:
    """A table that is measured, or was before a run like this one was interrupted."""
    part = parts / f"{table.name}.json"
    given = {
        "rounds": table.rounds,
        "rivals": [[each.name, *each.module.PACKAGES] for each in rivals],
        "project": project_digest(),
    }
    if part.is_file() and (kept := json.loads(part.read_text()))["given"] == given:
        typer.echo(f"{table.name}: measured before", err=True)
        return dict(kept["found"])
    typer.echo(f"{table.name}: measuring", err=True)
    found = table.measure(rivals, lambda line: typer.echo(line, err=True))
    leave_out_others(found)
    parts.mkdir(exist_ok=True)
    write_json(part, {"given": given, "found": found})
    return found


def leave_out_others(table: dict[str, Any]) -> None:
    """Leave out contenders with the same network that do not give adae-edge's score."""
    rows = table["contenders"]
    same = SAME + (SAME_AT_32 if tuple(table["size"]) == SIZES[0] else ())
    for name in [name for name in rows if name.startswith(same)]:
        score, ours = rows[name]["score"], rows[OURS]["score"]
        if not abs(score - ours) <= TOLERANCE * abs(ours):
            table["left_out"][name] = f"its score of a frame is {score}, and adae-edge's {ours}"
            del rows[name]


def reached(
    tables: Sequence[dict[str, Any]], taken: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """What became of each goal that can be judged."""
    found = []
    for table in tables:
        for goal in GOALS[(table["size"][0], table["size"][1])]:
            row = against_goal(table["contenders"], goal, FASTEST)
            found.append(row and {"where": page.where(table), **row})
    for figure, goal in COST_GOALS.items():
        row = against_goal(taken, goal, FASTEST, figure)
        found.append(row and {"where": "all", **row})
    return [row for row in found if row is not None]


if __name__ == "__main__":
    typer.run(main)
