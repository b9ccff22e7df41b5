"""What travels through the runtime: frames from a source, scored frames and events to the sinks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from adae_edge.acquisition import Acquisition
from adae_edge.errors import without_password
from adae_edge.placement import Placement

if TYPE_CHECKING:
    from adae_edge.contract import Contract
    from adae_edge.grid import Grid

# The paper's two (section 3.1), and "uncalibrated" where the threshold does not hold.
Verdict = Literal["normal", "anomalous", "uncalibrated"]

# What an event can be, and what it says.
KINDS = {
    "connecting": "the source is being opened",
    "live": "the source gives frames",
    "stalled": "the source is silent",
    "gap": "frames were lost between two others",
    "note": "what a reader of the scores should know",
    "lost": "the source went away",
    "failure": "a frame cannot be decoded or scored",
    "alarm": "anomalous frames accumulate, or no longer do",
    "drift": "scores, or the light of frames, are no longer distributed as at the calibration",
    "sink": "a sink keeps no more results, or keeps them again",
    "model": "the model was loaded again, or refused",
    "series": "all frames of a DICOM series were given",
}
# Kinds of events that come again where the same frames do.
OF_FRAMES = frozenset({"failure", "note", "gap", "series"})
# By what a series is known to be complete, the surest first.
COMPLETE = ("files", "archive", "enhanced", "commitment", "declared", "quiet")
_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Whole:
    """The way to a frame's pixels before it was shrunk, so that only frames that are shown pay.

    Attributes:
        make: returns uint8 [H, W, C]; called by one thread at a time. It raises FrameError where
            they cannot be had any more.
        held_bytes: what is held in memory for it.
    """

    make: Callable[[], NDArray[np.uint8]]
    held_bytes: int = 0


@dataclass(frozen=True)
class Instance:
    """Which DICOM instance a frame is of.

    Attributes:
        study, series: instance UIDs, as the file has them.
        sop_class, sop_instance: its UIDs; "" for a slice that was cut across several instances.
        number: the frame in a multi-frame instance from 1; 0 where the instance has one frame, or
            the slice was cut across.
        dataset: reads the instance's attributes without its pixels, as a pydicom Dataset: those of
            the series' first instance for a slice that was cut across. It raises FrameError where
            they cannot be read any more.
    """

    study: str
    series: str
    sop_class: str
    sop_instance: str
    number: int = 0
    dataset: Callable[[], Any] = field(default=dict, compare=False, repr=False)


class Cut(NamedTuple):
    """Where a frame lies in the slice that it was cut out of, which it may reach beyond.

    Attributes:
        top, left: the slice's row and column that the frame's first pixel has; may be negative.
        height, width: of the whole slice.
    """

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Frame:
    """One frame and where it came from.

    Attributes:
        source: the file's path, or the camera's name as in camera:0; without the password of a URL.
        id: number of the frame or slice in its source from 0, or a DICOM file's SOP instance UID.
        time: when it was captured; for a file when it was decoded. In seconds since 1970, UTC.
        pixels: uint8 [H, W, C], C 1 (grey) or 3 (RGB), or a slice float32 [H, W, 1]; may be
            read-only.
        mean, std: of the brain in a slice's volume; None for pictures.
        video_time: when a video shows it, in seconds from the video's start; None where there is no
            video, or it does not say.
        decoding: the rule by which a file became this frame, one of ``adae_edge.decoding.rules``;
            "" for a frame that was no file.
        acquisition: how the series of a slice was acquired; None where the source does not tell.
        about: what else the source knows of it, by name: ``person``, a hash that tells whom it
            shows, and ``complete``, one of ``COMPLETE``, where its series was waited for.
        full: height and width before it was shrunk while it was decoded; None where it was not.
        skipped: how many frames of a live source came after the frame before this one, and were not
            given because newer ones were there.
        whole: the way to the pixels before it was shrunk; None where it was not, or where no sink
            shows them.
        epoch: the time of day at which ``time.monotonic`` was 0, as the clock stood when the frame
            was made.
        instance: the DICOM instance that it is of; None where it is of none.
        cut: where it lies in its whole slice; None where it is the whole.
        grid: where the whole slice [1, H, W] lies in the patient; None where it is of no volume.
    """

    source: str
    id: int | str
    time: float
    pixels: NDArray[np.uint8 | np.float32]
    mean: float | None = None
    std: float | None = None
    video_time: float | None = None
    decoding: str = ""
    acquisition: Acquisition | None = None
    about: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    full: tuple[int, int] | None = None
    skipped: int = 0
    whole: Whole | None = field(default=None, compare=False, repr=False)
    epoch: float = field(default_factory=lambda: time.time() - time.monotonic(), compare=False)
    instance: Instance | None = None
    cut: Cut | None = None
    grid: Grid | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if "://" in self.source:
            object.__setattr__(self, "source", without_password(self.source))

    @property
    def age(self) -> float:
        """Seconds since it was captured, also where the clock was set meanwhile."""
        return time.monotonic() + self.epoch - self.time

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the raw frame, in whose pixels boxes are."""
        return self.full or (self.pixels.shape[0], self.pixels.shape[1])

    @property
    def place(self) -> str:
        """The source, and the frame's id where it is not the only one or the first."""
        return self.source if self.id == 0 else f"{self.source} {self.id}"

    @property
    def held_bytes(self) -> int:
        """What its pixels hold in memory, as it was received included."""
        return self.pixels.nbytes + (0 if self.whole is None else self.whole.held_bytes)

    def picture(self) -> NDArray[np.uint8 | np.float32]:
        """Its pixels as they were before it was shrunk, if they can be had; otherwise ``pixels``.

        Raises:
            FrameError: they cannot be had any more, because the file is gone.
        """
        return self.pixels if self.whole is None else self.whole.make()

    def without_pixels(self) -> Frame:
        """The same frame with pixels of shape [0, 0, C], which holds no picture in memory."""
        pixels = self.pixels[:0, :0].copy()
        return replace(self, pixels=pixels, full=self.size, whole=None)


class Box(NamedTuple):
    """What is anomalous in a frame, in pixels of the frame, and the map's largest value there."""

    left: int
    top: int
    width: int
    height: int
    peak: float

    def __str__(self) -> str:
        """Its corner and size, for the terminal."""
        return f"{self.left},{self.top} {self.width}x{self.height}"

    def in_slice(self, cut: Cut) -> Box | None:
        """The same in pixels of the slice that the frame was cut out of; None if it is beyond."""
        left, top = max(self.left + cut.left, 0), max(self.top + cut.top, 0)
        right = min(self.left + cut.left + self.width, cut.width)
        bottom = min(self.top + cut.top + self.height, cut.height)
        if right <= left or bottom <= top:
            return None
        return Box(left, top, right - left, bottom - top, self.peak)


@dataclass(frozen=True)
class Scored:
    """A frame and its score.

    Attributes:
        frame: what was scored.
        score: the model's, one of ``contract.SCORES``.
        threshold: the score above which a frame is anomalous.
        age: seconds from the frame's time until its score was known.
        wants: "calibrate" where the threshold was chosen on frames that were decoded by another
            rule or acquired otherwise; "" otherwise.
        anomaly_map: float32 [S, S] or [H, W], where the score comes from; None unless the model has
            it and a sink shows it of this frame.
        boxes: of the map's regions above its threshold, the one with the highest peak first, 20 at
            most; None unless the model has a map and a threshold for it, and a sink shows them of
            this frame.
        model: the short hash of the model, as in ``Scorer.model``.
        opened: the source's name as it was opened, such as the folder that the frame's file is in.
        placement: where the map lies in the frame; None without a map.
        map_threshold: above which a pixel of the map is anomalous; None without a map, or where
            none was chosen.
        latency: seconds that scoring took, the frame's share of its batch.
        alarm: whether its source has an alarm; None where nobody watches for one.
        drift: how far its source's scores are from those of the calibration, as the population
            stability index; None where nobody watches, or too few are known.
        calibrated: whether the threshold holds for how the frame was acquired; without that there
            is no verdict.
        contract: the model's; None where no stream scored it.
        file: the name of the model's file, for people; "" where the model was opened by no path.
        light: the frame's mean grey level, 0 to 255, and the share of its pixels that are white,
            0 to 1; None where nobody watches them.
        light_drift: as ``drift``, of the two in ``light`` the larger one.
    """

    frame: Frame
    score: float
    threshold: float
    age: float = 0.0
    wants: str = ""
    anomaly_map: NDArray[np.float32] | None = None
    boxes: tuple[Box, ...] | None = None
    model: str = ""
    opened: str = ""
    placement: Placement | None = None
    map_threshold: float | None = None
    latency: float = 0.0
    alarm: bool | None = None
    drift: float | None = None
    calibrated: bool = True
    contract: Contract | None = field(default=None, compare=False, repr=False)
    file: str = ""
    light: tuple[float, float] | None = None
    light_drift: float | None = None

    @property
    def name(self) -> str:
        """The source's name for people: of the stream's source, or else the frame's own."""
        return self.opened or self.frame.source

    @property
    def boxes_in_slice(self) -> tuple[Box, ...] | None:
        """The boxes in pixels of the whole slice, where the frame was cut out of one."""
        cut = self.frame.cut
        if cut is None or self.boxes is None:
            return self.boxes
        return tuple(box for one in self.boxes if (box := one.in_slice(cut)) is not None)

    @property
    def verdict(self) -> Verdict:
        """What is said of the frame: "uncalibrated" where neither of the two others can be."""
        if not self.calibrated:
            return "uncalibrated"
        return "anomalous" if self.score > self.threshold else "normal"


class Ended(NamedTuple):
    """A source gives no more frames.

    Attributes:
        opened: its name, as in ``Scored``.
    """

    opened: str


class SeriesEnd(NamedTuple):
    """All frames of a DICOM series were given.

    Attributes:
        uid: the series instance UID, as in ``Instance.series``.
        complete: by what that is known, one of ``COMPLETE``.
        revision: 1, and one more each time that the series is given again because more of it came.
            It takes the place of the revision before it.
        slices: how many slices it has, those included that gave no score.
        object: the rule by which voxels are object, as in the contract; "" for pictures.
    """

    uid: str
    complete: str
    revision: int
    slices: int
    object: str = ""


@dataclass(frozen=True)
class Event:
    """What happened to a source or to a frame that could not be scored.

    Attributes:
        source: the source's name, as in ``Frame``.
        time: when it happened, in seconds since 1970, UTC.
        kind: one of ``KINDS``.
        detail: one sentence for people, with the source's name.
        frames: how many frames it is about.
        over: whether it tells the end of what an earlier event of its kind began.
        opened: the name of the stream's source, as in ``Scored``; "" where it is about none.
        series: what has ended, where the kind is "series".
    """

    source: str
    time: float
    kind: str
    detail: str
    frames: int = 1
    over: bool = False
    opened: str = ""
    series: SeriesEnd | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"there is no event of the kind {self.kind}")
        object.__setattr__(self, "source", without_password(self.source))
        object.__setattr__(self, "detail", without_password(self.detail))


# What sinks are handed.
Delivered: TypeAlias = Scored | Event | Ended
