"""Reading a folder of JPEGs as ``score`` does, against Pillow alone, in turns.

python -m adae_edge.benchmarks.against.decoding FOLDER [--rounds 30] [--json FILE]

Pillow conceals lost data, and simplejpeg says so; the folder's links and other files are looked at,
too. The goal is a ratio of at most 1.03.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image, ImageOps

from adae_edge.benchmarks.paired import Comparison, Ratio
from adae_edge.benchmarks.record import record
from adae_edge.decoding.kinds import is_dicom
from adae_edge.formats.files import check_writable, write_json
from adae_edge.runtime.frame import Frame
from adae_edge.runtime.sources.registry import open_source

_OURS, _PILLOW = "adae-edge", "Pillow"


def main(
    folder: Path,
    rounds: Annotated[int, typer.Option(min=1)] = 30,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Print the median times of the whole folder, and the median ratio of a round."""
    check_writable(json_file)
    comparison = Comparison(
        group="decoding",
        what="a folder of JPEGs",
        contenders={_OURS: lambda: _by_source(folder), _PILLOW: lambda: _by_pillow(folder)},
        ratios=(Ratio(_OURS, _PILLOW, at_most=1.03),),
    )
    if not np.array_equal(_by_source(folder), _by_pillow(folder)):
        raise typer.BadParameter("the two do not give the same pixels")
    measured = comparison.measure(rounds)
    for name, figures in measured["contenders"].items():
        typer.echo(f"{name:<10}{figures['ms']:9.2f} ms")
    (ratio,) = measured["ratios"]
    typer.echo(f"ratio {ratio['ratio']}, {ratio['goal']}: {'met' if ratio['met'] else 'not met'}")
    if json_file is not None:
        write_json(json_file, record(measured=measured))


def _by_source(folder: Path) -> NDArray[np.float32]:
    """The mean of each frame of the folder's source, float32 [N]."""
    frames = (item for item in open_source(str(folder)) if isinstance(item, Frame))
    return np.array([frame.pixels.mean() for frame in frames], np.float32)


def _by_pillow(folder: Path) -> NDArray[np.float32]:
    """The same by Pillow, in the order of the paths, float32 [N]."""
    means = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.suffix.lower() not in (".jpg", ".jpeg") or is_dicom(path):
            continue
        with Image.open(path, formats=("JPEG",)) as image:
            upright = ImageOps.exif_transpose(image)
            means.append(np.asarray(upright.convert("L" if image.mode == "L" else "RGB")).mean())
    return np.array(means, np.float32)


if __name__ == "__main__":
    typer.run(main)
