"""``adae-edge demo``: the whole line on handwritten digits, in a minute."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adae_edge.cli.shared import Seed
from adae_edge.extras import needs


def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for the report, the model and everything on the way.")
    ] = Path("demo"),
    seed: Seed = None,
) -> None:
    """Train, export and score handwritten digits: the whole line in a minute.

    One of the ten digits is held out as anomalous.
    """
    with needs("The demo", "cpu,train,export"):
        from adae_edge.cli.demonstration import run_demo
    run_demo(out, seed or 0)
