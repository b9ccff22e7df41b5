"""What every source of frames is, and what a model asks of it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from adae_edge.contract import Contract, Window
from adae_edge.decoding.shrinking import Shrinking
from adae_edge.errors import UsageError
from adae_edge.runtime.frame import Event, Frame

if TYPE_CHECKING:
    from typing import Self


class Receiving(NamedTuple):
    """How a source receives files that others send.

    Attributes:
        spool: folder where they are kept until they are scored.
        cert, key: of the own certificate, which turn encryption on.
        ca: of those who sign the certificates that senders have to show.
        quiet: seconds without a further instance after which a series counts as complete, where
            nothing surer says so.
    """

    spool: Path
    cert: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    quiet: float = 60.0


@dataclass(frozen=True)
class Wanted:
    """The frames that a model takes, and what its user says of them.

    Attributes:
        kind: of the frames, "image" or "modality", as in the contract.
        window: centre and width of the grey values of DICOM files, in place of their own.
        modality: which volumes are taken, where names say what they show; None for all.
        bits: of a camera's grey values in 16-bit files, or None for all 16.
        object: the rule by which voxels of a volume are object, as in the contract; None for
            "nonzero".
        field_of_view: side of the square around the object that is looked at, mm; None for all.
        brain_mask: for volumes that are not skull-stripped, a mask or a folder of masks.
        shrinking: how far frames may be shrunk while they are decoded; None leaves them whole.
        triggered: whether a live source may be silent for any time, as a camera that waits for a
            trigger.
        done: tells by a frame's source and id that its result is kept already, so that the source
            leaves it out and need not decode it; a live source never asks.
        jobs: how many files are decoded at once; None for one picture, and for DICOM files as many
            as this process may use CPUs.
        receiving: how files are received; None where no source receives any.
        collected: whether a sink makes something of a whole series, so that its instances are let
            go of after its end, and are given again where more of it comes.
    """

    kind: str = "image"
    window: Window | None = None
    modality: str | None = None
    bits: int | None = None
    object: str | None = None
    field_of_view: float | None = None
    brain_mask: Path | None = None
    shrinking: Shrinking | None = None
    done: Callable[[str, int | str], bool] = lambda source, frame: False
    jobs: int | None = None
    triggered: bool = False
    receiving: Receiving | None = None
    collected: bool = False

    @staticmethod
    def by(
        contract: Contract,
        window: Window | None = None,
        brain_mask: Path | None = None,
        exact: bool = False,
    ) -> Wanted:
        """What a contract says, with the window of the training where no other one is given.

        With ``exact`` no frame is shrunk while it is decoded.
        """
        return Wanted(
            kind=contract.kind,
            window=window or contract.window,
            modality=contract.modality,
            bits=contract.bits,
            object=contract.object,
            field_of_view=contract.field_of_view,
            brain_mask=brain_mask,
            shrinking=None if exact else Shrinking.by(contract),
        )

    def check_pictures(self, what: str) -> None:
        """Raise UsageError if a source of pictures, named ``what``, cannot give what is wanted."""
        if self.kind != "image":
            raise UsageError(f"{what} gives pictures, and this model takes the slices of volumes")
        if self.brain_mask is not None:
            raise UsageError(
                "a brain mask goes with a model for the slices of volumes, and this one takes "
                "pictures"
            )

    def check_series(self, what: str) -> None:
        """Raise UsageError if DICOM series of a source, named ``what``, cannot be what is wanted.

        They show the skull, and have grey values that no window changes.
        """
        if self.window is not None:
            raise UsageError("--window is for pictures, and this model takes the slices of volumes")
        if self.object == "head" and self.brain_mask is not None:
            raise UsageError("this model looks at the whole head: leave out --brain-mask")
        if self.object != "head" and self.brain_mask is None:
            raise UsageError(
                f"{what} gives DICOM series, which show the skull, and this model looks at the "
                "brain alone: give masks of the brain by --brain-mask, or train a model with "
                "--object head"
            )


class Source(ABC):
    """Yields frames in order, and events between them; a context manager.

    A frame that cannot be decoded is yielded as an event of the kind "failure", so that the others
    are still scored.

    Attributes:
        live: whether it gives the newest frame when asked, as a camera does, and leaves out those
            that nobody had time for; another one gives every frame.
        left_out: how many files of a folder are no frames, by what they are called; complete at the
            end.
        name: as it was opened on the command line, without a password.
        triggered: as in ``Wanted``.
        answers: whether it answers for its frames until their results are kept, by ``settle``.
        spools: whether it keeps what it receives in the spool of ``Wanted.receiving``.
        moved_s: when it last looked for more, by ``time.monotonic``, where it waits for that; inf
            where it may be silent for any time. Not looked at where it is live.
    """

    live = False
    answers = False
    spools = False
    moved_s = 0.0
    name = ""
    left_out: Mapping[str, int] = MappingProxyType({})
    triggered = False
    _stopping = False

    @property
    def endless(self) -> bool:
        """Whether it has no end of its own, so that being stopped is how it ends, and no failure.

        A camera has none, and nor does a folder that is watched, though it gives every frame.
        """
        return self.live

    @abstractmethod
    def __iter__(self) -> Iterator[Frame | Event]:
        """Frames and events.

        Raises:
            SourceError: the source went away.
        """

    def stop(self) -> None:
        """Ask the source to end soon; may be called by another thread and by a signal handler."""
        self._stopping = True

    def settle(self, results: Mapping[str, int]) -> None:
        """Take note of what every sink keeps; may be called by another thread.

        Args:
            results: how many further ones, by the ``source`` of their frames or failures; also of
                other sources.
        """

    def close(self) -> None:
        """Give back what the source holds; a second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def failure(source: str, error: Exception | str) -> Event:
    """The event of a frame that cannot be decoded or scored."""
    return Event(source, time.time(), "failure", str(error))
