"""Threads that cannot start, and work of several whose results come in order."""

import itertools
import threading

import pytest

from adae_edge.errors import DeviceError
from adae_edge.runtime.threads import in_order, start


@pytest.mark.parametrize("jobs", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 3, 4, 100])
def test_results_come_in_the_order_of_the_items(jobs, count):
    assert list(in_order(lambda item: item * item, range(count), jobs)) == [
        item * item for item in range(count)
    ]


def test_jobs_work_at_the_same_time():
    both = threading.Barrier(2, timeout=60)

    def work(item):
        if item in (0, 4):  # the first of each thread
            both.wait()
        return item

    assert list(in_order(work, range(8), 2)) == list(range(8))


def test_one_job_works_where_it_is_asked_and_nothing_ahead():
    taken = iter(range(100))
    results = in_order(lambda item: threading.current_thread(), taken, 1)
    assert next(results) is threading.current_thread()
    assert next(taken) == 1


def test_work_is_done_a_few_items_ahead_and_no_more():
    taken = itertools.count()
    results = in_order(lambda item: item, taken, 2)
    assert [next(results) for _ in range(10)] == list(range(10))
    results.close()
    assert next(taken) <= 10 + 5 * 4 + 4


def test_what_the_work_raises_is_raised_after_the_results_before_it():
    results, seen = in_order(lambda item: 1 // (item - 8), range(50), 3), []
    with pytest.raises(ZeroDivisionError):
        seen.extend(results)
    assert len(seen) == 8


def test_what_is_done_does_not_wait_for_a_later_item_that_hangs():
    hanging = threading.Event()

    def work(item):
        if item == 2:  # of the first four, which one thread takes
            assert hanging.wait(60), "what was done waited, too"
        return item

    results = in_order(work, range(20), 2)
    try:
        assert [next(results), next(results)] == [0, 1]
    finally:
        hanging.set()
    assert list(results) == list(range(2, 20))


def test_whoever_stops_early_leaves_no_thread():
    before = set(threading.enumerate())
    results = in_order(lambda item: item, range(1000), 4)
    next(results)
    results.close()
    assert set(threading.enumerate()) <= before


def test_a_thread_that_cannot_start_is_one_sentence(monkeypatch):
    def none_left(*arguments):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none_left)
    with pytest.raises(DeviceError, match="no more threads"):
        start("work", print)
