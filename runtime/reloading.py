"""Loads a model again beside the one that scores."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable, Iterator

from adae_edge.decoding.shrinking import Shrinking
from adae_edge.errors import AdaeEdgeError, UsageError, first_line
from adae_edge.runtime.frame import Event
from adae_edge.runtime.intake import Intake, Lane
from adae_edge.runtime.scorer import Scorer
from adae_edge.runtime.threads import start

# What sources give, and what a threshold means, must not change under a stream.
_SAME = ("kind", "channels", "side", "region", "modality", "window", "bits", "score")
NOWHERE = -1  # the place of a source that what comes from here has


class Reloader:
    """Loads a model when asked, in a thread of its own, and lays it between the frames."""

    def __init__(self, load: Callable[[], Scorer]) -> None:
        """
        Args:
            load: opens the model's file again.
        """
        self._load = load
        self._asked: queue.SimpleQueue[bool] = queue.SimpleQueue()  # a signal handler may put

    def ask(self) -> None:
        """Ask for the model to be loaded again; returns at once."""
        self._asked.put(True)

    @contextlib.contextmanager
    def running(self, intake: Intake) -> Iterator[None]:
        """Load what is asked for within, and lay it, or why it is refused, into the intake."""
        lane = intake.lane(live=False)
        intake.end(lane)  # nobody waits for a model to come
        thread = start("model", self._run, intake, lane)
        try:
            yield
        finally:
            self._asked.put(False)
            thread.join()

    def _run(self, intake: Intake, lane: Lane) -> None:
        while self._asked.get():
            try:
                loaded = self._load()
            except Exception as error:  # memory may be short for two, and the next one be asked for
                reason = str(error) if isinstance(error, AdaeEdgeError) else first_line(error)
                intake.put(lane, NOWHERE, model_event(f"the model stays as it is: {reason}"))
                continue
            if not intake.put(lane, NOWHERE, loaded):
                loaded.close()


def model_event(detail: str) -> Event:
    """The event that a model was loaded again, or refused."""
    return Event("model", time.time(), "model", detail)


def check_same(new: Scorer, old: Scorer) -> None:
    """Refuse a model that takes other frames, or whose score means something else.

    Raises:
        UsageError: it does.
    """
    for name in _SAME:
        theirs, ours = getattr(new.contract, name), getattr(old.contract, name)
        if theirs != ours:
            raise UsageError(f"the new one has {name} = {theirs!r}, and this one {ours!r}")
    if new.form.size != old.form.size:
        raise UsageError("the new one takes frames of another size")
    if Shrinking.by(new.contract) != Shrinking.by(old.contract):
        raise UsageError("the new one takes frames that are shrunk otherwise")
