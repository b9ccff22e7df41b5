"""The table of alternatives to the recipe ``default``, on a development part of the data.

python -m adae_edge.train.tables.ablations mnist:DIR --out ablations.json [--variants a,b]
[--classes 0,1,7,9]

The alternatives are in ``variants.py``. The data are every third image, and the seeds are of no
other table. A third of the frames that the table ``mnist`` tests are among these images all the
same, which is why it also gives its means over the others. The AUROC of a class differs much
between seeds, so one run of each says little. Each variant is trained for each class and seed in a
process of its own, with one thread. The file is rewritten after each, and the same command goes on
with those that are missing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import torch
import typer

from adae_edge.errors import AdaeEdgeError
from adae_edge.formats.files import write_json
from adae_edge.machine import machine
from adae_edge.model import NETWORK_SCORES
from adae_edge.train.tables.variants import DEFAULT, VARIANTS, development_part

# A variant's name, the class that is held out, and the seed.
_Run = tuple[str, str, str]
_Figures = dict[str, float]


def main(
    data: Annotated[str, typer.Argument(help="digits or mnist:DIR")],
    out: Annotated[Path, typer.Option(help="The JSON file, new or of the same command.")],
    variants: Annotated[
        str, typer.Option(help="Names of variants, separated by commas.")
    ] = ",".join(VARIANTS),
    classes: Annotated[
        str, typer.Option(help="Classes held out, one at a time: two easy ones and two hard ones.")
    ] = "0,1,7,9",
    seeds: Annotated[
        str,
        typer.Option(
            help="Random seeds for the split, the first weights and the order of batches; no table "
            "has seeds from 1000 on."
        ),
    ] = "1000,1001",
    updates: Annotated[
        int, typer.Option(min=1, help="Updates of the weights in each training.")
    ] = 1500,
    jobs: Annotated[int, typer.Option(min=1, help="Trainings at a time.")] = 2,
) -> None:
    """Train what is missing, then print a row of AUROCs for each variant."""
    # what is asked for
    names, held_out, chosen = variants.split(","), classes.split(","), seeds.split(",")
    _check(names, classes, seeds, out)
    try:
        frames = len(development_part(data, int(held_out[0])).anomalous)
    except AdaeEdgeError as error:
        raise typer.BadParameter(str(error)) from error

    # the table so far
    kind = data.partition(":")[0]
    settings = {"data": kind, "frames": frames, "updates": updates, "recipe": asdict(DEFAULT)}
    table = load_table(out, settings)
    place = "" if data == kind else ":DIR"
    every = [name for name in VARIANTS if name in {*names, *table["variants"]}]
    table["command"] = (
        f"python -m adae_edge.train.tables.ablations {kind}{place} --out {out.name} --variants "
        f"{','.join(every)} --classes {classes} --seeds {seeds} --updates {updates}"
    )

    # what is missing in it
    runs = [(name, digit, seed) for seed in chosen for name in names for digit in held_out]
    missing = [run for run in runs if not _is_finished(table, run)]
    failed = _train(data, missing, updates, jobs, table, out)
    typer.echo(as_markdown(table))
    if failed:
        raise typer.Exit(1)


def _check(names: list[str], classes: str, seeds: str, out: Path) -> None:
    """Refuse options that cannot be.

    Raises:
        BadParameter: one is.
    """
    unknown = set(names) - set(VARIANTS)
    if unknown:
        raise typer.BadParameter(
            f"there is no variant {min(unknown)}: choose among {', '.join(VARIANTS)}"
        )
    if set(classes.split(",")) - set("0123456789"):
        raise typer.BadParameter(
            f"--classes takes digits separated by commas, and {classes} are none"
        )
    if not all(seed.isdecimal() and len(seed) < 10 for seed in seeds.split(",")):
        raise typer.BadParameter(
            f"--seeds takes whole numbers separated by commas, and {seeds} are none"
        )
    if not out.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no folder {out.parent}")


def load_table(out: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Read the table so far, or begin an empty one.

    Raises:
        BadParameter: the file is something else, or was made with other settings.
    """
    if not out.exists():
        return {
            "command": "",
            "machine": machine(),
            "torch": torch.__version__,
            "settings": settings,
            "variants": {},
        }
    try:
        table: dict[str, Any] = json.loads(out.read_text())
        before = table["settings"]
        table["variants"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        message = f"{out} is no table of this script: choose another --out"
        raise typer.BadParameter(message) from error
    if before != settings:
        raise typer.BadParameter(
            f"{out} has runs of other settings, {json.dumps(before)}: choose another --out"
        )
    return table


def _train(
    data: str, missing: list[_Run], updates: int, jobs: int, table: dict[str, Any], out: Path
) -> bool:
    """Train what is missing, and write the table after each run.

    Returns:
        Whether a run failed.
    """
    failed = False
    pool = ThreadPoolExecutor(jobs)
    try:
        running = {pool.submit(run_apart, data, *run, updates): run for run in missing}
        for future in as_completed(running):
            name, digit, seed = running[future]
            try:
                figures = future.result()
            except subprocess.CalledProcessError as error:
                failed = True
                outcome = f"ended with exit code {error.returncode}"
            else:
                new = {"what": VARIANTS[name].what, "classes": {}}
                entry = table["variants"].setdefault(name, new)
                entry["classes"].setdefault(digit, {})[seed] = figures
                write_json(out, table)
                outcome = str(figures)
            typer.echo(f"{name}, class {digit}, seed {seed}: {outcome}", err=True)
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C nothing more is begun
    return failed


def run_apart(data: str, name: str, digit: str, seed: str, updates: int) -> _Figures:
    """Train in a process of its own, so that no run depends on another.

    Returns:
        The figures of ``run_variant``.

    Raises:
        CalledProcessError: it failed; its own message is on the standard error.
    """
    module = "adae_edge.train.tables.variants"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", module, data, name, digit, seed, str(updates)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    figures: _Figures = json.loads(done.stdout)
    return figures


def classes_of(table: dict[str, Any], name: str) -> dict[str, dict[str, _Figures]]:
    """Return the finished runs of a variant by class and seed."""
    variant = table["variants"].get(name, {})
    classes: dict[str, dict[str, _Figures]] = variant.get("classes", {})
    return classes


def _is_finished(table: dict[str, Any], run: _Run) -> bool:
    """Tell whether a run is in the table."""
    name, digit, seed = run
    return seed in classes_of(table, name).get(digit, {})


def as_markdown(table: dict[str, Any]) -> str:
    """Write a row for each variant, in the order of ``VARIANTS``, with means over seeds."""
    done = [name for name in VARIANTS if classes_of(table, name)]
    digits = sorted({digit for name in done for digit in classes_of(table, name)})
    heads = " | ".join(f"{score}: mean ({', '.join(digits)})" for score in NETWORK_SCORES)
    lines = [f"| variant | {heads} | what it changes |", f"|---|{'---|' * len(NETWORK_SCORES)}---|"]
    for name in done:
        columns = [_column(classes_of(table, name), score, digits) for score in NETWORK_SCORES]
        lines.append(f"| {name} | {' | '.join(columns)} | {table['variants'][name]['what']} |")
    return "\n".join(lines)


def _column(classes: dict[str, dict[str, _Figures]], score: str, digits: list[str]) -> str:
    """Write the mean of a score over all classes, and over the seeds of each."""
    means = {
        digit: fmean(figures[score] for figures in seeds.values())
        for digit, seeds in classes.items()
    }
    values = ", ".join(f"{means[digit]:.3f}" if digit in means else "-" for digit in digits)
    if len(means) < len(digits):
        return f"- ({values})"
    return f"{fmean(means.values()):.3f} ({values})"


if __name__ == "__main__":
    typer.run(main)
