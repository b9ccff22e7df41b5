"""What the times of a run come to, and the loads under which they are taken."""

import itertools
import time
from array import array

import numpy as np
import pytest

from adae_edge.benchmarks import figures, load
from adae_edge.benchmarks.figures import Condition
from adae_edge.errors import UsageError
from adae_edge.formats import modelfile
from tests.support.models import mean_model

NAMES = ("p50_ms", "p99_ms", "mean_over_p50")


def milliseconds(values):
    return array("d", [value / 1e3 for value in values])


def test_every_time_counts_and_none_is_clipped():
    found = figures.summary(milliseconds([*range(1, 1000), 1e6]))
    assert (found["runs"], found["min_ms"], found["max_ms"]) == (1000, 1, 1e6)
    assert found["p50_ms"] == 500.5
    assert found["mean_ms"] == pytest.approx((999 * 1000 / 2 + 1e6) / 1000)
    assert found["mean_over_p50"] == pytest.approx(found["mean_ms"] / 500.5, abs=1e-3)
    assert sum(found["histogram"]["counts"]) == 1000
    assert found["course"]["max_ms"][-1] == 1e6


@pytest.mark.parametrize(
    ("calls", "known"),
    [
        (19, []),
        (20, ["p50"]),
        (99, ["p50"]),
        (100, ["p50", "p90"]),
        (200, ["p50", "p90", "p95"]),
        (999, ["p50", "p90", "p95"]),
        (1000, ["p50", "p90", "p95", "p99"]),
        (9_999, ["p50", "p90", "p95", "p99"]),
        (10_000, ["p50", "p90", "p95", "p99", "p999"]),
    ],
)
def test_a_percentile_needs_ten_calls_above_it(calls, known):
    found = figures.summary(milliseconds(range(1, calls + 1)))
    assert [name for name in figures.PERCENTILES if found[f"{name}_ms"] is not None] == known
    for name in known:
        above = sum(value > found[f"{name}_ms"] for value in range(1, calls + 1))
        assert above >= 10


def test_parts_follow_the_run_in_order():
    found = figures.summary(milliseconds([1] * 50 + [3] * 50))
    assert found["parts_p50_ms"] == [1] * 5 + [3] * 5
    assert figures.spread(found["parts_p50_ms"]) == 1.0
    assert figures.summary(milliseconds([2, 4]))["parts_mean_ms"] == [2, 4]
    with pytest.raises(ValueError, match="no times"):
        figures.summary(array("d"))


def test_the_bins_of_a_histogram_hold_their_times():
    times = [0.05, 0.0501, 0.9, 1.0, 1.01, 700]
    histogram = figures.summary(milliseconds(times))["histogram"]
    edges, counts = figures.edges_ms(histogram), histogram["counts"]
    assert len(edges) == len(counts) + 1
    held = [sum(low <= value < high for value in times) for low, high in itertools.pairwise(edges)]
    assert held == counts


def test_the_interval_of_a_ratio_covers_it_and_shows_what_it_can():
    random = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        old, new = np.exp(random.normal(0, 0.05, (2, 10)))
        interval = figures.ratio(list(1.2 * new), list(old))
        assert interval.low < interval.ratio < interval.high
        covered += interval.low <= 1.2 <= interval.high
    assert 170 <= covered <= 198
    assert not figures.ratio([1, 1.1] * 5, [1.1, 1] * 5).shows_difference
    assert figures.ratio([1.5, 1.6] * 5, [1.1, 1] * 5).shows_difference


def test_conditions_are_names_signs_and_numbers():
    condition = Condition.parse(" p99_ms>20.5 ", NAMES)
    assert (condition.name, condition.sign, condition.value) == ("p99_ms", ">", 20.5)
    assert condition.holds({"p99_ms": 21}) is True
    assert condition.holds({"p99_ms": 20.5}) is False
    assert condition.holds({"p99_ms": None}) is None
    assert Condition.parse("p50_ms <= 3", NAMES).holds({"p50_ms": 3}) is True


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("p98_ms > 1", "there is no figure p98_ms: there are p50_ms, p99_ms, mean_over_p50"),
        ("p99_ms", "something else"),
        ("p99_ms > p50_ms", "something else"),
        ("p99_ms > 1 or 1", "something else"),
        ("__import__('os').abort() > 1", "something else"),
        ("p99_ms == 1", "something else"),
        ("p99_ms > -1", "something else"),
        ("p99_ms > 1e999", "something else"),
    ],
)
def test_other_conditions_are_refused_and_never_run(text, sentence):
    with pytest.raises(UsageError, match=sentence):
        Condition.parse(text, NAMES)


def test_frames_are_no_zeros_and_take_turns():
    contract = modelfile.check(mean_model(3)).contract
    rotation = load.Rotation(contract, (64, 48), 2)
    batches = [rotation.turn()[0] for _ in range(len(rotation))]
    assert len(batches) == load.arrays_for((64, 48), 3, 2) > 4
    assert all(batch.shape == (2, 48, 64, 3) and batch.dtype == np.uint8 for batch in batches)
    assert all(100 < batch.mean() < 155 for batch in batches)
    assert len({batch.tobytes() for batch in batches}) == len(batches)
    assert rotation.turn()[0] is batches[0]


class Clock:
    """A clock that moves by sleeping and working alone."""

    def __init__(self, monkeypatch):
        self.now, self.work = 0.0, 0.0
        for name in ("monotonic", "perf_counter"):
            monkeypatch.setattr(time, name, lambda: self.now)
        monkeypatch.setattr(time, "sleep", self.sleep)

    def sleep(self, seconds):
        self.now += seconds

    def call(self):
        self.now += self.work


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def test_a_closed_loop_calls_for_its_time_and_twenty_times(clock):
    clock.work = 0.25
    assert list(load.closed(clock.call, 10).times_s) == [0.25] * 40
    assert len(load.closed(clock.call, 0.1).times_s) == 20
    assert load.closed(clock.call, 10).wall_s == 10


def test_an_open_loop_calls_at_due_times(clock):
    clock.work = 0.25
    found = load.open_loop(clock.call, 2, 20)
    assert list(found.times_s) == pytest.approx([0.25] * 40)
    assert list(found.waits_s) == pytest.approx([0] * 40)
    assert set(found.queue) == {1}


def test_a_late_call_counts_its_waiting_and_the_queue_grows(clock):
    clock.work = 1.0
    found = load.open_loop(clock.call, 2, 10)
    assert list(found.times_s) == pytest.approx([1 + number / 2 for number in range(20)])
    assert list(found.waits_s) == pytest.approx([number / 2 for number in range(20)])
    assert list(found.queue) == [*range(1, 11), *range(10, 0, -1)]


def test_a_rate_that_is_far_too_high_is_given_up(clock):
    clock.work = 1.0
    found = load.open_loop(clock.call, 100, 1)
    assert (len(found.times_s), found.given_up) == (20, 80)  # as few as make a figure
    found = load.open_loop(clock.call, 10, 10)
    assert (len(found.times_s), found.given_up) == (51, 49)  # more than five times as long as asked


def test_a_loop_that_is_stopped_keeps_what_it_has(clock):
    clock.work = 0.5
    ends = iter([False] * 2 + [True])
    assert len(load.closed(clock.call, 10, lambda: next(ends)).times_s) == 3
    clock.now = 0.0
    stopped = load.open_loop(clock.call, 0.1, 10, lambda: clock.now > 13)
    assert len(stopped.times_s) == 2
    assert clock.now < 13.2  # and not when the third call is due, at 20


def test_the_highest_rate_is_found_by_halving():
    tried = []

    def holds(rate):
        tried.append(rate)
        return rate <= 61

    found = load.highest_rate(holds, 128)
    assert 60 <= found <= 61
    assert len(tried) == 7
    assert load.highest_rate(lambda rate: False, 128) is None
