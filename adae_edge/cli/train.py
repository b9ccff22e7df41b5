"""The commands of the training stage: download, train, evaluate and reproduce."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adae_edge.cli.shared import (
    BrainMask,
    OtherWindow,
    Seed,
    Window,
    calibrated,
    complain,
    region_of,
    window_of,
)
from adae_edge.cli.stopping import Stopped
from adae_edge.errors import command
from adae_edge.extras import needs

Epochs = Annotated[
    int | None,
    typer.Option(min=1, help="Passes over the training frames [default: the recipe's]."),
]
TorchDevice = Annotated[str, typer.Option(help="Torch device: cpu, cuda, cuda:1 ...")]


def download(
    name: Annotated[str, typer.Argument(help="mnist or cifar10.")],
    folder: Annotated[Path, typer.Argument(help="Folder for the files.")],
) -> None:
    """Fetch the official files of a data set and verify them.

    No other command downloads anything.
    """
    with needs("Downloading", "train"):
        from adae_edge.train.data.download import download as run_download
    for path in run_download(name, folder):
        typer.echo(f"verified {path}")
    typer.echo(f"next: {command('train', f'{name}:{folder}', '--anomalous', 0)}")


def train(
    data: Annotated[
        str | None,
        typer.Argument(
            help="digits, mnist:DIR, cifar10:DIR, brats:DIR, nifti:DIR, dicom:DIR, or a folder of "
            "images and DICOM files."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Checkpoint to write [default: checkpoint.safetensors]."),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Unfinished checkpoint to go on with; only DATA may be given with it."),
    ] = None,
    anomalous: Annotated[
        str | None,
        typer.Option(
            help="Class that is held out of digits, mnist or cifar10: 0 to 9, or cat, dog ..."
        ),
    ] = None,
    modality: Annotated[
        str | None,
        typer.Option(help="Volumes of brats or nifti: flair, t1, t1ce or t2 [default: flair]."),
    ] = None,
    object_rule: Annotated[
        str | None,
        typer.Option(
            "--object",
            help="What is looked at in nifti or dicom: head, with its skull; mask, the brain by "
            "masks; or nonzero, all of skull-stripped volumes [default: mask where there are "
            "masks, else nonzero].",
        ),
    ] = None,
    brain_mask: BrainMask = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Hyper-parameters: default; moved, for slices that are mirrored and shifted while "
            "they train; paper, the paper's own; autoencoder, G alone; or linear, fitted in "
            "seconds [default: linear where the score needs no more, else default]."
        ),
    ] = None,
    epochs: Epochs = None,
    side: Annotated[
        int | None,
        typer.Option(
            help="Pixels that the network sees: 8, 16, 32 ... [default: from the frames]."
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            help="Networks of the paper's Appendix A, a or b [default: a for digits and mnist, "
            "else b]."
        ),
    ] = None,
    pad: Annotated[
        bool,
        typer.Option(
            "--pad",
            help="Keep the aspect ratio: pad frames to a square in place of stretching them.",
        ),
    ] = False,
    pad_value: Annotated[
        float | None,
        typer.Option(min=0, max=255, help="Grey level of the padding [default: 0]."),
    ] = None,
    roi: Annotated[
        str | None,
        typer.Option(help="Region of interest, LEFT,TOP,WIDTH,HEIGHT in pixels of the raw frame."),
    ] = None,
    score: Annotated[
        str | None,
        typer.Option(
            help="Score: auto, the recommended one; l2, the paper's; generator; density, for small "
            "pictures; or local, for small defects: see docs/method.md [default: auto for pictures "
            "of your own, l2 for the paper's data sets]."
        ),
    ] = None,
    fpr: Annotated[
        float | None,
        typer.Option(
            help="False-positive rate that the threshold keeps [default: 0.01, or the lowest that "
            "can be]."
        ),
    ] = None,
    window: Window = None,
    no_reference_frames: Annotated[
        bool, typer.Option("--no-reference-frames", help="Let no picture travel in the checkpoint.")
    ] = False,
    group: Annotated[
        str | None,
        typer.Option(
            help="Frames of a folder that belong together: by a regular expression with "
            "parentheses around the group's name, folder for sub-folders, or a CSV file of "
            "path,group."
        ),
    ] = None,
    bits: Annotated[
        int | None,
        typer.Option(
            min=9,
            max=16,
            help="Bits of a camera whose grey values lie in the low bits of 16-bit files "
            "[default: all 16].",
        ),
    ] = None,
    device: TorchDevice = "cpu",
    compiled: Annotated[bool, typer.Option("--compile", help="Train with torch.compile.")] = False,
    seed: Seed = None,
) -> None:
    """Train both autoencoders on normal frames and calibrate the threshold.

    Under torchrun several processes train together.
    """
    with needs("Training", "train"):
        from adae_edge.train.distributed import joined
        from adae_edge.train.progress import TrainingProgress
        from adae_edge.train.request import TrainRequest, prepare
    request = TrainRequest(
        data=data,
        out=out,
        resume=resume,
        anomalous=anomalous,
        modality=modality,
        recipe=recipe,
        epochs=epochs,
        side=side,
        network=network,
        resize="pad" if pad else None,
        pad_value=pad_value,
        region=region_of(roi),
        score=score,
        fpr=fpr,
        window=window_of(window),
        references=False if no_reference_frames else None,
        group=group,
        bits=bits,
        object=object_rule,
        brain_mask=brain_mask,
        seed=seed,
    )
    training = prepare(request)
    notes: list[str] = []
    with joined(device) as processes:
        if processes.first:
            typer.echo(training.describe())
        with TrainingProgress(processes.first) as progress:
            try:
                contract = training.run(progress.show, processes, compiled, notes.append)
            except Stopped:
                if progress.epochs_done and processes.first:
                    resumed = command("train", "--resume", training.out)
                    complain(f"{progress.epochs_done} epochs are kept: {resumed}")
                raise
    if contract is not None:
        typer.echo("\n".join([calibrated(contract), *notes]))
        typer.echo(f"wrote {training.out}; next: {command('export', training.out)}")


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="A finished checkpoint.")],
    data: Annotated[
        str | None, typer.Argument(help="The data set, if it is elsewhere now, or another one.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for evaluation.json and report.html.")
    ] = None,
    window: OtherWindow = None,
) -> None:
    """Measure a checkpoint on labelled frames that its training did not see.

    It tells the AUROC, the average precision, and the rates at the threshold, and what simple
    scores reach on the same frames. Where masks mark the defects, it measures the anomaly map, too.
    """
    with needs("Evaluation", "train"):
        from adae_edge.train.report import run_evaluation
    evaluation, unseen = run_evaluation(checkpoint, data, out, window_of(window))
    if evaluation.verdict:
        typer.echo(evaluation.verdict)
    typer.echo(evaluation.table())
    if unseen.dataset.note:
        typer.echo(f"{'data':<21}{unseen.dataset.note}")
    if unseen.left_out:
        typer.echo(f"{'left out':<21}{unseen.left_out} that the training saw")
    if evaluation.auroc is not None:
        typer.echo(evaluation.comparison())
    if out is not None:
        typer.echo(f"wrote {out / 'evaluation.json'} and {out / 'report.html'}")


def reproduce(
    table: Annotated[str, typer.Argument(help="mnist, cifar10 or brats, or digits to try it.")],
    data: Annotated[
        Path | None, typer.Argument(help="Folder of the data set; digits needs none.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the table; what is finished in it stays [default: TABLE]."),
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Classes of the table, as 0,1 [default: all].")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Random seeds, as 0,1,2 [default: the table's].")
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            help="Hyper-parameters: default; paper, the paper's own; or linear, no epochs."
        ),
    ] = "default",
    epochs: Epochs = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Trainings at a time [default: one for each CPU; 5 on a GPU]."),
    ] = None,
    device: TorchDevice = "cpu",
) -> None:
    """Run a table of the paper: a training for each class and seed.

    The same command goes on where it was stopped.
    """
    from adae_edge.train.tables.request import TableRequest, plan_table

    request = TableRequest(table, data, out, classes, seeds, recipe, epochs, jobs, device)
    plan = plan_table(request)
    with needs("Reproducing a table", "train"):
        from adae_edge.train.tables.reproduce import reproduce as run_table
    try:
        typer.echo(run_table(plan))
    except Stopped:
        complain("finished cells and epochs are kept: the same command goes on")
        raise
    typer.echo(f"wrote {plan.out / table}.json and .md, scores.csv and pictures beside them")
