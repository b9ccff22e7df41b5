"""A rehearsal: which synthetic defects, of which size and contrast, a model finds in normal frames.

The defects are made up, and so real ones may be found more or less often.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from adae_edge.calibration import seem_trained
from adae_edge.contract import Contract, Window
from adae_edge.defects import KINDS, Picture, Spoiled, spoil
from adae_edge.errors import FrameError, UsageError
from adae_edge.runtime.batching import batch_of
from adae_edge.runtime.frame import Event, Frame
from adae_edge.runtime.scorer import Scorer
from adae_edge.runtime.sources.registry import open_normals
from adae_edge.runtime.sources.source import Source

SIZES = (0.02, 0.05, 0.1, 0.2)
CONTRASTS = (0.5, 1.0, 2.0)
SMALLEST = 16  # pixels of the shorter side, so that sizes differ
DEFAULT_FRAMES = 40
Value = TypeVar("Value", bound=np.generic)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RehearsalRequest:
    """What is rehearsed.

    Attributes:
        model: path of a model file or an engine, for pictures.
        normals: a source of normal frames that ends, as for ``open_source``.
        frames: how many of them at most, evenly chosen; 2 or more.
        seed: decides about every defect.
        device: as for ``Scorer``.
        window: centre and width for DICOM files; None for those of the training, or else the files'
            own.
    """

    model: Path
    normals: str
    frames: int = DEFAULT_FRAMES
    seed: int = 0
    device: str | None = None
    window: Window | None = None


@dataclass(frozen=True)
class Defect:
    """One kind of defect in one size and one contrast.

    Attributes:
        kind: one of ``KINDS``.
        size: longest diameter, as a part of the frame's shorter side.
        contrast: in standard deviations of the frame; None for a kind that adds no grey levels.
    """

    kind: str
    size: float
    contrast: float | None


@dataclass(frozen=True)
class Figures:
    """How often a defect was found.

    Attributes:
        defect: which one.
        found: in how many frames the score was above the threshold.
        share: the same as a part of all frames.
        auroc: of the spoiled frames' scores against the untouched frames'.
        grey_levels: that a pixel of the defect changes by, on average over all frames.
    """

    defect: Defect
    found: int
    share: float
    auroc: float
    grey_levels: float


@dataclass(frozen=True)
class Example:
    """A spoiled frame to look at.

    Attributes:
        defect: what was done to it.
        normal: the untouched frame, uint8 [H, W, C].
        spoiled: the frame with the defect, and the defect's mask.
        score: of the spoiled frame.
        found: whether that is above the threshold.
        maps: the untouched and the spoiled frame's anomaly maps; None if the model has none.
    """

    defect: Defect
    normal: Picture
    spoiled: Spoiled
    score: float
    found: bool
    maps: tuple[NDArray[np.float32], NDArray[np.float32]] | None


@dataclass(frozen=True)
class Rehearsal:
    """What came of a rehearsal.

    Attributes:
        frames: how many normal frames were spoiled.
        of_frames: how many the source has.
        threshold: the score above which a frame is anomalous.
        false_alarms: how many of the untouched frames score above it.
        familiar: whether the training probably saw these frames. Then the figures are too low.
        figures: for each of ``DEFECTS``, in their order.
        shorter_side: pixels of the shorter side that sizes refer to, in the smallest and in the
            largest frame.
    """

    frames: int
    of_frames: int
    threshold: float
    false_alarms: int
    familiar: bool
    figures: tuple[Figures, ...]
    shorter_side: tuple[int, int]


# By kind and contrast; each with all sizes.
ROWS = tuple(
    (kind, contrast)
    for kind, about in KINDS.items()
    for contrast in (CONTRASTS if about.has_contrast else (None,))
)
DEFECTS = tuple(Defect(kind, size, contrast) for kind, contrast in ROWS for size in SIZES)


def rehearse(
    request: RehearsalRequest, shown: Callable[[Example], object] | None = None
) -> Rehearsal:
    """Score normal frames as they are and with every defect of ``DEFECTS``, at the threshold.

    Two frames at a time are held, so that many large ones need little memory.

    Args:
        request: names the model and the frames.
        shown: takes one example of each defect, in the order of ``DEFECTS`` within a frame.

    Raises:
        UsageError: fewer than two frames, a camera, which never ends, or a model of slices.
        FrameError: a frame cannot be decoded or scored, or is too small for the defects.
        SourceError, ModelFileError, DeviceError: as ``open_source`` and ``Scorer``.
    """
    with Scorer(request.model, request.device) as scorer:
        if scorer.contract.kind != "image":
            raise UsageError(
                "a rehearsal spoils pictures, and this model takes the slices of volumes"
            )

        def opened() -> Source:
            return open_normals(scorer.contract, request.normals, request.window, exact=True)

        # How many frames there are, and which of them are taken.
        count = _count(opened())
        if count < 2:
            raise UsageError(
                f"a rehearsal takes two normal frames or more, and {request.normals} has {count}"
            )
        chosen = np.linspace(0, count - 1, min(request.frames, count)).round().astype(int).tolist()
        run = _Run(scorer, request.seed, len(chosen), shown)

        # Each with every defect; pieces come from the next frame too, or from the one before.
        frames = _chosen(opened(), scorer.contract, set(chosen))
        for frame, following in itertools.pairwise(frames):
            run.take(frame, following.pixels)
        run.take(following, frame.pixels)
        _log.info("%d frames of %d rehearsed by %s", len(chosen), count, scorer.backend.name)
        return run.result(count)


@dataclass(frozen=True)
class _Normal:
    """A normal frame: where it comes from, and uint8 [H, W, C] in the model's channels."""

    place: str
    pixels: Picture


class _Run:
    """The scores so far."""

    def __init__(
        self,
        scorer: Scorer,
        seed: int,
        frames: int,
        shown: Callable[[Example], object] | None,
    ) -> None:
        """
        Args:
            scorer: for pictures.
            seed: of all defects.
            frames: how many will be taken.
            shown: takes the examples; None if nobody looks.
        """
        self._scorer, self._seed, self._frames, self._shown = scorer, seed, frames, shown
        self._normal: list[float] = []
        self._scores: list[list[float]] = []
        self._changes: list[list[float]] = []
        self._sides: list[int] = []

    def take(self, frame: _Normal, other: Picture) -> None:
        """Score a frame as it is and with every defect; pieces are also pasted from the other."""
        try:
            self._take(frame.pixels, other)
        except FrameError as error:
            raise FrameError(f"{frame.place}: {error}") from error

    def _take(self, picture: Picture, other: Picture) -> None:
        index = len(self._normal)
        self._normal.append(self._score(picture))
        scores, changes = [], []
        for number, defect in enumerate(DEFECTS):
            spoiled = self._spoiled(picture, other, defect, index)
            score = self._score(spoiled.picture)
            scores.append(score)
            changes.append(_change(picture, spoiled))
            row = number // len(SIZES)
            if self._shown is not None and index == row * self._frames // len(ROWS):
                self._shown(self._example(defect, picture, spoiled, score))
        self._scores.append(scores)
        self._changes.append(changes)
        self._sides.append(min(self._seen(picture).shape[:2]))

    def _seen(self, picture: Picture) -> Picture:
        """A view of the part of a frame that the model sees."""
        return _seen(picture, self._scorer.contract)

    def _spoiled(self, picture: Picture, other: Picture, defect: Defect, index: int) -> Spoiled:
        """The frame with a defect inside of what the model sees."""
        seeds = (self._seed, index, list(KINDS).index(defect.kind), SIZES.index(defect.size))
        part = spoil(
            self._seen(picture),
            defect.kind,
            defect.size,
            defect.contrast or 0,
            self._seen(other),
            np.random.default_rng(seeds),
        )
        whole, mask = picture.copy(), np.zeros(picture.shape[:2], bool)
        self._seen(whole)[:] = part.picture
        _seen(mask, self._scorer.contract)[:] = part.mask
        return Spoiled(whole, mask)

    def _score(self, picture: Picture) -> float:
        score = float(self._scorer.score(picture[None])[0])
        if not np.isfinite(score):
            raise FrameError("the score is not a finite number")
        return score

    def _example(self, defect: Defect, picture: Picture, spoiled: Spoiled, score: float) -> Example:
        maps = None
        if self._scorer.form.anomaly_map is not None:
            untouched = self._scorer.score_with_map(picture[None])[1][0]
            maps = untouched, self._scorer.score_with_map(spoiled.picture[None])[1][0]
        found = score > self._scorer.threshold
        return Example(defect, picture, spoiled, score, found, maps)

    def result(self, of_frames: int) -> Rehearsal:
        """The figures of all frames so far, out of this many."""
        normal, scores = np.array(self._normal), np.array(self._scores)
        changes, threshold = np.array(self._changes), self._scorer.threshold
        figures = []
        for number, defect in enumerate(DEFECTS):
            found = int((scores[:, number] > threshold).sum())
            auroc = _auroc(normal, scores[:, number])
            change = float(changes[:, number].mean())
            figures.append(Figures(defect, found, found / len(normal), auroc, change))
        return Rehearsal(
            frames=len(normal),
            of_frames=of_frames,
            threshold=threshold,
            false_alarms=int((normal > threshold).sum()),
            familiar=seem_trained(normal, self._scorer.contract.calibration),
            figures=tuple(figures),
            shorter_side=(min(self._sides), max(self._sides)),
        )


def _count(source: Source) -> int:
    """How many frames a source has; it is closed then."""
    with source:
        return sum(1 for _ in _frames(source))


def _frames(source: Source) -> Iterator[Frame]:
    """The frames of a source, each of which has to be there."""
    for item in source:
        if isinstance(item, Event):
            if item.kind == "failure":
                raise FrameError(item.detail)
        else:
            yield item


def _chosen(source: Source, contract: Contract, chosen: set[int]) -> Iterator[_Normal]:
    """The frames with these numbers in the order of the source, which is closed then."""
    with source:
        for number, frame in enumerate(_frames(source)):
            if number in chosen:
                pixels = batch_of([frame], contract.channels).frames[0]
                _check_seen(frame.place, pixels, contract)
                yield _Normal(frame.place, pixels.astype(np.uint8, copy=False))


def _check_seen(place: str, pixels: NDArray[Any], contract: Contract) -> None:
    """Raise FrameError if a frame lacks the model's region, or is too small for the defects."""
    if contract.region is not None:
        try:
            contract.region.check(*pixels.shape[:2])
        except FrameError as error:
            raise FrameError(f"{place}: {error}") from error
    height, width = _seen(pixels, contract).shape[:2]
    if min(height, width) < SMALLEST:
        raise FrameError(
            f"{place}: the model sees {width} x {height} pixels of it, too few for defects of "
            f"different sizes: {SMALLEST} is the least"
        )


def _seen(values: NDArray[Value], contract: Contract) -> NDArray[Value]:
    """A view of the part of a frame, or of its mask, that the model looks at."""
    if contract.region is None:
        return values
    left, top, width, height = contract.region
    return values[top : top + height, left : left + width]


def _change(picture: Picture, spoiled: Spoiled) -> float:
    """Grey levels by which a pixel of the defect differs, on average."""
    before = picture[spoiled.mask].astype(np.float32)
    return float(np.abs(spoiled.picture[spoiled.mask] - before).mean())


def _auroc(normal: NDArray[np.float64], spoiled: NDArray[np.float64]) -> float:
    """The probability that a spoiled frame scores above a normal one; equal scores count half."""
    difference = spoiled[:, None] - normal[None, :]
    return float((difference > 0).mean() + (difference == 0).mean() / 2)
