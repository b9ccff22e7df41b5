"""What tests of sinks that send over the network share."""

from adae_edge.runtime.frame import Event
from tests.runtime.test_sinks import result

LOST = Event("camera:0", 1.0, "lost", "camera:0 went away")


def write(sink, numbers):
    for number in numbers:
        sink.write(result("camera:0", number))


def frames(rows):
    """The numbers of the frames that rows are about."""
    return [row["frame"] for row in rows if "score" in row]
