"""What comes and goes is told ever more rarely, and a failure that lasts is always told."""

from types import SimpleNamespace

import pytest

from adae_edge.runtime import flapping
from adae_edge.runtime.flapping import Flapping


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(flapping, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_the_first_failure_and_its_end_are_told(clock):
    one = Flapping()
    assert [one.fails(), one.fails(), one.works()] == [True, False, True]


def test_what_flaps_for_a_day_is_told_some_thirty_times(clock):
    one, told = Flapping(), 0
    for clock.now in range(0, 24 * 3600, 10):
        told += one.fails()
        clock.now += 5
        told += one.works()
    assert 2 * 24 <= told <= 2 * 31


def test_a_failure_that_lasts_is_told_with_those_before_it(clock):
    one = Flapping()
    one.fails(), one.works()
    for clock.now in range(10, 40, 10):
        assert not one.fails()
        assert not one.works()
    clock.now = 50
    assert not one.fails()
    clock.now = 61
    assert one.fails()
    assert one.more == "; it failed 3 times since the last word"
    assert one.works()


def test_after_an_hour_in_which_all_is_well_it_begins_anew(clock):
    one = Flapping()
    for clock.now in range(100):
        one.fails(), one.works()
    clock.now += 3601
    assert one.fails()
    assert one.works()
    assert one.untold == 0
    clock.now += 61
    assert one.fails()
