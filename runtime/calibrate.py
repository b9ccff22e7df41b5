"""A new threshold for an exported model, from normal frames, on the device."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np

from adae_edge.calibration import DEFAULT_CONFIDENCE, DEFAULT_FPR, calibrate
from adae_edge.contract import Calibration, Contract, Window
from adae_edge.decoding.rules import SHRUNK, rules_of
from adae_edge.errors import (
    AdaeEdgeError,
    FrameError,
    ModelFileError,
    SourceError,
)
from adae_edge.formats import enginefile, modelfile
from adae_edge.formats.files import write_atomically
from adae_edge.placement import placement_of
from adae_edge.runtime.frame import Event, Scored
from adae_edge.runtime.scorer import Scorer
from adae_edge.runtime.sinks.sink import MAP, PIXELS, Sink
from adae_edge.runtime.sources.registry import open_normals
from adae_edge.runtime.stream import Stream

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recalibration:
    """What became of a model file.

    Attributes:
        contract: the new one.
        before: the calibration that it replaces.
        above_before: how many of the new normals score above that one's threshold.
        left_out: how many files of the normals' folder were no frames, in words; "" for none.
    """

    contract: Contract
    before: Calibration
    above_before: int
    left_out: str = ""


class _Scores(Sink):
    """The scores of normal frames, each of which has to be scored, and their maps' peaks."""

    def __init__(self, contract: Contract) -> None:
        if contract.form.anomaly_map is not None:
            self.wants = frozenset({PIXELS, MAP})  # pixels tell the frame's size
        self.values: list[float] = []
        self.peaks: list[float] = []
        self.shrunk = False
        self._contract = contract

    def write(self, scored: Scored) -> None:
        self.values.append(scored.score)
        self.shrunk = self.shrunk or scored.frame.decoding.endswith(SHRUNK)
        if scored.anomaly_map is not None:
            place = placement_of(self._contract, *scored.frame.size)
            self.peaks.append(float(place.peaks(scored.anomaly_map[None])[0]))

    def event(self, event: Event) -> None:
        if event.kind == "failure":
            raise FrameError(event.detail)


def recalibrate(
    path: Path,
    normals: str,
    fpr: float = DEFAULT_FPR,
    confidence: float = DEFAULT_CONFIDENCE,
    device: str | None = None,
    window: Window | None = None,
    brain_mask: Path | None = None,
    started: Callable[[Stream], object] = lambda stream: None,
    exact: bool = False,
) -> Recalibration:
    """Set the threshold of a model file or an engine from the scores of normal frames.

    Where it has a map, the map gets its threshold from the same frames.

    The file before is kept beside it as FILE.previous. Where the same normals give the same file
    again, nothing is written, so that FILE.previous stays the other one.

    Args:
        path: the model file or the engine.
        normals: a source of normal frames that ends, as on the command line.
        fpr: bound on the false-positive rate.
        confidence: probability that the bound holds, see ``calibrate``.
        device: as for ``Scorer``.
        window: centre and width for DICOM files; None for those of the training, or else the files'
            own.
        brain_mask: for NIfTI volumes that are not skull-stripped.
        started: called with the stream of normals before it runs, so that it can be stopped.
        exact: whether no frame is shrunk while it is decoded.

    Raises:
        UsageError: too few frames for the rate, or a camera, which never ends.
        FrameError: a frame cannot be decoded or scored; the model file stays as it was.
        SourceError: the stream of normals was stopped before its end; as before.
        AdaeEdgeError: the model file or its folder may not be written, or the disk is full; as
            before.
    """
    old = path.read_bytes() if path.is_file() else b""
    with Scorer(path, device) as scorer:
        for place in (path.resolve(), path.resolve().parent):
            if not os.access(place, os.W_OK):  # known now, and not only when all frames are scored
                raise AdaeEdgeError(f"cannot write {place}: it is read-only")
        source = open_normals(scorer.contract, normals, window, brain_mask, exact)
        scores = _Scores(scorer.contract)
        stream = Stream(scorer, source, [scores])
        started(stream)
        stream.run()
        if stream.stopped:
            raise SourceError(f"{path} is left as it is: the normals were stopped before their end")
        contract = scorer.contract

    before = contract.calibration
    peaks = np.array(scores.peaks, np.float32) if scores.peaks else None
    calibration = calibrate(np.array(scores.values, np.float32), fpr, confidence, peaks)
    decoding = rules_of(contract.kind, scores.shrunk)
    contract = replace(contract.with_calibration(calibration), decoding=decoding)
    _replace(path, old, _form(old).with_contract(old, contract))
    above = sum(score > before.threshold for score in scores.values)
    return Recalibration(contract, before, above, stream.left_out)


def _form(data: bytes) -> ModuleType:
    """The module that knows the file's form."""
    return enginefile if data.startswith(enginefile.MAGIC) else modelfile


def _replace(path: Path, old: bytes, new: bytes) -> None:
    """Put the new file in place of the old one and keep that as FILE.previous, both or neither."""
    if path.read_bytes() != old:
        raise ModelFileError(f"{path} was changed while it was calibrated, and is left as it is")
    _form(new).check(new)  # scores that no contract can hold, below 0 for example, are found here
    if new == old:
        _log.info("%s has this threshold already, and is left as it is", path)
        return
    # The new file is on the disk before FILE.previous is given up: when the disk is full, both old
    # ones stay.
    target = path.resolve()
    ready = target.with_name(target.name + ".next")
    previous = path.with_name(path.name + ".previous")
    try:
        write_atomically(ready, new)
        write_atomically(previous, old)
        with contextlib.suppress(OSError):  # some file systems have no modes
            shutil.copymode(target, previous)
            shutil.copymode(target, ready)
        ready.replace(target)
        _log.info("%s has a new threshold; the file before is %s", target, previous)
    finally:
        ready.unlink(missing_ok=True)
