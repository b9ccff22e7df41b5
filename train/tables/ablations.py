"""The table of alternatives to the recipe ``default`` (see ``variants.py``), on a development part of the data.

python -m adae_edge.train.tables.ablations mnist:DIR --out ablations.json [--variants a,b]
[--classes 0,1,7,9]

Every third image, and seeds that no table has. A third of the frames that the table ``mnist`` tests
are among these images all the same, which is why it also gives its means over the others. The AUROC
of a class differs much between seeds, so one run of each says little. Each variant is trained for
each class and seed in a process of its own, with one thread. The file is rewritten after each, and
the same command goes on with those that are missing.
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
from adae_edge.formats.files import write_atomically
from adae_edge.machine import machine
from adae_edge.model import NETWORK_SCORES
from adae_edge.train.tables.variants import DEFAULT, VARIANTS, development_part


def main(
    data: Annotated[str, typer.Argument(help="digits or mnist:DIR")],
    out: Annotated[Path, typer.Option(help="The JSON file, new or of the same command.")],
    variants: Annotated[str, typer.Option(help="Separated by commas.")] = ",".join(VARIANTS),
    classes: Annotated[
        str, typer.Option(help="Held out, one at a time: two easy ones and two hard ones.")
    ] = "0,1,7,9",
    seeds: Annotated[
        str, typer.Option(help="Of split, weights and order; no table has seeds from 1000 on.")
    ] = "1000,1001",
    updates: Annotated[int, typer.Option(min=1, help="Of the weights, in each training.")] = 1500,
    jobs: Annotated[int, typer.Option(min=1, help="Trainings at a time.")] = 2,
) -> None:
    """Train what is missing, then print a row of AUROCs for each variant."""
    names, held_out, chosen = variants.split(","), classes.split(","), seeds.split(",")
    if unknown := set(names) - set(VARIANTS):
        raise typer.BadParameter(
            f"there is no variant {min(unknown)}: choose among {', '.join(VARIANTS)}"
        )
    if set(held_out) - set("0123456789"):
        raise typer.BadParameter(
            f"--classes takes digits separated by commas, and {classes} are none"
        )
    if not all(seed.isdecimal() and len(seed) < 10 for seed in chosen):
        raise typer.BadParameter(
            f"--seeds takes whole numbers separated by commas, and {seeds} are none"
        )
    if not out.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no folder {out.parent}")
    try:
        frames = len(development_part(data, int(held_out[0])).anomalous)
    except AdaeEdgeError as error:
        raise typer.BadParameter(str(error)) from None
    kind = data.partition(":")[0]
    settings = {"data": kind, "frames": frames, "updates": updates, "recipe": asdict(DEFAULT)}
    table = load_table(out, settings)
    place = "" if data == kind else ":DIR"
    every = [name for name in VARIANTS if name in {*names, *table["variants"]}]
    table["command"] = (
        f"python -m adae_edge.train.tables.ablations {kind}{place} --out {out.name} --variants "
        f"{','.join(every)} "
        f"--classes {classes} --seeds {seeds} --updates {updates}"
    )

    runs = ((name, digit, seed) for seed in chosen for name in names for digit in held_out)
    missing = [run for run in runs if run[2] not in classes_of(table, run[0]).get(run[1], {})]
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
                typer.echo(
                    f"{name}, class {digit}, seed {seed}: ended with exit code {error.returncode}",
                    err=True,
                )
                continue
            entry = table["variants"].setdefault(name, {"what": VARIANTS[name].what, "classes": {}})
            entry["classes"].setdefault(digit, {})[seed] = figures
            write_atomically(out, (json.dumps(table, indent=2) + "\n").encode())
            typer.echo(f"{name}, class {digit}, seed {seed}: {figures}", err=True)
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C nothing more is begun
    typer.echo(as_markdown(table))
    if failed:
        raise typer.Exit(1)


def load_table(out: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The table so far, or an empty one.

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
    except (OSError, ValueError, TypeError, KeyError):
        raise typer.BadParameter(
            f"{out} is no table of this script: choose another --out"
        ) from None
    if before != settings:
        raise typer.BadParameter(
            f"{out} has runs of other settings, {json.dumps(before)}: choose another --out"
        )
    return table


def classes_of(table: dict[str, Any], name: str) -> dict[str, dict[str, dict[str, float]]]:
    """The finished runs of a variant by class and seed."""
    classes: dict[str, dict[str, dict[str, float]]] = (
        table["variants"].get(name, {}).get("classes", {})
    )
    return classes


def run_apart(data: str, name: str, digit: str, seed: str, updates: int) -> dict[str, float]:
    """``run_variant`` in a process of its own, so that no run depends on another.

    Raises:
        CalledProcessError: it failed; its own message is on the standard error.
    """
    done = subprocess.run(  # noqa: S603
        [
            sys.executable,
            "-m",
            "adae_edge.train.tables.variants",
            data,
            name,
            digit,
            seed,
            str(updates),
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def as_markdown(table: dict[str, Any]) -> str:
    """A row for each variant, in the order of ``VARIANTS``: each AUROC is a mean over seeds."""
    done = [name for name in VARIANTS if classes_of(table, name)]
    digits = sorted({digit for name in done for digit in classes_of(table, name)})
    heads = " | ".join(f"{score}: mean ({', '.join(digits)})" for score in NETWORK_SCORES)
    lines = [f"| variant | {heads} | what it changes |", f"|---|{'---|' * len(NETWORK_SCORES)}---|"]
    for name in done:
        classes, cells = classes_of(table, name), []
        for score in NETWORK_SCORES:
            means = {
                digit: fmean(run[score] for run in runs.values()) for digit, runs in classes.items()
            }
            values = ", ".join(f"{means[digit]:.3f}" if digit in means else "-" for digit in digits)
            cells.append(
                f"{fmean(means.values()):.3f} ({values})"
                if len(means) == len(digits)
                else f"- ({values})"
            )
        lines.append(f"| {name} | {' | '.join(cells)} | {table['variants'][name]['what']} |")
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
