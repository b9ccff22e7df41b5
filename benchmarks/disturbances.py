"""Whether ``adae-edge bench`` names what disturbed it, by the right verdict and by no other.

python -m adae_edge.benchmarks.disturbances MODEL [--times 10] [--seconds 2] [--json FILE]

The command runs one time after the other: on a machine that is left alone, beside a busy loop for
each CPU, on one CPU with a pinned neighbour, and under a quota of a fifth of a CPU. The quota needs
a cgroup that may be made, which takes root; without one that row is left out.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any

import typer

from adae_edge.benchmarks.record import record
from adae_edge.formats.files import write_json

Before = Callable[[], object]

_GROUPS = Path("/sys/fs/cgroup")
_PERIOD_US = 100_000
_MOST_NAMED = 0.1  # of the quiet runs
_BUSY = "while True: pass"


def main(
    model: Annotated[Path, typer.Argument(help="A model file.")],
    times: Annotated[int, typer.Option(min=1, help="Runs of each kind.")] = 10,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of each run.")] = 2.0,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Print how many runs of each kind got the verdict that they should, and no other."""
    rows = []
    kinds: dict[str, tuple[str, Callable[[], AbstractContextManager[Before]]]] = {
        "quiet": ("", left_alone),
        "a busy loop for each CPU": ("disturbed", busy_loops),
        "a pinned neighbour": ("disturbed", pinned_neighbour),
        "a quota of a fifth of a CPU": ("throttled", quota),
    }
    for kind, (verdict, around) in kinds.items():
        try:
            with around() as before:
                runs = [
                    bench(model, "--threads", "1", "--seconds", f"{seconds:g}", before=before)
                    for _ in range(times)
                ]
        except OSError as error:
            typer.echo(f"{kind}: left out, {error.strerror}")
            continue
        rows.append(judged(kind, verdict, [run["measurements"][0] for run in runs]))
        typer.echo(
            "{kind}: {right} of {runs} right, named {named}, waited {waited}".format(**rows[-1])
        )
    if json_file is not None:
        write_json(json_file, record(seconds=seconds, rows=rows))


def judged(kind: str, verdict: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """How many runs have this verdict alone, "" for none; JSON types.

    Args:
        kind: of the runs.
        verdict: that they should have.
        runs: measurements of ``bench``.
    """
    told = [[each["name"] for each in run["verdicts"]] for run in runs]
    right = sum(names == ([verdict] if verdict else []) for names in told)
    named = sorted({name for names in told for name in names})
    waited = [run["conditions"]["waiting"] or 0.0 for run in runs]
    least = len(runs) if verdict else len(runs) - int(_MOST_NAMED * len(runs))
    return {
        "kind": kind,
        "runs": len(runs),
        "should be": verdict or "none",
        "right": right,
        "named": ", ".join(named) or "none",
        "waited": f"{min(waited):.1%} to {max(waited):.1%}",
        "goal": f"at least {least}",
        "met": right >= least,
        "because": [each["because"] for run in runs for each in run["verdicts"]],
    }


def bench(model: Path, *options: str, before: Before | None = None) -> dict[str, Any]:
    """The JSON of ``adae-edge bench`` on frames of the network's size, one at a time unless told.

    Args:
        model: a model file.
        options: of the command.
        before: called in the process before it begins.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bench.json"
        command = [sys.executable, "-m", "adae_edge", "bench", str(model), "--json", str(file)]
        if "--batch" not in options:
            command += ["--batch", "1"]
        done = subprocess.run(  # noqa: S603
            [*command, "--size", "32x32", *options],
            capture_output=True,
            text=True,
            preexec_fn=before,
        )
        if done.returncode:
            typer.echo(done.stderr, err=True, nl=False)
            raise typer.Exit(done.returncode)
        return dict(json.loads(file.read_bytes()))


@contextlib.contextmanager
def left_alone() -> Iterator[Before]:
    """Nothing else runs, as far as this command can tell."""
    yield lambda: None


@contextlib.contextmanager
def busy_loops() -> Iterator[Before]:
    """A busy loop for each CPU, wherever the system puts them."""
    with _busy(len(os.sched_getaffinity(0)), lambda: None):
        yield lambda: None


@contextlib.contextmanager
def pinned_neighbour() -> Iterator[Before]:
    """A busy loop on the one CPU on which the measuring process may run."""
    cpu = {min(os.sched_getaffinity(0))}

    def pin() -> None:
        os.sched_setaffinity(0, cpu)

    with _busy(1, pin):
        yield pin


@contextlib.contextmanager
def quota() -> Iterator[Before]:
    """A cgroup with a fifth of a CPU, of either version; raises OSError where none can be made."""
    first = (_GROUPS / "cpu").is_dir()
    group = (_GROUPS / "cpu" if first else _GROUPS) / f"adae-edge-{os.getpid()}"
    group.mkdir()
    try:
        if first:
            (group / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(_PERIOD_US // 5))
        else:
            (group / "cpu.max").write_text(f"{_PERIOD_US // 5} {_PERIOD_US}")
        yield lambda: (group / "cgroup.procs").write_text(str(os.getpid()))
    finally:
        group.rmdir()


@contextlib.contextmanager
def _busy(count: int, before: Before) -> Iterator[None]:
    """So many processes that never wait."""
    command = [sys.executable, "-c", _BUSY]
    processes = [
        subprocess.Popen(command, preexec_fn=before)  # noqa: S603
        for _ in range(count)
    ]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    typer.run(main)
