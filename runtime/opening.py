"""Opens a stream by the names of its parts, as the command line gives them."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from adae_edge.contract import Window
from adae_edge.errors import AdaeEdgeError, UsageError
from adae_edge.runtime.alarm import Alarm
from adae_edge.runtime.drift import Drift
from adae_edge.runtime.frame import Event
from adae_edge.runtime.hosts import one_name
from adae_edge.runtime.receipts import Receipts
from adae_edge.runtime.resuming import Resuming
from adae_edge.runtime.scorer import Scorer
from adae_edge.runtime.sinks.registry import (
    collects_series,
    keeps_rows,
    open_sink,
    pictures_of,
    place_of,
    puts_aside,
    reads_back,
    shows_pixels,
)
from adae_edge.runtime.sinks.sink import ROWS, Keeping, Listener, Sink
from adae_edge.runtime.sources.registry import open_source
from adae_edge.runtime.sources.source import Receiving, Source, Wanted
from adae_edge.runtime.stream import MAX_LATENCY_S, Stream
from adae_edge.runtime.watcher import Watcher
from adae_edge.secrets import filled_in

_NONE: Mapping[str, Sink] = {}
_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443, "dicom-scp": 11112}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StreamRequest:
    """What is to be scored, by which model, and where the results go.

    Attributes:
        model: path of a model file or an engine.
        sources: as for ``open_source``, each once.
        sinks: as for ``open_sink``, each once.
        threshold: in place of the model's own.
        window: centre and width for DICOM files; None for those of the training, or else the files'
            own.
        brain_mask: for NIfTI volumes that are not skull-stripped.
        device: as for ``Scorer``.
        threads: as for ``Scorer``.
        max_latency: seconds that a small frame may wait for others to be scored with.
        jobs: how many files are decoded at once; as in ``Wanted``.
        exact: whether no frame is shrunk while it is decoded.
        keeping: how sinks keep rows, and whether they go on where they ended.
        alarm: when a source has an alarm, as for ``Alarm``; None for never.
        drift: whether it is told where scores drift from those of the calibration.
        triggered: whether live sources may be silent for any time.
        receiving: how files are received, where a source does that.
    """

    model: Path
    sources: tuple[str, ...]
    sinks: tuple[str, ...] = ("terminal",)
    threshold: float | None = None
    window: Window | None = None
    brain_mask: Path | None = None
    device: str | None = None
    threads: int | None = None
    max_latency: float = MAX_LATENCY_S
    jobs: int | None = None
    exact: bool = False
    keeping: Keeping = ROWS
    alarm: str | None = None
    drift: bool = False
    triggered: bool = False
    receiving: Receiving | None = None


@contextlib.contextmanager
def open_stream(
    request: StreamRequest,
    told: Callable[[Event], object],
    shared: Mapping[str, Sink] = _NONE,
    around: Callable[[Source], Source] = lambda source: source,
    with_sinks: bool = True,
) -> Iterator[Stream]:
    """Open a model, sources and sinks, and close them all at the end.

    Args:
        request: names the parts.
        told: called with every event of the stream.
        shared: sinks that are open already and stay so, by their names.
        around: makes of each open source the one that is read, and that closes it.
        with_sinks: whether sinks are opened; otherwise the stream is looked at, and not run.

    Yields:
        The stream, ready to run.

    Raises, with the name of the part that it is about in the error's ``part``:
        UsageError: a part cannot be opened as it is named, a source or a sink is named twice, the
            stream cannot be resumed, or something is asked for that has no effect.
        ModelFileError: the model is refused.
        DeviceError: the device cannot be used.
        SourceError: the source cannot be opened.
        SinkError: a sink cannot be written.
    """
    check_once("sink", request.sinks, lambda name: place_of(name).key)
    check_once("source", request.sources, file_of)
    check_apart(request.sources, request.sinks)
    _check_keeping(request)
    with _about("alarm"):
        watchers: list[Watcher] = [] if request.alarm is None else [Alarm(request.alarm)]
    with contextlib.ExitStack() as opened:
        with _about(str(request.model)):
            scorer = opened.enter_context(Scorer(request.model, request.device, request.threads))
        collected = any(map(collects_series, request.sinks))
        wanted = replace(
            Wanted.by(scorer.contract, request.window, request.brain_mask, request.exact),
            jobs=request.jobs,
            triggered=request.triggered,
            receiving=request.receiving,
            collected=collected,
        )
        if wanted.shrinking and any(map(shows_pixels, request.sinks)):
            wanted = replace(wanted, shrinking=wanted.shrinking._replace(keep=True))
        threshold = scorer.threshold if request.threshold is None else request.threshold
        resuming = Resuming(scorer.model, threshold)
        if request.keeping.resume and not collected:  # who collects needs all of a series
            wanted = replace(wanted, done=resuming.done)
        sources = []
        for name in request.sources:
            with _about(name):
                source = opened.enter_context(open_source(name, wanted))
                if collected and source.endless and not source.answers:
                    raise UsageError(
                        f"DICOM results are of whole series, and {source.name} tells no end of "
                        "one: give a folder, an archive, or dicom-scp://HOST:PORT/TITLE"
                    )
                sources.append(around(source))
        with _about("drift"):
            if request.drift:
                watchers.append(Drift(scorer.contract.calibration))
        limits = request.threshold, request.max_latency
        with _about("threshold"):
            stream = Stream(scorer, sources, [Listener(told)], *limits, watchers)
        _check_sources(request, sources)
        answering = [source for source in sources if source.answers]
        receipts = opened.enter_context(Receipts(answering, stream.all_keep))
        sinks = []
        for name in request.sinks if with_sinks else ():
            with _about(name):
                sinks.append(
                    shared.get(name) or opened.enter_context(open_sink(name, request.keeping))
                )
        # A frame whose row can be read back is done, so the other sinks get theirs before.
        for sink in sorted(sinks, key=lambda sink: sink.kept() is not None):
            stream.add(resuming.rest(sink) if request.keeping.resume else sink)
        if answering:
            stream.add(receipts)
        counts = len(sources), len(request.sinks)
        _log.info("%s scores %d sources to %d sinks", request.model, *counts)
        yield stream


def _check_keeping(request: StreamRequest) -> None:
    """Raise UsageError where rows are to be kept in a way that no sink has."""
    keeping, sinks = request.keeping, request.sinks
    with _about("resume"):
        if keeping.resume and not any(map(reads_back, sinks)):
            raise UsageError(
                "--resume reads what is kept already: give jsonl:FILE, csv:FILE or sqlite:FILE"
            )
    with _about("rotate"):
        if keeping.rotate is not None and not any(map(puts_aside, sinks)):
            raise UsageError("--rotate is for files of rows: give jsonl:FILE or csv:FILE")
    with _about("fsync"):
        if keeping.fsync and not any(map(keeps_rows, sinks)):
            raise UsageError("--fsync is for rows, and no sink keeps any")


def _check_sources(request: StreamRequest, sources: Sequence[Source]) -> None:
    """Raise UsageError where something is asked for that no source has, or that one cannot do."""
    with _about("resume"):
        if request.keeping.resume and any(source.live for source in sources):
            raise UsageError("--resume is for files and folders: frames of the others are all new")
    with _about("spool"):
        if request.receiving and not any(source.spools for source in sources):
            raise UsageError("--spool is for DICOM over the network, and no source is that")
    with _about("triggered"):
        if request.triggered and not any(source.live for source in sources):
            raise UsageError("--triggered is for cameras, and no source is one")
    with _about("jobs"):
        if request.jobs is not None and all(source.live for source in sources):
            raise UsageError("--jobs is for files, and no source gives any")


@contextlib.contextmanager
def _about(part: str) -> Iterator[None]:
    """Within, an error is about this part of the request."""
    try:
        yield
    except AdaeEdgeError as error:
        error.part = part
        raise


def check_once(kind: str, names: Sequence[str], place: Callable[[str], object]) -> None:
    """Raise UsageError for a name, or another spelling of it, that was there before."""
    seen = set()
    for name in names:
        with _about(name):
            if (here := place(name)) in seen:
                raise UsageError(f"a {kind} is named twice")
            seen.add(here)


def check_apart(sources: Sequence[str], sinks: Sequence[str]) -> None:
    """Raise UsageError for a sink that saves pictures where a source takes them for its own."""
    for sink in sinks:
        with _about(sink):
            folder = pictures_of(sink)
            if folder is not None and reads_from(sources, folder):
                raise UsageError(
                    f"{sink} would be scored, too: give a folder outside of the source"
                )


def reads_from(sources: Sequence[str], folder: Path) -> bool:
    """Whether a folder is one that a source reads, or lies in one."""
    here = Path(os.path.realpath(folder))
    read = {Path(os.path.realpath(path)) for source in sources for path in _paths(source)}
    return not read.isdisjoint({here, *here.parents})


def _paths(name: str) -> Iterator[str]:
    """What of a source's name may be the path of a file or a folder that is there."""
    name = filled_in(name)
    camera = re.fullmatch(r"(?:camera:)?([0-9]{1,3})", name)
    device = [f"/dev/video{camera[1]}"] if camera else []
    for path in (name, name.partition(":")[2].partition("?")[0].removeprefix("//"), *device):
        with contextlib.suppress(OSError, ValueError):
            Path(path).stat()
            if path:
                yield path


def file_of(name: str) -> tuple[object, ...] | str:
    """What tells a source from others, whatever the spelling: its file, or its URL.

    Another user or transport makes no other camera, and another title no other port.
    """
    for path in _paths(name):
        status = Path(path).stat()
        return status.st_dev, status.st_ino
    name = filled_in(name)
    if name.isdecimal():
        return f"camera:{name}"
    try:
        url = urlsplit(name)
        port = url.port or _PORTS[url.scheme]
    except (ValueError, KeyError):
        return name
    if url.scheme == "dicom-scp":
        return url.scheme, port
    return url.scheme, one_name(url.hostname or ""), port, url.path.rstrip("/"), url.query
