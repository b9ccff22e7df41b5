"""The command ``bench``: how fast a model is on this machine, and whether that can be believed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adae_edge.cli.shared import Device, complain, numbers_of
from adae_edge.cli.stopping import Stopped, gently


def bench(
    model: Annotated[Path, typer.Argument(help="A model file, or an engine.")],
    batch: Annotated[str, typer.Option(help="Batch sizes.")] = "1,4,16,64",
    size: Annotated[
        list[str] | None,
        typer.Option(
            help="Frame size WIDTHxHEIGHT; may be repeated [default: the network's, 640x480, and "
            "what a video of that is shrunk to]."
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.1, help="Measuring time for each size and batch.")
    ] = 2.0,
    device: Device = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="CPU threads [default: all that this process may use]."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures as JSON.")
    ] = None,
    markdown_file: Annotated[
        Path | None, typer.Option("--markdown", help="Write the table as Markdown.")
    ] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Fail where a run was disturbed, throttled or unstable."),
    ] = False,
) -> None:
    """Measure latency and throughput of a model on this machine."""
    from adae_edge.benchmarks.bench import BenchRequest, run_bench

    request = BenchRequest(
        model=model,
        batches=numbers_of(batch, "--batch"),
        sizes=size or [],
        seconds=seconds,
        device=device,
        threads=threads,
        json_file=json_file,
        markdown_file=markdown_file,
        strict=strict,
    )
    with gently() as on_signal:
        outcome = run_bench(request, on_signal)
    for sentence in outcome.failed:
        complain(sentence)
    if Stopped.asked:
        raise Stopped
    if outcome.failed:
        raise typer.Exit(1)
