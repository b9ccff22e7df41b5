"""What tests of sinks that send over the network share."""

from contextlib import contextmanager

from adae_edge.runtime.frame import Event
from adae_edge.runtime.sinks import queued
from adae_edge.runtime.sinks.registry import open_sink
from tests.runtime.test_sinks import result
from tests.support.models import HANGS_S

LOST = Event("camera:0", 1.0, "lost", "camera:0 went away")


def write(sink, numbers):
    for number in numbers:
        sink.write(result("camera:0", number))


def frames(rows):
    """The numbers of the frames that rows are about."""
    return [row["frame"] for row in rows if "score" in row]


@contextmanager
def quick_sinks(monkeypatch, module, sign, spool):
    """Within, opens sinks of a module by their URLs, which pause shortly, and are patient.

    The sign is what options of such URLs follow.
    """
    monkeypatch.setattr(queued, "_FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(queued, "_LONGEST_PAUSE_S", 0.1)
    monkeypatch.setattr(module, "_ANSWER_S", HANGS_S)
    sinks = []

    def again(url):
        mark = "&" if sign in url else sign
        sinks.append(open_sink(f"{url}{mark}spool={spool}"))
        return sinks[-1]

    yield again
    for sink in sinks:
        sink.close()
