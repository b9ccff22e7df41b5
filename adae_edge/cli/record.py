"""The command record: normal frames from a source, and a page to weed them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adae_edge.cli.shared import complain, mention, seconds_of
from adae_edge.cli.stopping import gently

if TYPE_CHECKING:
    from adae_edge.runtime.sources.source import Source

_LONG_S = 3600.0


def record(
    source: Annotated[str, typer.Argument(help="A source of frames, as for score.")],
    folder: Annotated[Path, typer.Argument(help="Folder that the frames go to, or are added to.")],
    frames: Annotated[int, typer.Option(min=1, help="Record this many frames at most.")] = 1000,
    every: Annotated[
        str, typer.Option(help="Time from one frame of a camera or video to the next; 0s: all.")
    ] = "1s",
) -> None:
    """Record normal frames as PNG files, with a contact sheet to weed them.

    Ctrl-C ends it, and keeps what was recorded.
    """
    from adae_edge.runtime.record import record as run

    every_s = seconds_of(every, "--every")
    with gently() as on_signal:

        def started(opened: Source) -> None:
            on_signal(opened.stop)
            takes_s = frames * every_s
            if opened.live and takes_s > _LONG_S:
                hours = f"{takes_s / 3600:,.1f} hours"
                mention(f"{frames} frames, {every_s:g} s apart, take {hours}; Ctrl-C ends it")

        done = run(source, folder, frames, every_s, lambda event: complain(event.detail), started)
    sizes = ", ".join(f"{count} of {w} x {h}" for (h, w), count in done.sizes.most_common())
    left_out = f"; {done.copies} equal the frame before and were left out" if done.copies else ""
    typer.echo(
        f"recorded {done.frames} frames into {folder}: {sizes} pixels{left_out}\n"
        f"look at {done.page}, and remove what is not normal"
    )
    if done.failures:
        raise typer.Exit(1)
