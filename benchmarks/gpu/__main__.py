"""All sections of the measurements, one after another.

python -m adae_edge.benchmarks.gpu [SECTION]...

Each section runs in a process of its own with a time limit, so that one that fails or hangs costs
no other. results.json holds what they measured, also what failed, and no path of the machine;
logs.txt holds all that they printed. ``run.sh`` starts this on a machine without a network.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from adae_edge.benchmarks.gpu.report import failures, short, without_paths
from adae_edge.benchmarks.gpu.results import Settings
from adae_edge.formats.files import write_atomically
from adae_edge.gpu import first_gpu
from adae_edge.machine import machine

# Seconds that each section may take: about twice what it takes on an H100.
LIMITS = {
    "machine": 40,
    "parity": 60,
    "speed": 120,
    "large": 90,
    "bench": 60,
    "standin": 60,
    "roof": 40,
    "torch": 140,
    "training": 140,
    "engines": 60,
    "reproduce": 240,
    "scale": 90,
}
ASKED_FOR = ("reproduce", "scale")  # run where they are named, because they take minutes


def main(
    sections: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SECTION]...",
            help=f"Some of {', '.join(LIMITS)}; all but {' and '.join(ASKED_FOR)} unless named.",
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(envvar="DEVICE", help="cuda, or cpu to try the kit without a GPU.")
    ] = "cuda",
    models: Annotated[
        Path | None,
        typer.Option(envvar="MODELS", help="Folder of model files, which are exported without it."),
    ] = None,
    mnist: Annotated[
        Path | None,
        typer.Option(envvar="MNIST", help="Folder of MNIST's unpacked files, if they are there."),
    ] = None,
    work: Annotated[
        Path, typer.Option(envvar="WORK", help="Folder for what the sections write meanwhile.")
    ] = Path("work"),
    out: Annotated[Path, typer.Option(envvar="OUT", help="Folder of the results.")] = Path("out"),
    seconds: Annotated[
        float, typer.Option(envvar="SECONDS_A_CASE", min=0, help="How long each case is timed.")
    ] = 0.6,
    budget: Annotated[
        float, typer.Option(envvar="BUDGET_S", min=0, help="Seconds for all sections together.")
    ] = 480,
) -> None:
    """Measure, and print the results in short."""
    begun = time.monotonic()
    chosen = sections or [name for name in LIMITS if name not in ASKED_FOR]
    if unknown := set(chosen) - set(LIMITS):
        raise typer.BadParameter(f"no section {min(unknown)}: choose among {', '.join(LIMITS)}")
    if device not in ("cuda", "cpu"):
        raise typer.BadParameter(f"no device {device}: choose cuda or cpu")

    # Folders and model files
    out.mkdir(parents=True, exist_ok=True)
    work.mkdir(parents=True, exist_ok=True)
    if models is None:
        models = work / "models"
        command = [sys.executable, "-m", "adae_edge.benchmarks.gpu.models", str(models)]
        subprocess.run(command, check=True)  # noqa: S603
    settings = Settings(device, models, mnist, work, seconds)

    # The sections
    card = first_gpu()
    record: dict[str, Any] = {
        "command": f"python -m adae_edge.benchmarks.gpu {' '.join(chosen)} --device {device} "
        f"--seconds {seconds:g} --budget {budget:g}",
        "machine": machine(),
        "gpu": card and card._asdict(),
        "sections": {},
    }
    with (out / "logs.txt").open("w") as log:
        for name in chosen:
            left = budget - (time.monotonic() - begun)
            section = _run(name, settings, min(LIMITS[name], left), log)
            record["sections"][name] = section
            text = json.dumps(without_paths(record), indent=1) + "\n"
            write_atomically(out / "results.json", text.encode())
            typer.echo(f"{name}: {section['ended']}, {section['seconds']} s")

    typer.echo(short(without_paths(record)))
    if sentences := failures(without_paths(record)):
        typer.echo("\n".join(sentences), err=True)
        raise typer.Exit(1)


def _run(name: str, settings: Settings, limit: float, log: IO[str]) -> dict[str, Any]:
    """Run a section for so many seconds at most: its exit code, its time, and its results."""
    if limit <= 0:
        return {"code": None, "seconds": 0, "ended": "not begun: the time is over", "results": {}}
    part = settings.work / f"section-{name}.json"
    part.unlink(missing_ok=True)
    log.write(f"==== {name}\n")
    log.flush()
    begun = time.monotonic()
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "adae_edge.benchmarks.gpu.section", name, settings.to_json(), part],
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    ended = "done"
    try:
        if process.wait(limit):
            ended = f"exit code {process.returncode}"
    except subprocess.TimeoutExpired:
        ended = f"stopped after {limit:.0f} s"
    finally:
        _end(process)
    return {
        "code": process.returncode,
        "seconds": round(time.monotonic() - begun, 1),
        "ended": ended,
        "results": json.loads(part.read_text()) if part.is_file() else {},
    }


def _end(process: subprocess.Popen[Any]) -> None:
    """End a section that still runs, with the processes that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


if __name__ == "__main__":
    typer.run(main)
