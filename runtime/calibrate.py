"""A new threshold for an exported model, from normal frames, on the device."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from adae_edge.acquisition import Acquisition, distinct, listed
from adae_edge.calibration import DEFAULT_CONFIDENCE, DEFAULT_FPR, calibrate, seem_trained
from adae_edge.contract import MAX_ACQUISITIONS, Calibration, Contract, Window
from adae_edge.decoding.rules import SHRUNK, rules_of
from adae_edge.errors import (
    AdaeEdgeError,
    FrameError,
    ModelFileError,
    SourceError,
    UsageError,
)
from adae_edge.formats import enginefile, modelfile
from adae_edge.formats.files import real_path, write_atomically
from adae_edge.light import Light, light_of, with_light
from adae_edge.placement import placement_of
from adae_edge.runtime.frame import Event, Frame, Scored
from adae_edge.runtime.opening import check_once, file_of
from adae_edge.runtime.scorer import Scorer
from adae_edge.runtime.sinks.sink import MAP, PIXELS, Sink
from adae_edge.runtime.sources.registry import open_normals, spools
from adae_edge.runtime.sources.source import Receiving
from adae_edge.runtime.stream import Stream

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recalibration:
    """What became of a model file.

    Attributes:
        contract: the new one.
        before: the calibration that it replaces.
        above_before: how many of the new normals score above that one's threshold.
        familiar: whether the training probably saw the new normals. Then the threshold is too low.
        aside: how many frames were set aside as misjudged.
        still_above: how many of those score above the new threshold, too.
        left_out: how many files of the normals' folder were no frames, in words; "" for none.
        people: how many people the new normals show; 0 for pictures.
    """

    contract: Contract
    before: Calibration
    above_before: int
    familiar: bool
    aside: int = 0
    still_above: int = 0
    left_out: str = ""
    people: int = 0


class _Scores(Sink):
    """The scores of normal frames, each of which has to be scored, and their maps' peaks."""

    def __init__(self, contract: Contract) -> None:
        self._has_map = contract.form.anomaly_map is not None
        self.wants = frozenset({PIXELS, MAP} if self._has_map else {PIXELS})
        self.values: list[float] = []
        self.peaks: list[float] = []
        self._lights: dict[bool, list[Light]] = {False: [], True: []}  # of shrunk frames or not
        self.shrunk = False
        self.people: set[str] = set()
        self._acquisitions: dict[Acquisition, None] = {}  # in order
        self._contract = contract

    @property
    def all(self) -> NDArray[np.float32]:
        """The scores, float32 [n]."""
        return np.array(self.values, np.float32)

    @property
    def all_peaks(self) -> NDArray[np.float32] | None:
        """The maps' largest values, float32 [n]; None where there is no map."""
        return np.array(self.peaks, np.float32) if self._has_map else None

    @property
    def lights(self) -> list[Light]:
        """How light the frames are; of none where some were shrunk and others not."""
        whole, shrunk = self._lights.values()
        return [] if whole and shrunk else whole or shrunk

    @property
    def acquisitions(self) -> tuple[Acquisition, ...]:
        """How the series were acquired.

        Raises:
            UsageError: in more ways than a contract keeps.
        """
        found = distinct(self._acquisitions)
        if len(found) > MAX_ACQUISITIONS:
            raise UsageError(
                f"these series were acquired in {len(found)} ways, by scanner, sequence or "
                f"spacing, and a model keeps {MAX_ACQUISITIONS}: give those of fewer"
            )
        return found

    def write(self, scored: Scored) -> None:
        self.values.append(scored.score)
        self._take_origin(scored.frame)
        if self._contract.kind == "image":
            light = light_of(scored.frame.pixels, self._contract.region)
            self._lights[scored.frame.full is not None].append(light)
        self.shrunk = self.shrunk or scored.frame.decoding.endswith(SHRUNK)
        if scored.anomaly_map is not None:
            place = placement_of(self._contract, *scored.frame.size)
            self.peaks.append(float(place.peaks(scored.anomaly_map[None])[0]))

    def event(self, event: Event) -> None:
        if event.kind == "failure":
            raise FrameError(event.detail)

    def _take_origin(self, frame: Frame) -> None:
        """Note whom a slice shows, and how it was acquired.

        A volume is a person. Series tell the patient, and all that do not count as one.
        """
        acquisition = frame.acquisition
        if self._contract.kind == "modality":
            unnamed = frame.source if acquisition is None else ""
            self.people.add(frame.about.get("person", unnamed))
        if acquisition is None or acquisition in self._acquisitions:
            return
        if unknown := acquisition.unknown:
            raise FrameError(
                f"{frame.source} does not say its {listed(unknown)}, so no other series can be "
                "told to come from there: the model would stay uncalibrated for it"
            )
        self._acquisitions[acquisition] = None


def recalibrate(
    path: Path,
    normals: str | Sequence[str],
    fpr: float = DEFAULT_FPR,
    confidence: float = DEFAULT_CONFIDENCE,
    device: str | None = None,
    window: Window | None = None,
    brain_mask: Path | None = None,
    started: Callable[[Stream], object] = lambda stream: None,
    exact: bool = False,
    aside: Sequence[str] = (),
    receiving: Receiving | None = None,
) -> Recalibration:
    """Set the threshold of a model file or an engine from the scores of normal frames.

    Where it has a map, the map gets its threshold from the same frames.

    The file before is kept beside it as FILE.previous. Where the same normals give the same file
    again, nothing is written, so that FILE.previous stays the other one.

    Args:
        path: the model file or the engine.
        normals: a source of normal frames that ends, as on the command line, or several.
        fpr: bound on the false-positive rate.
        confidence: probability that the bound holds, see ``calibrate``.
        device: as for ``Scorer``.
        window: centre and width for DICOM files; None for those of the training, or else the files'
            own.
        brain_mask: for NIfTI volumes that are not skull-stripped.
        started: called with the stream of normals before it runs, so that it can be stopped.
        exact: whether no frame is shrunk while it is decoded.
        aside: sources of further normal frames, set aside because the model misjudged them; they
            can only raise the threshold, see ``calibrate``.
        receiving: where what is pulled from archives is kept.

    Raises:
        UsageError: too few frames for the rate, a camera, which never ends, a source twice, or a
            spool for none of them.
        FrameError: a frame cannot be decoded or scored; the model file stays as it was.
        SourceError: the stream of normals was stopped before its end; as before.
        AdaeEdgeError: the model file or its folder may not be written, or the disk is full; as
            before.
    """
    sources = [normals] if isinstance(normals, str) else normals
    check_once("source", [*sources, *aside], file_of)  # doubles would promise more than is known
    if receiving is not None and not any(map(spools, [*sources, *aside])):
        raise UsageError("--spool is for DICOM over the network, and no source is that")
    old = path.read_bytes() if path.is_file() else b""
    with Scorer(path, device) as scorer:
        for place in (real_path(path), real_path(path).parent):
            if not os.access(place, os.W_OK):  # known now, and not only when all frames are scored
                raise AdaeEdgeError(f"cannot write {place}: it is read-only")
        contract = scorer.contract
        drawn, misjudged, left_out = _Scores(contract), _Scores(contract), []
        for source, scores in [
            *((normal, drawn) for normal in sources),
            *((folder, misjudged) for folder in aside),
        ]:
            opened = open_normals(contract, source, window, brain_mask, exact, receiving)
            stream = Stream(scorer, opened, [scores])
            started(stream)
            stream.run()
            if stream.stopped:
                why = "the normals were stopped before their end"
                raise SourceError(f"{path} is left as it is: {why}")
            left_out.append(stream.left_out)

    before = contract.calibration
    calibration = calibrate(
        drawn.all, fpr, confidence, drawn.all_peaks, misjudged.all, misjudged.all_peaks
    )
    calibration = with_light(calibration, drawn.lights)
    decoding = rules_of(contract.kind, drawn.shrunk or misjudged.shrunk)
    contract = replace(
        contract.with_calibration(calibration),
        decoding=decoding,
        acquisitions=drawn.acquisitions,
    )
    _replace(path, old, _form(old).with_contract(old, contract))
    return Recalibration(
        contract,
        before,
        above_before=sum(score > before.threshold for score in drawn.values),
        familiar=seem_trained(drawn.all, before),
        aside=len(misjudged.values),
        still_above=sum(score > calibration.threshold for score in misjudged.values),
        left_out="; ".join(filter(None, left_out)),
        people=len(drawn.people),
    )


def roll_back(path: Path) -> Contract:
    """Put FILE.previous, which ``recalibrate`` kept, in place of a model file or an engine.

    The file that it replaces becomes FILE.previous, so that a second call takes the first one back.

    Returns:
        The contract of the file that is in place now.

    Raises:
        UsageError: there is no such file, or nothing was kept.
        ModelFileError: what was kept is damaged, or is no model file; both files stay.
        AdaeEdgeError: the folder may not be written; as before.
    """
    previous = _previous(path)
    if not path.is_file() or not previous.is_file():
        missing = previous if path.is_file() else path
        raise UsageError(f"there is no file {missing}, so nothing can be taken back")
    if not os.access(real_path(path).parent, os.W_OK):
        raise AdaeEdgeError(f"cannot write {real_path(path).parent}: it is read-only")
    with Scorer(previous) as scorer:  # it is loaded, and not only read, before it is trusted again
        contract = scorer.contract
    _replace(path, path.read_bytes(), previous.read_bytes())
    return contract


def _form(data: bytes) -> ModuleType:
    """The module that knows the file's form."""
    return enginefile if data.startswith(enginefile.MAGIC) else modelfile


def _previous(path: Path) -> Path:
    """Where the file before is kept."""
    return path.with_name(path.name + ".previous")


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
    target = real_path(path)
    ready = target.with_name(target.name + ".next")
    previous = _previous(path)
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
