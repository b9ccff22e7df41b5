"""The command ``bench``: how fast a model is on this machine, and whether that can be believed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adae_edge.cli.shared import Device, Exact, complain, numbers_of
from adae_edge.cli.stopping import Stopped, gently


def bench(
    model: Annotated[Path, typer.Argument(help="A model file, or an engine.")],
    source: Annotated[
        str | None,
        typer.Argument(
            help="A source as for score, to measure the whole way of its frames [default: made-up "
            "frames in memory, and the model alone]."
        ),
    ] = None,
    to: Annotated[
        list[str] | None,
        typer.Option(help="Sink as for score, whose time counts; may be repeated."),
    ] = None,
    batch: Annotated[
        str | None, typer.Option(help="Batch sizes of made-up frames [default: 1,4,16,64].")
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(
            help="Frame size WIDTHxHEIGHT; may be repeated [default: the network's, 640x480, and "
            "what a video of that is shrunk to]."
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=604_800,
            help="Measuring time [default: 2 for each size and batch; as long as a source lasts, "
            "but 10 at most].",
        ),
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(
            help="Frames that are due in a second, done or not; or 'max:p99<20ms' for the most "
            "that hold a latency [default: each when the one before it is done]."
        ),
    ] = None,
    exact: Exact = False,
    device: Device = None,
    threads: Annotated[
        str | None,
        typer.Option(
            help="CPU threads of a scorer, or several numbers of them, as 1,2,4 [default: all that "
            "this process may use]."
        ),
    ] = None,
    streams: Annotated[
        str, typer.Option(help="How many scorers call at the same time, or several numbers.")
    ] = "1",
    processes: Annotated[
        bool,
        typer.Option("--processes", help="Give each of these scorers a process of its own."),
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures as JSON.")
    ] = None,
    markdown_file: Annotated[
        Path | None, typer.Option("--markdown", help="Write the table as Markdown.")
    ] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", help="Draw the figures as one HTML file.")
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option(help="JSON of an earlier run, to which ratios with intervals are told."),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Compare with another model, source or frame size, too."),
    ] = False,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(help="Fail where this holds, as 'p99_ms > 20'; may be repeated."),
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
        source=source,
        sinks=to or [],
        batches=[] if batch is None else numbers_of(batch, "--batch"),
        sizes=size or [],
        seconds=seconds,
        rate=rate,
        exact=exact,
        device=device,
        threads=[] if threads is None else numbers_of(threads, "--threads"),
        streams=numbers_of(streams, "--streams"),
        processes=processes,
        json_file=json_file,
        markdown_file=markdown_file,
        html_file=html_file,
        compare=compare,
        force=force,
        fail_if=fail_if or [],
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
