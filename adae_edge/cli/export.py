"""The commands around model files: export, engine and inspect."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from adae_edge.cli.shared import numbers_of, three_of
from adae_edge.errors import MissingExtra, ParityError, UsageError
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
            "checkpoint carries; "
            "with subfolders normal and anomalous the cost in AUROC is told."
        ),
    ] = None,
    precision: Annotated[
        str, typer.Option(help="Of both autoencoders: fp32, fp16 or int8.")
    ] = "fp32",
    target: Annotated[
        str,
        typer.Option(
            help="portable; openvino, with the transposed convolutions as it runs them faster; or "
            "tensorrt, with int8 "
            "as it takes it."
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
            help="A second output that shows where: network or frame, whose pixels it has."
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
    """Fuse both autoencoders into one ONNX file that outputs the score, once its scores are shown to be PyTorch's."""
    from adae_edge.contract import MAPS, PRECISIONS, TARGETS, Form
    from adae_edge.decoding.images import frame_size

    for value, option, known in (
        (precision, "--precision", PRECISIONS),
        (target, "--target", TARGETS),
    ):
        if value not in known:
            raise UsageError(f"{option} is one of {', '.join(known)}, and {value} is none of them")
    if anomaly_map not in (None, *MAPS):
        raise UsageError(f"--anomaly-map is {' or '.join(MAPS)}, and {anomaly_map} is neither")
    size = None if fixed_size is None else frame_size(fixed_size)[::-1]
    with needs("The export", "export,cpu"):
        from adae_edge.export.examples import check_examples, write_examples
        from adae_edge.export.graph import export as run_export
        from adae_edge.export.triton import check_repository, write_repository
    if example is not None:
        check_examples(example)  # before the gate, which takes its time
    out = out or checkpoint.with_name(checkpoint.name.removesuffix(".safetensors") + ".onnx")
    if triton is not None:
        check_repository(out.stem, triton)
    exported = run_export(
        checkpoint, out, frames, Form(precision, target, size, fixed_batch, anomaly_map)
    )
    parity = exported.parity
    lacking = (
        f"\nunverified, for this machine lacks them: {', '.join(parity.unverified)}"
        if parity.unverified
        else ""
    )
    typer.echo(
        f"parity: {parity.scores} scores by {', '.join(parity.verified)}, nine frames in ten "
        "within "
        f"{parity.error:.1e} of PyTorch's ({parity.tolerance:.0e} allowed), {parity.flipped} "
        f"decisions flipped{lacking}"
    )
    if exported.cost:
        typer.echo(exported.cost.lines(precision))
    typer.echo(
        f"wrote {out}: {exported.bytes / 1e6:.2f} MB, opset {exported.opset}; next: "
        + (
            f"adae-edge calibrate {out} NORMALS"
            if precision == "int8"
            else f"adae-edge score {out} SOURCE"
        )
    )
    if example is not None:
        typer.echo(f"wrote {' and '.join(map(str, write_examples(exported.contract, example)))}")
    if triton is not None:
        typer.echo(
            f"wrote {write_repository(out.stem, exported.contract, out.read_bytes(), triton)}"
        )


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
            help="Of a GPU that will run it, as 8.6; may be repeated; tensorrt_rtx alone "
            "[default: this machine's]."
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
    """Build a TensorRT engine of a model file, on the machine that will run it or for GPUs by their number."""
    from adae_edge.decoding.images import frame_size as size_of
    from adae_edge.export.engine import Wanted, build_engine

    batches = None if batch is None else three_of(numbers_of(batch, "--batch"), "--batch")
    sizes = (
        None
        if frame_size is None
        else three_of([size_of(s)[::-1] for s in frame_size.split(",")], "--frame-size")
    )
    terminal = sys.stderr.isatty()

    def progress(seconds: float, phase: str) -> None:
        if terminal:
            typer.echo(f"\r\x1b[K{seconds:.0f} s: {phase}", err=True, nl=False)

    out = out or model.with_name(model.name.removesuffix(".onnx") + ".engine")
    try:
        built = build_engine(
            model,
            out,
            Wanted(flavour, tuple(compute_capability or ()), batches, sizes, workspace),
            progress,
        )
    finally:
        if terminal:
            typer.echo("\r\x1b[K", err=True, nl=False)
    about = built.engine
    typer.echo(
        f"{about.flavour} {about.version} built it in {built.seconds:.1f} s for "
        f"{about.gpu or 'any GPU'} of compute capability "
        f"{about.compute_capability.replace(',', ' or ')}"
    )
    typer.echo(
        "it takes frames of {} to {}, best {}".format(
            *(about.options["frame_size"][at] for at in (0, 2, 1))
        )
        + ", {} to {} in a run, best {}".format(*(about.options["batch"][at] for at in (0, 2, 1)))
    )
    typer.echo(
        "the layers' precisions could not be inspected, for no GPU here loads the engine"
        if built.half is None
        else "{} of {} layers give float16".format(*built.half)
    )
    if built.half is not None:
        _compare_engine(out, model)
    typer.echo(f"wrote {out}: {built.bytes / 1e6:.2f} MB; next: adae-edge score {out} SOURCE")


def _compare_engine(engine_file: Path, model: Path) -> None:
    """Keep an engine only if it scores as ONNX Runtime does, where that is installed."""
    from adae_edge.export.engine_gate import compare

    try:
        count, worst = compare(engine_file, model)
    except MissingExtra:
        typer.echo("its scores could not be compared, for ONNX Runtime is not installed")
    except ParityError:
        engine_file.unlink()
        raise
    else:
        typer.echo(
            f"parity: {count} scores of extreme frames, at most {worst:.1e} from ONNX Runtime's"
        )


def inspect(
    model: Annotated[Path, typer.Argument(help="A model file, or an engine.")],
    other: Annotated[
        Path | None, typer.Argument(help="Another one: show only what differs between the two.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the same as JSON.")] = False,
) -> None:
    """Show what a model file or an engine expects, returns and contains, or what differs between two of them."""
    from adae_edge.formats import enginefile, inspection

    file = enginefile.read_either(model)
    if other is not None:
        differing = inspection.differences(file, enginefile.read_either(other))
        typer.echo(
            json.dumps(differing, indent=2)
            if as_json
            else inspection.describe_differences(differing)
        )
    else:
        typer.echo(
            json.dumps(inspection.facts(file), indent=2) if as_json else inspection.describe(file)
        )
