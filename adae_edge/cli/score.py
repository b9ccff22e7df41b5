"""The commands of the device: score and calibrate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adae_edge.cli.shared import (
    BrainMask,
    Device,
    Exact,
    OtherWindow,
    Spool,
    TlsCa,
    TlsCert,
    TlsKey,
    bytes_of,
    calibrated,
    mention,
    seconds_of,
    tell,
    window_of,
)
from adae_edge.cli.stopping import Stopped, gently
from adae_edge.errors import UsageError

if TYPE_CHECKING:
    from adae_edge.runtime.calibrate import Recalibration
    from adae_edge.runtime.opening import StreamRequest
    from adae_edge.runtime.sources.source import Receiving


def score(
    model: Annotated[Path, typer.Argument(help="A model file, or an engine.")],
    source: Annotated[
        list[str],
        typer.Argument(
            help="An image, a DICOM file, a video, camera:0, rtsp://HOST/PATH, or a folder of "
            "images and DICOM files, whose other files are left out and counted; 'frames/*.png' in "
            "quotes; watch:DIR for a folder and what is added to it; dicom-scp://HOST:PORT/TITLE "
            "for what modalities send; dicom://TITLE@HOST:PORT/STUDY or dicomweb:URL for an "
            "archive; - for a video on the standard input; "
            "synthetic:// for made-up frames; or NIfTI volumes and DICOM series for a model of "
            "slices. Several are scored by the one model."
        ),
    ],
    to: Annotated[
        list[str] | None,
        typer.Option(
            help="Sink: terminal, jsonl:FILE, csv:FILE, sqlite:FILE, pictures:DIR, "
            "video:FILE.mp4, prometheus:PORT, dicom://TITLE@HOST, dicomweb:https://HOST/PATH, "
            "mqtt://HOST or https://HOST/PATH; may be repeated [default: terminal]."
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(min=0, help="Call frames anomalous above this score [default: the model's]."),
    ] = None,
    window: OtherWindow = None,
    brain_mask: BrainMask = None,
    device: Device = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="CPU threads [default: all that this process may use]."),
    ] = None,
    max_latency: Annotated[
        str,
        typer.Option(
            help="Longest that a small frame waits for others to be scored with; 0ms: each alone."
        ),
    ] = "20ms",
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=256,
            help="How many files are decoded at once [default: one picture; a DICOM file on each "
            "CPU that this process may use].",
        ),
    ] = None,
    exact: Exact = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Leave out the frames whose rows the sinks hold already."),
    ] = False,
    fsync: Annotated[
        bool,
        typer.Option("--fsync", help="Put each row on the disk before the next one."),
    ] = False,
    with_patient: Annotated[
        bool,
        typer.Option("--with-patient", help="Name patients in JSON Lines, and nowhere else."),
    ] = False,
    rotate: Annotated[
        str | None,
        typer.Option(help="Size, as 100MB, at which a file of rows is put aside under a number."),
    ] = None,
    alarm: Annotated[
        str | None,
        typer.Option(
            help="K/N, as 3/10: an alarm begins when at least K of a source's last N frames are "
            "anomalous, and ends when fewer than half of K are."
        ),
    ] = None,
    drift: Annotated[
        bool,
        typer.Option(
            "--drift", help="Tell where scores or light drift from those of the calibration."
        ),
    ] = False,
    triggered: Annotated[
        bool,
        typer.Option(
            "--triggered", help="Cameras give frames when something triggers them: none is stalled."
        ),
    ] = False,
    spool: Spool = None,
    quiet: Annotated[
        str | None,
        typer.Option(
            help="Time without a further instance after which dicom-scp takes a series for "
            "complete, where nothing surer says so [default: 60s]."
        ),
    ] = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_ca: TlsCa = None,
) -> None:
    """Score every frame of the sources; each result goes to every sink."""
    request = request_of(locals())
    from adae_edge.runtime.opening import open_stream

    with (
        gently() as on_signal,
        open_stream(request, tell) as stream,
    ):
        on_signal(stream.stop, stream.reload)
        try:
            stream.run()
        finally:
            if stream.metrics.frames or stream.metrics.failures:
                mention(stream.summary)
    if stream.stopped and not stream.endless:
        raise Stopped
    if not stream.complete:
        raise typer.Exit(1)


def request_of(options: Mapping[str, Any]) -> StreamRequest:
    """What ``score`` is asked for by its options, by their names; they are those of a station, too.

    Raises:
        UsageError: an option has a value that it cannot have.
    """
    from adae_edge.runtime.opening import StreamRequest
    from adae_edge.runtime.sinks.sink import Keeping

    rotate, names_patients = options["rotate"], options["with_patient"]
    sinks = tuple(options["to"] or ["terminal"])
    if names_patients and not any(
        sink.startswith("jsonl:") or sink.endswith(".jsonl") for sink in sinks
    ):
        raise UsageError("--with-patient is for JSON Lines: give --to jsonl:FILE")
    quiet, receives = options["quiet"], any(map(_receives, options["source"]))
    if quiet is not None and not receives:
        raise UsageError("--quiet is for dicom-scp, and no source is that")
    return StreamRequest(
        model=options["model"],
        sources=tuple(options["source"]),
        sinks=sinks,
        threshold=options["threshold"],
        window=window_of(options["window"]),
        brain_mask=options["brain_mask"],
        device=options["device"],
        threads=options["threads"],
        max_latency=seconds_of(options["max_latency"], "--max-latency"),
        jobs=options["jobs"],
        exact=options["exact"],
        keeping=Keeping(
            options["fsync"],
            bytes_of(rotate, "--rotate") if rotate is not None else None,
            options["resume"],
            names_patients,
        ),
        alarm=options["alarm"],
        drift=options["drift"],
        triggered=options["triggered"],
        receiving=_receiving_of(
            options["spool"],
            options["tls_cert"],
            options["tls_key"],
            options["tls_ca"],
            "60s" if quiet is None else quiet,
        ),
    )


def _receives(source: str) -> bool:
    return source.startswith("dicom-scp:")


def _receiving_of(
    spool: Path | None,
    cert: Path | None,
    key: Path | None,
    ca: Path | None,
    quiet: str = "60s",
) -> Receiving | None:
    """How files are received; raises UsageError where certificates are given for nothing."""
    from adae_edge.runtime.sources.source import Receiving

    if spool is not None:
        return Receiving(spool, cert, key, ca, seconds_of(quiet, "--quiet"))
    if cert or key or ca:
        raise UsageError("--tls-cert, --tls-key and --tls-ca go with --spool")
    return None


_TRAINED = (
    "these normals score lower than those before, as if the training had seen them: then the "
    "threshold is too low for new ones, and --rollback takes it back\n"
)


def calibrate(
    model: Annotated[
        Path, typer.Argument(help="A model file, or an engine; FILE.previous is kept.")
    ],
    normals: Annotated[
        list[str] | None,
        typer.Argument(help="Sources of normal frames, as for score; of slices, healthy people."),
    ] = None,
    aside: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            help="Source of further normals that the model misjudged, which can only raise the "
            "threshold; may be repeated.",
        ),
    ] = None,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Put FILE.previous back in place, and keep this one.")
    ] = False,
    fpr: Annotated[
        float, typer.Option(help="False-positive rate that the threshold keeps.")
    ] = 0.01,
    confidence: Annotated[
        float,
        typer.Option(help="Probability, over the draw of the normals, that it keeps the rate."),
    ] = 0.95,
    window: OtherWindow = None,
    brain_mask: BrainMask = None,
    device: Device = None,
    exact: Exact = False,
    spool: Spool = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_ca: TlsCa = None,
) -> None:
    """Set a model's threshold from normal frames, on the device, without another export."""
    from adae_edge.runtime.calibrate import recalibrate, roll_back

    others = aside, window, brain_mask, exact, spool, tls_cert, tls_key, tls_ca
    if rollback == bool(normals) or (rollback and any(others)):
        raise UsageError("give either normals, or --rollback alone")
    if not normals:
        threshold = roll_back(model).calibration.threshold
        typer.echo(f"threshold {threshold:.4f} as before; {model}.previous is the one until now")
        return
    with gently() as on_signal:
        done = recalibrate(
            model,
            normals,
            fpr,
            confidence,
            device,
            window_of(window),
            brain_mask,
            started=lambda stream: on_signal(stream.stop),
            exact=exact,
            aside=aside or (),
            receiving=_receiving_of(spool, tls_cert, tls_key, tls_ca),
        )
    calibration = done.contract.calibration
    typer.echo(
        f"{calibrated(done.contract)}\n"
        f"{_of_people(done)}"
        f"the threshold before, {done.before.threshold:.4f}, lies below "
        f"{done.above_before} of these {calibration.normals} normals "
        f"({done.above_before / calibration.normals:.2%})\n"
        f"{_TRAINED if done.familiar else ''}"
        f"{_set_aside(done)}"
        f"wrote {model}" + (f"; {done.left_out}" if done.left_out else "")
    )


def _of_people(done: Recalibration) -> str:
    """Whom slices show, and how they were acquired, in lines; "" for pictures."""
    if not done.people:
        return ""
    people = "1 person" if done.people == 1 else f"{done.people} people"
    acquired = [f"calibrated on {one}" for one in done.contract.acquisitions]
    return "\n".join([f"the normals are slices of {people}", *acquired, ""])


def _set_aside(done: Recalibration) -> str:
    """What became of the frames that were set aside, in a line."""
    if not done.aside:
        return ""
    normal = done.aside - done.still_above
    return f"{normal} of {done.aside} frames that were set aside are normal now\n"
