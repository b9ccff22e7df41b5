"""Which results a source is told of: those that every sink keeps, when they are on the disk."""

from adae_edge.runtime import Source
from adae_edge.runtime.frame import Event, Scored
from adae_edge.runtime.receipts import Receipts
from tests.support.streams import frame


class Answering(Source):
    """A source that keeps what it is told."""

    def __init__(self):
        self.told = []

    def __iter__(self):
        yield from ()

    def settle(self, results):
        self.told.append(dict(results))


def opened():
    source, keeping = Answering(), [True]
    return source, keeping, Receipts([source], lambda: keeping[0])


def result(number):
    return Scored(frame(number), 1.0, 2.0)


def test_results_are_told_after_the_second_flush_or_at_the_end():
    source, _, receipts = opened()
    receipts.write(result(0))
    receipts.flush()
    receipts.write(result(1))
    receipts.event(Event("camera:0", 1.0, "failure", "it is damaged"))
    receipts.event(Event("camera:0", 1.0, "note", "it is dark"))
    assert source.told == []
    receipts.flush()
    assert source.told == [{"camera:0": 1}]
    receipts.close()
    receipts.close()
    assert source.told == [{"camera:0": 1}, {"camera:0": 2}]


def test_what_a_sink_lacks_is_never_told():
    source, keeping, receipts = opened()
    keeping[0] = False
    receipts.write(result(0))
    keeping[0] = True
    receipts.flush()
    receipts.flush()
    receipts.close()
    assert source.told == []


def test_what_is_held_back_is_told_later():
    source, keeping, receipts = opened()
    receipts.write(result(0))
    receipts.flush()
    keeping[0] = False
    receipts.flush()
    assert source.told == []
    keeping[0] = True
    receipts.flush()
    assert source.told == [{"camera:0": 1}]
