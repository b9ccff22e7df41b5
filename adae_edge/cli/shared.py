"""What several commands share: options, parsers of their values, and complaints."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from adae_edge.errors import UsageError, printable, without_password

if TYPE_CHECKING:
    from adae_edge.contract import Contract, Region
    from adae_edge.contract import Window as GreyWindow
    from adae_edge.runtime.frame import Event


# Options that several commands have.
Window = Annotated[
    str | None,
    typer.Option(
        help="CENTER,WIDTH of the grey values of DICOM files, in place of their own VOI window."
    ),
]

OtherWindow = Annotated[
    str | None,
    typer.Option(
        help="CENTER,WIDTH of the grey values of DICOM files, in place of the training's."
    ),
]

Exact = Annotated[
    bool,
    typer.Option(
        "--exact", help="Decode videos and JPEGs at full size, and shrink in the graph alone."
    ),
]
BrainMask = Annotated[
    Path | None,
    typer.Option(
        help="Brain mask for volumes that show the skull: a NIfTI file, a DICOM segmentation, or a "
        "folder of them, with names as VOLUME_*.nii.gz."
    ),
]

Device = Annotated[
    str | None,
    typer.Option(
        help="cpu, cuda, tensorrt (builds an engine for each new size) or openvino; never another "
        "one in its place. An engine file has its own [default: cpu]."
    ),
]

Seed = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=2**31 - 1,
        help="Random seed for the split, the first weights and the order of batches [default: 0].",
    ),
]

Spool = Annotated[
    Path | None,
    typer.Option(help="Folder where DICOM that comes over the network is kept until it is scored."),
]
TlsCert = Annotated[
    Path | None,
    typer.Option(
        help="Own certificate, for archives that are asked, and for dicom-scp, which then takes "
        "encrypted DICOM alone."
    ),
]
TlsKey = Annotated[Path | None, typer.Option(help="Key of that certificate.")]
TlsCa = Annotated[
    Path | None,
    typer.Option(
        help="Certificates of those who sign the ones that senders and archives have to show."
    ),
]

Item = TypeVar("Item")


def complain(sentence: str) -> None:
    """Print a sentence on the standard error output, with the program's name before it."""
    mention(f"adae-edge: {printable(without_password(sentence))}")


def mention(line: str) -> None:
    """Print a line on the standard error output.

    Where that is gone or its disk is full, nobody hears it, and the work goes on.
    """
    with contextlib.suppress(OSError):
        typer.echo(line, err=True)


def stand_in() -> None:
    """Open what the caller closed of the three standard streams, which lead nowhere then.

    Results would get their numbers, and what a decoder prints would stand among the rows.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)


def tell(event: Event) -> None:
    """Print an event, unless it only tells where a series in a folder of files ends."""
    if event.series is None or event.series.complete != "files":
        complain(event.detail)


def settle() -> None:
    """Drop complaints that could not be printed, over which Python would fail at exit."""
    try:
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def three_of(values: list[Item], option: str) -> tuple[Item, Item, Item]:
    """MIN,OPT,MAX of an option, or one value for all three.

    Raises:
        UsageError: there are two values, or more than three.
    """
    if len(values) not in (1, 3):
        raise UsageError(
            f"{option} takes the smallest, the most frequent and the largest, or one for all three"
        )
    return values[0], values[len(values) // 2], values[-1]


def calibrated(contract: Contract) -> str:
    """The new threshold and what it promises, and the map's, in a line for the terminal."""
    calibration = contract.calibration
    line = (
        f"threshold {calibration.threshold:.4f}: {contract.promise}, "
        f"by {calibration.normals} calibration normals"
    )
    if calibration.map_threshold is not None:
        line += f"; {calibration.map_threshold:.4f} for the map, with the same promise"
    return line


def region_of(text: str | None) -> Region | None:
    """The region that ``--roi`` gives as LEFT,TOP,WIDTH,HEIGHT.

    Raises:
        UsageError: it is something else.
    """
    from adae_edge.contract import Region

    if text is None:
        return None
    edges = numbers_of(text, "--roi")
    if len(edges) != 4 or min(edges[2:]) < 1:
        raise UsageError(
            f"--roi takes LEFT,TOP,WIDTH,HEIGHT in pixels, and {text} is something else"
        )
    return Region(*edges)


def window_of(text: str | None) -> GreyWindow | None:
    """The centre and width that ``--window`` gives.

    Raises:
        UsageError: it is something else.
    """
    from adae_edge.contract import Window as GreyWindow

    if text is None:
        return None
    try:
        center, width = (float(part) for part in text.split(","))
        if not (abs(center) < 1e9 and 1 <= width < 1e9):
            raise ValueError
    except ValueError as error:
        raise UsageError(
            f"--window takes CENTER,WIDTH with a width of 1 or more, and {text} is something else"
        ) from error
    return GreyWindow(center, width)


def numbers_of(text: str, option: str) -> list[int]:
    """The whole numbers of an option, with commas between them.

    Raises:
        UsageError: it is something else.
    """
    parts = text.split(",")
    if not all(re.fullmatch(r"\s*[0-9]{1,18}\s*", part) for part in parts):
        raise UsageError(
            f"{option} takes whole numbers with commas between them, and {text} is something else"
        )
    return [int(part) for part in parts]


def seconds_of(text: str, option: str) -> float:
    """The seconds of an option that takes a time, such as 20ms or 1.5s.

    Raises:
        UsageError: it is something else.
    """
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s)", text.strip())
    if match is None:
        raise UsageError(
            f"{option} takes a time such as 20ms or 1.5s, and {text} is something else"
        )
    return float(match[1]) * (1e-3 if match[2] == "ms" else 1)


def bytes_of(text: str, option: str) -> int:
    """The bytes of an option that takes a size, such as 100MB.

    Raises:
        UsageError: it is something else.
    """
    from adae_edge.runtime import query

    try:
        return query.bytes_of(text.strip())
    except ValueError as error:
        raise UsageError(f"{option} takes {error}, and {text} is something else") from error
