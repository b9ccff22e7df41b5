"""The command that runs a station: several streams, as a service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adae_edge.cli.shared import complain, mention, tell
from adae_edge.cli.stopping import gently


def run(
    station: Annotated[
        Path,
        typer.Argument(help="A TOML file whose [[stream]] tables have the options of score."),
    ],
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Check the file, its models and its sources, print all of it, and start nothing.",
        ),
    ] = False,
) -> None:
    """Run every stream of a file until it is stopped, as a service does."""
    from adae_edge.cli.station import check_parts, open_streams, read_station, shown
    from adae_edge.runtime.station import Station

    plans = read_station(station)
    if check:
        check_parts(station, plans)
        typer.echo(shown(plans), nl=False)
        return
    with (
        gently() as on_signal,
        open_streams(station, plans, tell) as streams,
    ):
        running = Station(streams, complain)
        on_signal(running.stop, running.reload)
        whole = running.run()
        for number, stream in enumerate(streams, 1):
            mention(f"stream {number}: {stream.summary}")
    if not whole:
        raise typer.Exit(1)
