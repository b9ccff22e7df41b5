"""What fp16 and int8 cost and gain on trained networks: the table of every export's gate.

python -m adae_edge.benchmarks.against.precisions NAME=CHECKPOINT[,FRAMES]... [--json FILE]
[--markdown FILE]

FRAMES is a folder as for ``export --frames``; with subfolders ``normal`` and ``anomalous`` the
AUROC is told.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from adae_edge.benchmarks.record import record
from adae_edge.contract import PRECISIONS, Form
from adae_edge.errors import AdaeEdgeError
from adae_edge.export.exporter import export
from adae_edge.formats.files import write_atomically, write_json


def main(
    models: Annotated[list[str], typer.Argument(metavar="NAME=CHECKPOINT[,FRAMES]...")],
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
    markdown_file: Annotated[Path | None, typer.Option("--markdown")] = None,
) -> None:
    """Export every checkpoint in every precision, and print what the gate and the cost say."""
    rows = []
    for model in models:
        name, _, paths = model.partition("=")
        checkpoint, _, frames = paths.partition(",")
        for precision in PRECISIONS:
            try:
                rows.append(
                    measured(name, Path(checkpoint), Path(frames) if frames else None, precision)
                )
            except AdaeEdgeError as error:
                raise typer.BadParameter(f"{name}, {precision}: {error}") from error
            typer.echo(rows[-1], err=True)
    typer.echo(as_markdown(rows))
    if json_file is not None:
        write_json(json_file, record(rows=rows))
    if markdown_file is not None:
        write_atomically(markdown_file, (as_markdown(rows) + "\n").encode())


def measured(name: str, checkpoint: Path, frames: Path | None, precision: str) -> dict[str, Any]:
    """One export, into a folder that is thrown away.

    Raises:
        AdaeEdgeError: as ``export``.
    """
    with tempfile.TemporaryDirectory() as folder:
        exported = export(checkpoint, Path(folder) / "model.onnx", frames, Form(precision))
    contract, parity = exported.contract, exported.parity
    return {
        "model": name,
        "kind": contract.kind,
        "channels": contract.channels,
        "side": contract.side,
        "network": asdict(contract.network),
        "precision": precision,
        "bytes": exported.bytes,
        "parity": {"scores": parity.scores, "error": parity.error, "tolerance": parity.tolerance},
        "cost": asdict(exported.cost) if exported.cost else None,
    }


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """A row for each model and precision."""
    lines = [
        "| model | precision | convolutions | MB | 90 % of reference frames within (allowed) "
        "| score error beside fp32: median, 90 %, 99 %, largest | flipped | AUROC (fp32) | "
        "throughput at batch 1, 64 |",
        "|---|---|---|---:|---|---|---|---|---|",
    ]
    for row in rows:
        cost, parity = row["cost"], row["parity"]
        convolutions = "{} of {}".format(*cost["convolutions"]) if cost else "all in fp32"
        cells = [row["model"], row["precision"], convolutions, f"{row['bytes'] / 1e6:.2f}"]
        cells.append(f"{parity['error']:.1e} ({parity['tolerance']:.0e})")
        if cost:
            cells.append(", ".join(f"{error:.1e}" for error in cost["errors"]))
            cells.append(f"{cost['flipped']} of {cost['frames']}")
            cells.append("{1:.4f} ({0:.4f})".format(*cost["auroc"]) if cost["auroc"] else "-")
            cells.append(", ".join(f"{ratio:.2f}" for ratio in cost["speed"].values()))
        else:
            cells += ["-"] * 4
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
