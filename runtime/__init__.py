"""The runtime: scores frames with an exported model, without PyTorch and without onnx.

from adae_edge.runtime import Scorer, Stream, open_for, open_sink

scorer = Scorer("model.onnx")
scores = scorer.score(frames)
with open_sink("scores.jsonl") as sink:
    Stream(scorer, open_for(scorer.contract, "frames/"), [sink]).run()
"""

import logging

from adae_edge.runtime.frame import Event, Frame, Scored
from adae_edge.runtime.metrics import Metrics
from adae_edge.runtime.scorer import Scorer
from adae_edge.runtime.sinks.registry import open_sink
from adae_edge.runtime.sinks.sink import Sink
from adae_edge.runtime.sources.registry import open_for, open_source
from adae_edge.runtime.sources.source import Source, Wanted
from adae_edge.runtime.stream import Stream

# A program that wants the log takes it; without one, nothing is printed beside what a command says.
logging.getLogger("adae_edge").addHandler(logging.NullHandler())

__all__ = [
    "Event",
    "Frame",
    "Metrics",
    "Scored",
    "Scorer",
    "Sink",
    "Source",
    "Stream",
    "Wanted",
    "open_for",
    "open_sink",
    "open_source",
]
