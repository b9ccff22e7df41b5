"""The model files that the kit scores with.

python -m adae_edge.benchmarks.gpu.models FOLDER [NAME]...

The networks are those of Appendix A with random weights, which do not change the time, in the forms
that an export writes. Each file is loaded once, as a user would, before it counts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adae_edge.benchmarks.against.contenders import exported
from adae_edge.contract import Form
from adae_edge.formats.files import write_atomically

# Network, channels and form. A file of the larger network takes 5 MB.
FILES = {
    "a1-any": ("a", 1, Form()),
    "a1-32": ("a", 1, Form(size=(32, 32))),
    "a1-32-fp16": ("a", 1, Form("fp16", size=(32, 32))),
    "a3-any": ("a", 3, Form()),
    "a3-640x480": ("a", 3, Form(size=(480, 640))),
    "a3-1920x1080": ("a", 3, Form(size=(1080, 1920))),
    "b3-32": ("b", 3, Form(size=(32, 32))),
    "b3-32-fp16": ("b", 3, Form("fp16", size=(32, 32))),
}


def main(
    folder: Annotated[Path, typer.Argument(help="Where the files go.")],
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Some of the files, or all.")
    ] = None,
) -> None:
    """Export the networks, checked as the runtime checks them, and write them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or FILES:
        data = exported(*FILES[name]).data
        write_atomically(folder / f"{name}.onnx", data)
        typer.echo(f"{name}: {len(data) / 1e6:.2f} MB")


if __name__ == "__main__":
    typer.run(main)
