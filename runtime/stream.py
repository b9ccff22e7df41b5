"""The streaming loop: frames from sources, through the scorer, to the sinks.

sources, each in a thread  ->  intake  ->  scores, in the thread of ``run``  ->  sinks, in one
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from adae_edge.decoding.folders import left_out_words
from adae_edge.errors import AdaeEdgeError, FrameError, UsageError
from adae_edge.runtime.coverage import Coverage
from adae_edge.runtime.delivery import Delivery
from adae_edge.runtime.frame import Delivered, Ended, Event, Frame, Scored
from adae_edge.runtime.intake import Intake, Item, Lane
from adae_edge.runtime.metrics import Metrics
from adae_edge.runtime.reloading import NOWHERE, Reloader, check_same, model_event
from adae_edge.runtime.scorer import Scorer
from adae_edge.runtime.showing import Outcome, Showing
from adae_edge.runtime.sinks.sink import Sink
from adae_edge.runtime.sources.source import Source
from adae_edge.runtime.threads import start
from adae_edge.runtime.watcher import Watcher

MAX_LATENCY_S = 0.02
_NO_MAP = "this model has no anomaly map to show: export it with --anomaly-map"
_log = logging.getLogger(__name__)


class Stream:
    """Scores every frame of its sources, and hands each result to every sink.

    ``Stream(scorer, open_source("frames/"), [open_sink("scores.jsonl")]).run()``

    A source that ends gives every frame, one source after the other, and waits where the model is
    slower. A live source gives its newest frame, and what the model had no time for is counted as
    skipped.

    Attributes:
        sources: where frames come from.
        threshold: a frame is anomalous if its score is greater.
        metrics: what it has come to so far.
        stopped: whether it was asked to stop.
    """

    def __init__(
        self,
        scorer: Scorer,
        sources: Source | Sequence[Source] | Iterable[Frame | Event],
        sinks: Iterable[Sink] = (),
        threshold: float | None = None,
        max_latency: float = MAX_LATENCY_S,
        watchers: Sequence[Watcher] = (),
    ) -> None:
        """
        Args:
            scorer: the model; it stays open.
            sources: one source, several, or anything that yields frames and events; open ones are
                closed at the end of ``run``.
            sinks: what results are handed to; they stay open, because they may serve others.
            threshold: in place of the model's own.
            max_latency: seconds that a small frame may wait for others to be scored with; 0 has
                each scored alone.
            watchers: see every result before the sinks do; what they tell goes to the sinks, too.

        Raises:
            UsageError: the threshold is no number.
        """
        self.threshold = scorer.threshold if threshold is None else threshold
        if not math.isfinite(self.threshold):
            raise UsageError(
                f"a threshold is a number, and {self.threshold} is none to compare with"
            )
        self.sources = _each(sources)
        self.metrics = Metrics()
        self.stopped = False
        self._scorer = self._given = scorer
        self._threshold = threshold
        self._max_latency = max_latency
        self._watchers = watchers
        self._delivery = Delivery(self._count)
        self._reloader = Reloader(scorer.again)
        self._showing = Showing(scorer, self.threshold)
        self._coverage = Coverage(scorer.contract)
        self._error: Exception | None = None  # by which a source ends the stream
        self._lost_sources = 0  # which the others survived
        self._busy_since = math.inf
        self._asked_s = [math.inf] * len(self.sources)  # since when each is asked for more
        for sink in sinks:
            self.add(sink)

    def add(self, sink: Sink) -> None:
        """Hand results to one more sink."""
        self._delivery.add(sink)
        self._show()

    @property
    def summary(self) -> str:
        """What the stream has come to, in a line for the terminal."""
        line = self.metrics.line(self._scorer.backend.name, self.threshold)
        ages = self.metrics.ages if self.endless else ""
        origin = self.metrics.origin
        of_sinks = *self._delivery.lacking, *self._delivery.waiting
        return "; ".join(filter(None, [line, ages, origin, self.left_out, *of_sinks]))

    @property
    def left_out(self) -> str:
        """How many files of the sources' folders were no frames, in words; "" for none."""
        left_out: Counter[str] = Counter()
        for source in self.sources:
            if isinstance(source, Source):
                left_out.update(source.left_out)
        return left_out_words(left_out)

    @property
    def endless(self) -> bool:
        """Whether a source has no end of its own, so that being stopped is how the stream ends."""
        return any(isinstance(source, Source) and source.endless for source in self.sources)

    @property
    def busy_s(self) -> float:
        """Seconds since the loop, or the reading of a file, moved; 0 while they wait for more."""
        since = [self._busy_since]
        for source, asked_s in zip(self.sources, self._asked_s, strict=True):
            if isinstance(source, Source) and not source.live:
                since.append(max(asked_s, source.moved_s))
        return max(0.0, time.monotonic() - min(since))

    @property
    def complete(self) -> bool:
        """Whether nothing was lost so far: no frame, no source on its way, no result in a sink."""
        return not (self.metrics.failures or self._lost_sources or self._delivery.lacking)

    def all_keep(self) -> bool:
        """Whether no sink fails, or holds results back because it fails."""
        return self._delivery.all_keep

    def stop(self) -> None:
        """Ask ``run`` to return after the batch in hand; for threads and signal handlers.

        What waits for it has no result: ``--resume`` gives a file its own, and a receiver keeps it.
        """
        self.stopped = True
        for source in self.sources:
            if isinstance(source, Source):
                source.stop()

    def reload(self) -> None:
        """Ask for the model's file to be loaded again; for threads and signal handlers.

        It is loaded beside the running one, and takes its place between two frames. A model that
        cannot be loaded or takes other frames is refused, and the running one stays. An event of
        the kind "model" says what became of it.
        """
        self._reloader.ask()

    def run(self) -> Metrics:
        """Score until the sources end or ``stop`` is called.

        Returns:
            The metrics, which are complete at any time, also when an error breaks off the stream.

        Raises:
            SourceError: the only source went away; of several the others go on.
            SinkError: no sink keeps results any more, and no source is endless.
            DeviceError: the device failed.
        """
        intake = Intake(self._max_latency)
        try:
            with (
                self._delivery.running(for_ever=self.endless),
                self._reloader.running(intake),
                self._capturing(intake),
            ):
                if self._showing.lacks_map:
                    self._delivery.put([_event("model", "note", _NO_MAP)])
                while (items := intake.take()) and not self.stopped:
                    self._busy_since = time.monotonic()
                    self._delivery.put(self._results(items))
                    if self._error is not None:
                        raise self._error
                    self._busy_since = math.inf
        finally:
            self._busy_since = math.inf
            self._take_scorer(self._given)
            _log.info("%d frames scored, %d failures", self.metrics.frames, self.metrics.failures)
        return self.metrics

    @contextlib.contextmanager
    def _capturing(self, intake: Intake) -> Iterator[None]:
        """Capture within: sources that do not wait each in a thread, the others in one, in turn."""
        alone = [
            isinstance(source, Source) and (source.live or source.endless)
            for source in self.sources
        ]
        ending = [place for place, is_alone in enumerate(alone) if not is_alone]
        groups = [[place] for place, is_alone in enumerate(alone) if is_alone]
        threads = []
        try:
            for places in [ending, *groups] if ending else groups:
                lane = intake.lane(_is_live(self.sources[places[0]]))
                threads.append(start("capture", self._capture, intake, lane, places))
            yield
        except BaseException:
            for source in self.sources:
                if isinstance(source, Source):
                    source.stop()
            raise
        finally:
            intake.close()
            for thread in threads:
                thread.join()
            for source in self.sources:
                if isinstance(source, Source):
                    source.close()

    def _capture(self, intake: Intake, lane: Lane, places: Sequence[int]) -> None:
        """Lay all that these sources give into a lane; what they raise ends them, and lies last."""
        try:
            for place in places:
                try:
                    for item in self._items(place):
                        if self.stopped or not intake.put(lane, place, item):
                            return
                except Exception as error:  # raised or told by the thread that scores
                    intake.put(lane, place, error)
                if self.stopped or not intake.put(lane, place, Ended(_name(self.sources[place]))):
                    return
        finally:
            intake.end(lane)

    def _items(self, place: int) -> Iterator[Frame | Event]:
        """What a source gives; notes since when it is asked for more."""
        self._asked_s[place] = time.monotonic()
        try:
            for item in self.sources[place]:
                self._asked_s[place] = math.inf
                yield item
                self._asked_s[place] = time.monotonic()
        finally:
            self._asked_s[place] = math.inf

    def _results(self, items: Sequence[Item]) -> list[Delivered]:
        """Score the frames of a batch; what becomes of each item, in order."""
        for place, (_, what) in enumerate(items):
            if isinstance(what, Scorer):  # what lies behind it is scored by it
                before = self._results(items[:place])
                return [*before, *self._change_to(what), *self._results(items[place + 1 :])]
            if isinstance(what, Event) and what.series and place < len(items) - 1:
                # The same series may begin anew behind its end.
                return [*self._results(items[: place + 1]), *self._results(items[place + 1 :])]
        frames = [what for _, what in items if isinstance(what, Frame)]
        outcomes = iter(self._score(frames))
        results: list[Delivered] = []
        for place, what in items:
            opened = "" if place == NOWHERE else _name(self.sources[place])
            if isinstance(what, Frame):
                results += self._result(opened, what, next(outcomes))
            elif isinstance(what, Event):
                results.append(replace(what, opened=opened))
                if what.series is not None:
                    self._showing.forget(what.series.uid)
            elif isinstance(what, Ended):
                results.append(what)
            else:
                results += self._lost(opened, what)
        return results

    def _score(self, frames: Sequence[Frame]) -> list[Outcome | FrameError]:
        """What each frame's score is, or why it has none, and the time that it took."""
        started = time.perf_counter()
        outcomes = self._showing.score(frames)
        for outcome in outcomes:
            if not isinstance(outcome, FrameError):
                share = (time.perf_counter() - started) / len(frames)
                self.metrics.latencies_s.append(share)
        return outcomes

    def _result(
        self, opened: str, frame: Frame, outcome: Outcome | FrameError
    ) -> list[Scored | Event]:
        """A frame's result, and a note on its rule where it is the first one; or its failure."""
        self.metrics.skipped += frame.skipped
        if isinstance(outcome, FrameError) or not math.isfinite(outcome.score):
            why = outcome if isinstance(outcome, FrameError) else "the score is not a finite number"
            return [_event(frame.source, "failure", f"{frame.source} {frame.id}: {why}", opened)]
        age, contract = frame.age, self._scorer.contract
        calibrated = contract.covers(frame.acquisition)
        kept = self._showing.kept(frame, outcome)
        scored = Scored(
            kept,
            outcome.score,
            self.threshold,
            age,
            self._coverage.wants(frame),
            outcome.anomaly_map,
            outcome.boxes,
            self._scorer.model,
            opened,
            outcome.placement,
            outcome.map_threshold,
            self.metrics.latencies_s[-1],
            calibrated=calibrated,
            contract=contract,
            file=self._scorer.file,
            light=self._coverage.light(frame, self._watchers),
        )
        self.metrics.take(scored)
        unknown = contract.kind == "modality" and frame.acquisition is None
        self.metrics.origin_unknown += unknown
        return [*self._coverage.note(frame, opened), *self._watched(scored)]

    def _watched(self, scored: Scored) -> list[Scored | Event]:
        """A result with what the watchers know of its source, and behind it what they tell."""
        events: list[Event] = []
        for watcher in self._watchers:
            scored, told = watcher.watch(scored)
            events += told
        if scored.drift is None:
            self.metrics.drift.pop(scored.opened, None)
        else:
            self.metrics.drift[scored.opened] = scored.drift
        return [scored, *events]

    def _show(self) -> None:
        """Compute what the sinks show with the present model and threshold."""
        self._showing = Showing(self._scorer, self.threshold, self._delivery.sinks)

    def _change_to(self, new: Scorer) -> list[Event]:
        """Score with a model that was loaded again from here on, unless it is refused."""
        try:
            check_same(new, self._scorer)
        except UsageError as error:
            new.close()
            return [model_event(f"the model stays as it is: {error}")]
        before = self._scorer.model
        if self._threshold is None:
            self.threshold = new.threshold
        self._take_scorer(new)
        detail = f"the model was loaded again: {new.model}, before {before}"
        told = [model_event(f"{detail}; threshold {self.threshold:.4f}")]
        for watcher in self._watchers:
            told += watcher.recalibrate(new.contract.calibration)
        return told

    def _take_scorer(self, scorer: Scorer) -> None:
        """Use a scorer, and close the one before if this stream opened it."""
        before, self._scorer = self._scorer, scorer
        self._coverage = Coverage(scorer.contract)
        self._show()
        if before not in (self._given, scorer):
            before.close()

    def _lost(self, opened: str, error: Exception) -> list[Event]:
        """What is told of a source that ended by an error and that others survive."""
        if len(self.sources) == 1 or not isinstance(error, AdaeEdgeError | OSError):
            self._error = error
            return []
        self._lost_sources += 1
        detail = str(error) if isinstance(error, AdaeEdgeError) else f"{opened}: {error.strerror}"
        return [_event(opened, "lost", detail, opened)]

    def _count(self, event: Event) -> None:
        """Take note of an event on its way to the sinks."""
        self.metrics.events[event.kind] += event.frames
        _log.info("%s: %s", event.kind, event.detail)


def _each(
    sources: Source | Sequence[Source] | Iterable[Frame | Event],
) -> tuple[Source | Iterable[Frame | Event], ...]:
    """The sources, of which one may be given alone."""
    if isinstance(sources, Sequence) and all(isinstance(source, Source) for source in sources):
        return tuple(source for source in sources if isinstance(source, Source))
    return (sources,)  # type: ignore[return-value]


def _is_live(source: Source | Iterable[Frame | Event]) -> bool:
    return isinstance(source, Source) and source.live


def _name(source: Source | Iterable[Frame | Event]) -> str:
    return source.name if isinstance(source, Source) else ""


def _event(source: str, kind: str, detail: str, opened: str = "") -> Event:
    return Event(source, time.time(), kind, detail, opened=opened)
