"""The commands around model files: export, engine and inspect."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from adae_edge.cli.shared import numbers_of, three_of
from adae_edge.errors import UsageError
from adae_edge.extras import needs


def export(
    checkpoint: Annotated[Path, typer.Argument(help="A finished checkpoint.")],
    out: Annotated[
        Path | None,
        typer.Option(help="The model file [default: the checkpoint's name with .onnx]."),
    ] = None,
    frames: Annotated[
        Path | None,
        typer.Option(
            help="Folder of normal frames for the gate and for int8, in place of those that the "
            "checkpoint carries; with subfolders normal and anomalous the cost in AUROC is told."
        ),
    ] = None,
    precision: Annotated[
        str, typer.Option(help="Arithmetic of both autoencoders: fp32, fp16 or int8.")
    ] = "fp32",
    target: Annotated[
        str,
        typer.Option(
            help="What will run the file: portable for anything; openvino, with the transposed "
            "convolutions as it runs them faster; or tensorrt, with int8 as it takes it."
        ),
    ] = "portable",
    fixed_size: Annotated[
        str | None,
        typer.Option(help="WIDTHxHEIGHT of all frames: faster, and no other size is taken."),
    ] = None,
    fixed_batch: Annotated[
        int | None,
        typer.Option(
            min=1, max=4096, help="Frames in every run of the graph; fewer are filled up."
        ),
    ] = None,
    anomaly_map: Annotated[
        str | None,
        typer.Option(
            help="A second output that shows where: in the pixels of the network or of the frame."
        ),
    ] = None,
    example: Annotated[
        Path | None,
        typer.Option(help="Folder for score.py and score.cpp, which score without adae-edge."),
    ] = None,
    triton: Annotated[
        Path | None,
        typer.Option(help="Model repository of Triton Inference Server that gets the model, too."),
    ] = None,
) -> None:
    """Fuse both autoencoders into one ONNX file, once its scores are shown to be PyTorch's."""
    from adae_edge.contract import Form
    from adae_edge.decoding.images import frame_size

    size = None if fixed_size is None else frame_size(fixed_size)[::-1]
    form = Form(precision, target, size, fixed_batch, anomaly_map)
    with needs("The export", "export,cpu"):
        from adae_edge.export import exporter
    exported = exporter.export(checkpoint, out, frames, form, example=example, triton=triton)
    typer.echo(exported.lines())


def engine(
    model: Annotated[Path, typer.Argument(help="A model file.")],
    out: Annotated[
        Path | None,
        typer.Option(help="The engine file [default: the model file's name with .engine]."),
    ] = None,
    flavour: Annotated[
        str | None,
        typer.Option(help="tensorrt or tensorrt_rtx [default: the one that is installed]."),
    ] = None,
    compute_capability: Annotated[
        list[str] | None,
        typer.Option(
            help="Compute capability of a GPU that will run it, as 8.6; may be repeated; "
            "tensorrt_rtx alone [default: this machine's]."
        ),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(
            help="MIN,OPT,MAX frames in a run, or one number [default: 1,1 and what fits into 256 "
            "MiB]."
        ),
    ] = None,
    frame_size: Annotated[
        str | None,
        typer.Option(
            help="MIN,OPT,MAX of the frames, each WIDTHxHEIGHT, or one size "
            "[default: the model's own, or 8x8,640x480,1920x1080, of slices 8x8,256x256,1024x1024]."
        ),
    ] = None,
    workspace: Annotated[
        int | None,
        typer.Option(min=1, max=2**20, help="MiB that layers may use beside inputs and outputs."),
    ] = None,
) -> None:
    """Build a TensorRT engine of a model file, for this machine's GPU or for named ones."""
    from adae_edge.decoding.images import frame_size as size_of
    from adae_edge.export.engine import build_engine
    from adae_edge.export.engine_request import EngineRequest

    batches = sizes = None
    if batch is not None:
        batches = three_of(numbers_of(batch, "--batch"), "--batch")
    if frame_size is not None:
        given = [size_of(text)[::-1] for text in frame_size.split(",")]
        sizes = three_of(given, "--frame-size")
    capabilities = tuple(compute_capability or ())
    request = EngineRequest(flavour, capabilities, batches, sizes, workspace)
    with _progress_line() as progress:
        built = build_engine(model, out, request, progress)
    typer.echo(built.lines())


def inspect(
    model: Annotated[Path, typer.Argument(help="A model file, or an engine.")],
    other: Annotated[
        Path | None, typer.Argument(help="Another one: show only what differs between the two.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the same as JSON.")] = False,
    plan: Annotated[
        Path | None,
        typer.Option(help="Also write an engine's plan alone to this file, for trtexec to load."),
    ] = None,
) -> None:
    """Show what a model file or an engine expects and contains, or how two of them differ."""
    from adae_edge.formats import enginefile, inspection
    from adae_edge.formats.files import check_writable, real_path, write_atomically

    check_writable(plan)
    file = enginefile.read_either(model)
    if plan is not None:
        if not isinstance(file, enginefile.Engine):
            raise UsageError(f"{model} is a model file, and only an engine has a plan")
        if real_path(plan) == real_path(model):
            raise UsageError(f"{plan} is the engine itself: give the plan another name")
        write_atomically(plan, file.plan)
    if other is None:
        facts, text = inspection.facts(file), inspection.describe(file)
    else:
        facts = inspection.differences(file, enginefile.read_either(other))
        text = inspection.describe_differences(facts)
    typer.echo(json.dumps(facts, indent=2) if as_json else text)


@contextlib.contextmanager
def _progress_line() -> Iterator[Callable[[float, str], None]]:
    """Show seconds and phase in one line of the terminal, which is empty again at the end."""
    terminal = sys.stderr.isatty()

    def progress(seconds: float, phase: str) -> None:
        if terminal:
            typer.echo(f"\r\x1b[K{seconds:.0f} s: {phase}", err=True, nl=False)

    try:
        yield progress
    finally:
        if terminal:
            typer.echo("\r\x1b[K", err=True, nl=False)
