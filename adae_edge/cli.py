"""The command line. Parses, calls one function of one stage, and maps errors to exit codes.

Every stage is imported inside its command, so that --help is quick and a device needs no torch.
"""

from __future__ import annotations

import dataclasses
import json
import math
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import typer

from adae_edge import __version__
from adae_edge.errors import AdaeEdgeError, MissingExtra, ParityError, UsageError, printable

if TYPE_CHECKING:
    from adae_edge.contract import Contract, Region

app = typer.Typer(
    name="adae-edge",
    help="Image anomaly detection at the edge: train on normal frames, export one graph, score every frame.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # it takes "[default: ...]" for markup and prints nothing
    pretty_exceptions_enable=False,
)

# Options that several commands have.
Window = Annotated[
    str | None,
    typer.Option(help="CENTER,WIDTH of the grey values of DICOM files, in place of their own VOI window."),
]
OtherWindow = Annotated[
    str | None,
    typer.Option(help="CENTER,WIDTH of the grey values of DICOM files, in place of the training's."),
]
BrainMask = Annotated[
    Path | None,
    typer.Option(help="Where the brain is, for NIfTI volumes with skull: a mask, or a folder with VOLUME_*.nii.gz."),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="cpu, cuda, tensorrt (builds an engine for each new size) or openvino; never another one in its place. "
        "An engine file has its own [default: cpu]."
    ),
]

Item = TypeVar("Item")


class Stopped(BaseException):
    """The user or the system asked the process to stop. No decoder's ``except Exception`` may swallow it.

    Python itself may: an exception raised in the middle of an import, or in a callback, can get lost
    or turn into another one. ``asked`` remembers that the signal came.
    """

    asked = False


def main() -> None:
    """Run the command line; 0 is success, 1 a failure, 2 wrong use, 130 a stop by SIGINT or SIGTERM."""
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
    try:
        app()
    except AdaeEdgeError as error:
        _complain("stopped" if Stopped.asked else str(error))
        sys.exit(130 if Stopped.asked else error.exit_code)
    except Stopped:
        _complain("stopped")
        sys.exit(130)
    except BrokenPipeError:
        raise
    except OSError as error:
        _complain(f"{error.filename or 'a file'}: {error.strerror or error}")
        sys.exit(1)
    except MemoryError:
        _complain("there is not enough memory for this")
        sys.exit(1)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the report, the model and everything on the way.")] = Path(
        "demo"
    ),
    seed: Annotated[
        int, typer.Option(min=0, max=2**31 - 1, help="Of the split, the weights and the order of training.")
    ] = 0,
) -> None:
    """Train, export and score handwritten digits, one of them held out as anomalous: the whole line in a minute."""
    with _extra("The demo", "cpu,train,export"):
        from adae_edge.train.demo import run_demo
    run_demo(out, seed)


@app.command()
def download(
    name: Annotated[str, typer.Argument(help="mnist or cifar10.")],
    folder: Annotated[Path, typer.Argument(help="Where the files go.")],
) -> None:
    """Fetch the official files of a data set and verify them: the one command that needs a network."""
    with _extra("Downloading", "train"):
        from adae_edge.train.download import download as run_download
    for path in run_download(name, folder):
        typer.echo(f"verified {path}")
    typer.echo(f"next: adae-edge train {name}:{folder} --anomalous 0")


@app.command()
def train(
    context: typer.Context,
    data: Annotated[
        str | None,
        typer.Argument(
            help="digits, mnist:DIR, cifar10:DIR, brats:DIR, nifti:DIR, or a folder of images and DICOM files."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="The checkpoint to write.")] = Path("checkpoint.safetensors"),
    resume: Annotated[
        Path | None, typer.Option(help="Go on with this unfinished checkpoint; only DATA may be given with it.")
    ] = None,
    anomalous: Annotated[
        str | None, typer.Option(help="The class that is held out of digits, mnist or cifar10: 0 to 9, or cat, dog ...")
    ] = None,
    modality: Annotated[
        str | None, typer.Option(help="Volumes of brats or nifti: flair, t1, t1ce or t2 [default: flair].")
    ] = None,
    recipe: Annotated[
        str, typer.Option(help="default; paper, the paper's own settings; or autoencoder, G alone.")
    ] = "default",
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the training frames [default: the recipe's].")
    ] = None,
    side: Annotated[
        int | None, typer.Option(help="Pixels that the network sees: 8, 16, 32 ... [default: from the frames].")
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(help="a or b, the paper's Appendix A [default: a for digits and mnist, else b]."),
    ] = None,
    pad: Annotated[
        bool, typer.Option("--pad", help="Keep the aspect ratio: pad frames to a square in place of stretching them.")
    ] = False,
    pad_value: Annotated[float, typer.Option(min=0, max=255, help="Grey level of the padding.")] = 0.0,
    roi: Annotated[
        str | None, typer.Option(help="Region of interest, LEFT,TOP,WIDTH,HEIGHT in pixels of the raw frame.")
    ] = None,
    score: Annotated[
        str, typer.Option(help="l2, the paper's; generator; or density, the best on MNIST: see docs/architecture.md.")
    ] = "l2",
    fpr: Annotated[
        float | None,
        typer.Option(help="False-positive rate that the threshold keeps [default: 0.01, or the lowest that can be]."),
    ] = None,
    window: Window = None,
    no_reference_frames: Annotated[
        bool, typer.Option("--no-reference-frames", help="Let no picture travel in the checkpoint.")
    ] = False,
    device: Annotated[str, typer.Option(help="Torch device: cpu, cuda, cuda:1 ...")] = "cpu",
    compiled: Annotated[bool, typer.Option("--compile", help="Train with torch.compile.")] = False,
    seed: Annotated[
        int, typer.Option(min=0, max=2**31 - 1, help="Of the split, the weights and the order of training.")
    ] = 0,
) -> None:
    """Train both autoencoders on normal frames and calibrate the threshold; under torchrun, on several processes."""
    with _extra("Training", "train"):
        from adae_edge.checkpoint import Checkpoint
        from adae_edge.train import settings as planning
        from adae_edge.train import trainer
        from adae_edge.train.datasets import class_number, load_dataset
        from adae_edge.train.distributed import joined
        from adae_edge.train.progress import TrainingProgress
    unfinished = None
    if resume is not None:
        given = [name for name in context.params if str(context.get_parameter_source(name)).endswith("COMMANDLINE")]
        if extra := sorted({*given} - {"data", "resume", "device", "compiled"}):
            raise UsageError(f"a resumed training keeps its settings: leave out --{extra[0].replace('_', '-')}")
        unfinished, out = Checkpoint.load(resume), resume
        if unfinished.contract is not None:
            raise UsageError(f"{resume} is finished: there is nothing to resume")
        settings = planning.Settings.from_header(unfinished.training)
        settings = dataclasses.replace(settings, data=data or settings.data)
        dataset = load_dataset(settings.data, settings.anomalous, settings.window, settings.modality)
    elif data is None:
        raise UsageError("name the data to train on: digits, mnist:DIR, cifar10:DIR, brats:DIR, nifti:DIR or a folder")
    elif out.exists():
        raise UsageError(f"{out} is there already: choose another --out, or finish it with --resume {out}")
    else:
        chosen = class_number(data, anomalous)
        shown = _window(window)
        dataset = load_dataset(data, chosen, shown, modality)
        settings = planning.plan(
            dataset, data, chosen, seed, recipe, epochs, network, side,
            resize="pad" if pad else "stretch", pad_value=pad_value, region=_region(roi), fpr=fpr,
            references=not no_reference_frames, window=shown, modality=modality, score=score,
        )  # fmt: skip
    with joined(device) as group:
        if group.first:
            typer.echo(planning.describe(dataset, settings))
        with TrainingProgress(group.first) as progress:
            try:
                contract = trainer.train(
                    dataset, settings, out, unfinished, progress.show, group.device, group, compiled
                )  # fmt: skip
            except Stopped:
                if progress.epochs_done and group.first:
                    _complain(f"{progress.epochs_done} epochs are kept: adae-edge train --resume {out}")
                raise
    if contract is not None:
        typer.echo(f"{_calibrated(contract)}\nwrote {out}; next: adae-edge export {out}")


@app.command()
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="A finished checkpoint.")],
    data: Annotated[str | None, typer.Argument(help="The data set, if it is elsewhere now, or another one.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for evaluation.json and report.html.")] = None,
    window: OtherWindow = None,
) -> None:
    """Measure a checkpoint on labelled frames that its training did not see: AUROC, the threshold at work."""
    with _extra("Evaluation", "train"):
        from adae_edge.train.evaluate import run_evaluation
    evaluation, unseen = run_evaluation(checkpoint, data, out, _window(window))
    typer.echo(evaluation.table())
    if unseen.dataset.note:
        typer.echo(f"{'data':<21}{unseen.dataset.note}")
    if unseen.left_out:
        typer.echo(f"{'left out':<21}{unseen.left_out} that the training saw")
    if out is not None:
        typer.echo(f"wrote {out / 'evaluation.json'} and {out / 'report.html'}")


@app.command()
def reproduce(
    table: Annotated[str, typer.Argument(help="mnist, cifar10 or brats, or digits to try it.")],
    data: Annotated[Path | None, typer.Argument(help="Folder of the data set; digits needs none.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the table; what is finished in it stays [default: TABLE].")
    ] = None,
    classes: Annotated[str | None, typer.Option(help="Some of the table's classes, as 0,1 [default: all].")] = None,
    seeds: Annotated[str | None, typer.Option(help="As 0,1,2 [default: the table's].")] = None,
    recipe: Annotated[str, typer.Option(help="default, or paper for the paper's own settings.")] = "default",
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the training frames [default: the recipe's].")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Trainings at a time [default: one for each CPU; 5 on a GPU].")
    ] = None,
    device: Annotated[str, typer.Option(help="Torch device: cpu, cuda, cuda:1 ...")] = "cpu",
) -> None:
    """Run a table of the paper, a training for each class and seed; the same command goes on where it was stopped."""
    from adae_edge.train.tables import make_request

    request = make_request(table, data, out, classes, seeds, recipe, epochs, jobs, device)
    with _extra("Reproducing a table", "train"):
        from adae_edge.train.reproduce import reproduce as run_table
    try:
        typer.echo(run_table(request))
    except Stopped:
        _complain("finished cells and epochs are kept: the same command goes on")
        raise
    typer.echo(f"wrote {request.out / table}.json and .md, scores.csv and pictures beside them")


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A finished checkpoint.")],
    out: Annotated[
        Path | None, typer.Option(help="The model file [default: the checkpoint's name with .onnx].")
    ] = None,
    frames: Annotated[
        Path | None,
        typer.Option(
            help="Folder of normal frames for the gate and for int8, in place of those that the checkpoint carries; "
            "with subfolders normal and anomalous the cost in AUROC is told."
        ),
    ] = None,
    precision: Annotated[str, typer.Option(help="Of both autoencoders: fp32, fp16 or int8.")] = "fp32",
    target: Annotated[
        str,
        typer.Option(
            help="portable; openvino, with the transposed convolutions as it runs them faster; or tensorrt, with int8 "
            "as it takes it."
        ),
    ] = "portable",
    fixed_size: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT of all frames: faster, and no other size is taken.")
    ] = None,
    fixed_batch: Annotated[
        int | None, typer.Option(min=1, max=4096, help="Frames in every run of the graph; fewer are filled up.")
    ] = None,
    anomaly_map: Annotated[
        str | None, typer.Option(help="A second output that shows where: network or frame, whose pixels it has.")
    ] = None,
    example: Annotated[
        Path | None, typer.Option(help="Folder for score.py and score.cpp, which score without adae-edge.")
    ] = None,
    triton: Annotated[
        Path | None, typer.Option(help="Model repository of Triton Inference Server that gets the model, too.")
    ] = None,
) -> None:
    """Fuse both autoencoders into one ONNX file that outputs the score, once its scores are shown to be PyTorch's."""
    from adae_edge.contract import MAPS, PRECISIONS, TARGETS, Graph
    from adae_edge.frames import frame_size

    for value, option, known in ((precision, "--precision", PRECISIONS), (target, "--target", TARGETS)):
        if value not in known:
            raise UsageError(f"{option} is one of {', '.join(known)}, and {value} is none of them")
    if anomaly_map not in (None, *MAPS):
        raise UsageError(f"--anomaly-map is {' or '.join(MAPS)}, and {anomaly_map} is neither")
    size = None if fixed_size is None else frame_size(fixed_size)[::-1]
    with _extra("The export", "export,cpu"):
        from adae_edge.export.examples import check_examples, write_examples
        from adae_edge.export.graph import export as run_export
        from adae_edge.export.triton import check_repository, write_repository
    if example is not None:
        check_examples(example)  # before the gate, which takes its time
    out = out or checkpoint.with_name(checkpoint.name.removesuffix(".safetensors") + ".onnx")
    if triton is not None:
        check_repository(out.stem, triton)
    exported = run_export(checkpoint, out, frames, Graph(precision, target, size, fixed_batch, anomaly_map))
    parity = exported.parity
    lacking = f"\nunverified, for this machine lacks them: {', '.join(parity.unverified)}" if parity.unverified else ""
    typer.echo(
        f"parity: {parity.scores} scores by {', '.join(parity.verified)}, nine frames in ten within "
        f"{parity.error:.1e} of PyTorch's ({parity.tolerance:.0e} allowed), {parity.flipped} decisions flipped{lacking}"
    )
    if exported.cost:
        typer.echo(exported.cost.lines(precision))
    typer.echo(
        f"wrote {out}: {exported.bytes / 1e6:.2f} MB, opset {exported.opset}; next: "
        + (f"adae-edge calibrate {out} NORMALS" if precision == "int8" else f"adae-edge score {out} SOURCE")
    )
    if example is not None:
        typer.echo(f"wrote {' and '.join(map(str, write_examples(exported.contract, example)))}")
    if triton is not None:
        typer.echo(f"wrote {write_repository(out.stem, exported.contract, out.read_bytes(), triton)}")


@app.command()
def engine(
    model: Annotated[Path, typer.Argument(help="A model file.")],
    out: Annotated[
        Path | None, typer.Option(help="The engine file [default: the model file's name with .engine].")
    ] = None,
    flavour: Annotated[
        str | None, typer.Option(help="tensorrt or tensorrt_rtx [default: the one that is installed].")
    ] = None,
    compute_capability: Annotated[
        list[str] | None,
        typer.Option(
            help="Of a GPU that will run it, as 8.6; may be repeated; tensorrt_rtx alone [default: this machine's]."
        ),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(help="MIN,OPT,MAX frames in a run, or one number [default: 1,1 and what fits into 256 MiB]."),
    ] = None,
    frame_size: Annotated[
        str | None,
        typer.Option(
            help="MIN,OPT,MAX of the frames, each WIDTHxHEIGHT, or one size "
            "[default: the model's own, or 8x8,640x480,1920x1080, of slices 8x8,256x256,1024x1024]."
        ),
    ] = None,
    workspace: Annotated[
        int | None, typer.Option(min=1, max=2**20, help="MiB that layers may use beside inputs and outputs.")
    ] = None,
) -> None:
    """Build a TensorRT engine of a model file, on the machine that will run it or for GPUs by their number."""
    from adae_edge.export.engine import Wanted, build_engine
    from adae_edge.frames import frame_size as size_of

    batches = None if batch is None else _three(_numbers(batch, "--batch"), "--batch")
    sizes = None if frame_size is None else _three([size_of(s)[::-1] for s in frame_size.split(",")], "--frame-size")
    terminal = sys.stderr.isatty()

    def progress(seconds: float, phase: str) -> None:
        if terminal:
            typer.echo(f"\r\x1b[K{seconds:.0f} s: {phase}", err=True, nl=False)

    out = out or model.with_name(model.name.removesuffix(".onnx") + ".engine")
    try:
        built = build_engine(
            model, out, Wanted(flavour, tuple(compute_capability or ()), batches, sizes, workspace), progress
        )
    finally:
        if terminal:
            typer.echo("\r\x1b[K", err=True, nl=False)
    about = built.engine
    typer.echo(
        f"{about.flavour} {about.version} built it in {built.seconds:.1f} s for "
        f"{about.gpu or 'any GPU'} of compute capability {about.compute_capability.replace(',', ' or ')}"
    )
    typer.echo(
        "it takes frames of {} to {}, best {}".format(*(about.options["frame_size"][at] for at in (0, 2, 1)))
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
    from adae_edge.export.compare import compare

    try:
        count, worst = compare(engine_file, model)
    except MissingExtra:
        typer.echo("its scores could not be compared, for ONNX Runtime is not installed")
    except ParityError:
        engine_file.unlink()
        raise
    else:
        typer.echo(f"parity: {count} scores of extreme frames, at most {worst:.1e} from ONNX Runtime's")


@app.command()
def inspect(
    model: Annotated[Path, typer.Argument(help="A model file, or an engine.")],
    other: Annotated[Path | None, typer.Argument(help="Another one: show only what differs between the two.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the same as JSON.")] = False,
) -> None:
    """Show what a model file or an engine expects, returns and contains, or what differs between two of them."""
    from adae_edge import enginefile, inspection

    file = enginefile.read_either(model)
    if other is not None:
        differing = inspection.differences(file, enginefile.read_either(other))
        typer.echo(json.dumps(differing, indent=2) if as_json else inspection.describe_differences(differing))
    else:
        typer.echo(json.dumps(inspection.facts(file), indent=2) if as_json else inspection.describe(file))


@app.command()
def score(
    model: Annotated[Path, typer.Argument(help="A model file, or an engine.")],
    source: Annotated[
        str,
        typer.Argument(
            help="An image, a DICOM file, a video, a folder of these, camera:0; or NIfTI volumes for a model of slices."
        ),
    ],
    to: Annotated[
        list[str] | None,
        typer.Option(help="Sink: terminal, jsonl:FILE or csv:FILE; may be repeated [default: terminal]."),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, help="Call frames anomalous above this score [default: the model's].")
    ] = None,
    window: OtherWindow = None,
    brain_mask: BrainMask = None,
    device: Device = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads [default: all that this process may use].")
    ] = None,
) -> None:
    """Score every frame of a source; each result goes to every sink at once."""
    import contextlib

    from adae_edge.runtime.scorer import Scorer
    from adae_edge.runtime.sinks.registry import open_sink
    from adae_edge.runtime.sources.registry import open_for
    from adae_edge.runtime.stream import Summary, stream

    if len(set(to or [])) < len(to or []):
        raise UsageError("a sink is named twice")
    scorer = Scorer(model, device, threads)
    limit = scorer.threshold if threshold is None else threshold
    if not math.isfinite(limit):
        raise UsageError(f"a threshold is a number, and {limit} is none to compare with")
    frames = open_for(scorer.contract, source, _window(window), brain_mask)
    summary = Summary()
    with contextlib.ExitStack() as closing:
        sinks = [closing.enter_context(contextlib.closing(open_sink(spec))) for spec in to or ["terminal"]]
        try:
            stream(scorer, _until_stopped(frames), sinks, limit, lambda failure: _complain(str(failure)), summary)
        except Stopped:
            if not frames.live:
                raise
        finally:
            if summary.frames or summary.failures:
                typer.echo(summary.line(scorer.backend.name, limit), err=True)
    if summary.failures:
        raise typer.Exit(1)


@app.command()
def calibrate(
    model: Annotated[Path, typer.Argument(help="A model file, or an engine; FILE.previous is kept.")],
    normals: Annotated[str, typer.Argument(help="A source of normal frames, as for score.")],
    fpr: Annotated[float, typer.Option(help="False-positive rate that the threshold keeps.")] = 0.01,
    confidence: Annotated[
        float, typer.Option(help="Probability, over the draw of the normals, that it keeps the rate.")
    ] = 0.95,
    window: OtherWindow = None,
    brain_mask: BrainMask = None,
    device: Device = None,
) -> None:
    """Set a model's threshold from normal frames, on the device, without another export."""
    from adae_edge.runtime.calibrate import recalibrate

    done = recalibrate(model, normals, fpr, confidence, device, _window(window), brain_mask)
    calibration = done.contract.calibration
    typer.echo(
        f"{_calibrated(done.contract)}\nthe threshold before, {done.before.threshold:.4f}, lies below "
        f"{done.above_before} of these {calibration.normals} normals ({done.above_before / calibration.normals:.2%})\n"
        f"wrote {model}"
    )


@app.command()
def bench(
    model: Annotated[Path, typer.Argument(help="A model file, or an engine.")],
    batch: Annotated[str, typer.Option(help="Batch sizes.")] = "1,4,16,64",
    size: Annotated[
        list[str] | None,
        typer.Option(help="Frame size WIDTHxHEIGHT; may be repeated [default: the network's and 640x480]."),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Measuring time for each size and batch.")] = 2.0,
    device: Device = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads [default: all that this process may use].")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures as JSON.")] = None,
    markdown_file: Annotated[Path | None, typer.Option("--markdown", help="Write the table as Markdown.")] = None,
) -> None:
    """Measure latency and throughput of a model on this machine."""
    from adae_edge.benchmarks.bench import run_bench

    run_bench(model, _numbers(batch, "--batch"), size or [], seconds, device, threads, json_file, markdown_file)


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Explain what this machine has, what conflicts, and which command to run next.

    Each device scores a frame to see whether it works. The exit code is 1 if none does.
    """
    from adae_edge.doctor import describe, examine

    report = examine()
    typer.echo(json.dumps(report, indent=2) if as_json else describe(report))
    if not report["works"]:
        raise typer.Exit(1)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"adae-edge {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


class _extra:  # noqa: N801
    """Turns a missing third-party package into the pip line that installs it."""

    def __init__(self, what: str, extra: str) -> None:
        self.what, self.extra = what, extra

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("adae_edge"):
            raise MissingExtra(self.what, self.extra) from None


def _stop(number: int, frame: object) -> NoReturn:
    Stopped.asked = True
    raise Stopped


def _until_stopped(items: Iterable[Item]) -> Iterator[Item]:
    for item in items:
        if Stopped.asked:
            raise Stopped
        yield item


def _complain(sentence: str) -> None:
    typer.echo(f"adae-edge: {printable(sentence)}", err=True)


def _three(values: list[Item], option: str) -> tuple[Item, Item, Item]:
    """MIN,OPT,MAX of an option, or one value for all three."""
    if len(values) not in (1, 3):
        raise UsageError(f"{option} takes the smallest, the most frequent and the largest, or one for all three")
    return values[0], values[len(values) // 2], values[-1]


def _calibrated(contract: Contract) -> str:
    calibration = contract.calibration
    return f"threshold {calibration.threshold:.4f}: {contract.promise}, by {calibration.normals} calibration normals"


def _region(text: str | None) -> Region | None:
    from adae_edge.contract import Region

    if text is None:
        return None
    edges = _numbers(text, "--roi")
    if len(edges) != 4 or min(edges[2:]) < 1:
        raise UsageError(f"--roi takes LEFT,TOP,WIDTH,HEIGHT in pixels, and {text} is something else")
    return Region(*edges)


def _window(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        center, width = (float(part) for part in text.split(","))
        if not (abs(center) < 1e9 and 1 <= width < 1e9):
            raise ValueError
    except ValueError:
        raise UsageError(
            f"--window takes CENTER,WIDTH with a width of 1 or more, and {text} is something else"
        ) from None
    return center, width


def _numbers(text: str, option: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise UsageError(f"{option} takes whole numbers with commas between them, and {text} is something else")
    return [int(part) for part in parts]
