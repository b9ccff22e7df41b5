"""What a log of tegrastats says of each power rail: to hold beside the energy that bench tells.

sudo tegrastats --interval 100 --logfile LOG & adae-edge bench MODEL; sudo tegrastats --stop
python -m adae_edge.benchmarks.tegrastats LOG

Both read a Jetson's INA3221. While the model runs, a rail here is to agree with its "watts" in the
JSON of bench: nobody has seen that on a Jetson yet.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from adae_edge.errors import UsageError

# A rail, what it takes now and at the mean; TX2 and older write no unit.
_RAIL = re.compile(r"\b((?:VDD|VIN|POM|CPU|GPU|SOC|CV|SYS|VDDRQ)\w*) (\d+)(?:mW)?/\d+(?:mW)?(?!\w)")


def main(
    log: Annotated[
        Path,
        typer.Argument(help="What tegrastats --logfile wrote.", exists=True, dir_okay=False),
    ],
) -> None:
    """Print the mean and the highest power of each rail, watts."""
    try:
        found = rails(log.read_text(errors="replace"))
    except UsageError as error:
        raise typer.BadParameter(str(error)) from error
    for rail, watts in found.items():
        typer.echo(f"{rail:20} {np.mean(watts):8.3f} W, {max(watts):.3f} W at most")


def rails(text: str) -> dict[str, list[float]]:
    """The power of each rail in each line of a log, watts.

    Raises:
        UsageError: no line tells of power, as without root.
    """
    found: defaultdict[str, list[float]] = defaultdict(list)
    for line in text.splitlines():
        for rail, milliwatts in _RAIL.findall(line):
            found[rail].append(int(milliwatts) / 1e3)
    if not found:
        raise UsageError("no line tells the power of a rail: tegrastats tells it to root alone")
    return dict(found)


if __name__ == "__main__":
    typer.run(main)
