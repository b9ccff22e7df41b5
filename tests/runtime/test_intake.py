"""What waits between capture and scoring: order, bounds, the newest frame, and batches."""

import threading

import numpy as np
import pytest

from adae_edge.runtime import Event, Frame
from adae_edge.runtime.batching import MOST_FRAMES, batch_of, room_for
from adae_edge.runtime.intake import Intake

SMALL, LARGE = (20, 30, 1), (1000, 600, 1)


def frame(number, shape=SMALL, source="camera:0", **known):
    return Frame(source, number, float(number), np.zeros(shape, np.uint8), **known)


def event(detail="", kind="live"):
    return Event("camera:0", 0.0, kind, detail)


def ids(items):
    return [what.id if isinstance(what, Frame) else what.kind for _, what in items]


def filled(*items, live=False, max_latency=60.0):
    """An intake whose only source gave these and ended."""
    intake = Intake(max_latency)
    lane = intake.lane(live)
    for item in items:
        assert intake.put(lane, 0, item)
    intake.end(lane)
    return intake


def everything(intake):
    """All that is taken, a list for each time."""
    taken = []
    while items := intake.take():
        taken.append(ids(items))
    return taken


def within(work):
    """A thread that does this; fails where it hangs."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def ended(thread):
    thread.join(60)
    assert not thread.is_alive()
    return True


def test_small_frames_are_taken_together_and_large_ones_one_by_one():
    small = [frame(number) for number in range(MOST_FRAMES + 3)]
    first, second = everything(filled(*small))
    assert (first, len(second)) == ([*range(MOST_FRAMES)], 3)
    large = [frame(number, LARGE) for number in range(3)]
    assert everything(filled(*large)) == [[0], [1], [2]]
    assert everything(filled(*small[:3], max_latency=0)) == [[0], [1], [2]]


def test_only_frames_of_one_shape_and_dtype_are_taken_together():
    other = frame(2, (30, 20, 1))
    real = Frame("x", 3, 0.0, np.zeros((30, 20, 1), np.float32), 0.0, 1.0)
    assert everything(filled(frame(0), frame(1), other, real, frame(4))) == [[0, 1], [2], [3], [4]]


def test_events_keep_their_place_between_the_frames_of_a_batch():
    items = [event(), frame(0), event(kind="gap"), frame(1), event(kind="lost")]
    assert everything(filled(*items)) == [["live", 0, "gap", 1, "lost"]]


def test_a_frame_that_waits_is_replaced_by_a_newer_one_of_its_live_source_alone():
    intake = Intake(0.0)
    one, two = intake.lane(live=True), intake.lane(live=True)
    for number in range(5):
        intake.put(one, 0, frame(number, skipped=number % 2))
    intake.put(two, 1, frame(7, source="camera:1"))
    first, second = intake.take(), intake.take()
    (place, newest), (other, _) = *first, *second
    assert (place, newest.id, newest.skipped) == (0, 4, 4 + 2)  # 4 replaced, 2 skipped by these
    assert (other, ids(second)) == (1, [7])
    intake.put(one, 0, frame(8))
    assert [what.skipped for _, what in intake.take()] == [0]


def test_events_of_a_live_source_are_never_dropped_and_a_newer_frame_comes_after_them():
    items = [event(str(number), "gap") for number in range(100)]
    intake = filled(frame(0), *items, frame(1), event(), live=True)
    (taken,) = everything(intake)
    assert taken == ["gap"] * 100 + [1, "live"]


def test_a_source_that_ends_waits_for_room_and_loses_nothing():
    intake = Intake(0.0)
    lane, put = intake.lane(live=False), []
    for number in range(2 * MOST_FRAMES):
        intake.put(lane, 0, frame(number, LARGE))
    waiting = within(lambda: put.append(intake.put(lane, 0, frame(99, LARGE))))
    assert lane.full
    assert put == []
    assert ids(intake.take()) == [0]
    assert ended(waiting)
    assert put == [True]
    assert lane.full
    intake.end(lane)
    assert everything(intake) == [[number] for number in [*range(1, 2 * MOST_FRAMES), 99]]


def test_few_frames_of_a_great_size_fill_it():
    intake = Intake(0.0)
    lane = intake.lane(live=False)
    for number in range(3):
        intake.put(lane, 0, frame(number, (5000, 5000, 1)))
    assert lane.full
    assert lane.held_bytes == 3 * 5000 * 5000
    intake.take()
    assert not lane.full


def test_closing_lets_go_of_a_capture_that_waits_for_room():
    intake = Intake(0.0)
    lane, put = intake.lane(live=False), []
    for number in range(2 * MOST_FRAMES):
        intake.put(lane, 0, frame(number))
    waiting = within(lambda: put.append(intake.put(lane, 0, frame(99))))
    intake.close()
    assert ended(waiting)
    assert put == [False]
    assert intake.put(lane, 0, frame(100)) is False


def test_a_batch_waits_for_company_until_it_is_full():
    intake, taken = Intake(60.0), []
    lane = intake.lane(live=False)
    taking = within(lambda: taken.append(ids(intake.take())))
    for number in range(MOST_FRAMES):
        intake.put(lane, 0, frame(number))
    assert ended(taking)
    assert taken == [[*range(MOST_FRAMES)]]


def test_a_batch_waits_no_longer_than_it_may():
    intake = Intake(0.05)
    lane = intake.lane(live=False)
    intake.put(lane, 0, frame(0))
    assert ids(intake.take()) == [0]


def test_the_end_of_a_source_ends_the_wait_for_company():
    intake, taken = Intake(3600.0), []
    lane = intake.lane(live=False)
    taking = within(lambda: taken.extend([ids(intake.take()), intake.take()]))
    intake.put(lane, 0, frame(0))
    intake.end(lane)
    assert ended(taking)
    assert taken == [[0], []]


def test_a_lone_camera_never_waits_and_two_wait_for_each_other():
    intake = Intake(3600.0)
    one = intake.lane(live=True)
    intake.put(one, 0, frame(0))
    assert ids(intake.take()) == [0]

    two, taken = intake.lane(live=True), []
    for number, lane in enumerate([one, two]):
        intake.put(lane, number, frame(number, source=f"camera:{number}"))
    assert ids(intake.take()) == [0, 1]
    taking = within(lambda: taken.append(ids(intake.take())))
    intake.put(two, 1, frame(3, source="camera:1"))
    intake.put(one, 0, frame(2))
    assert ended(taking)
    assert taken == [[3, 2]]


def test_nobody_waits_for_a_camera_that_is_silent():
    intake = Intake(3600.0)
    one, two = intake.lane(live=True), intake.lane(live=True)
    intake.put(one, 0, frame(0))
    intake.put(two, 1, event())
    assert ids(intake.take()) == [0, "live"]  # the second never gave a frame
    intake.put(two, 1, frame(0))
    intake.put(one, 0, frame(1))
    assert len(intake.take()) == 2
    two.last_s -= 1.5
    intake.put(one, 0, frame(2))
    assert ids(intake.take()) == [2]


def test_every_camera_has_its_turn_whatever_its_rate():
    intake = Intake(0.0)
    fast, slow = intake.lane(live=True), intake.lane(live=True)
    seen = []
    for number in range(6):
        for _ in range(3):
            intake.put(fast, 0, frame(number, LARGE))
        intake.put(slow, 1, frame(number, LARGE, "camera:1"))
        seen += [place for place, _ in intake.take()]
    assert seen == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize(
    ("shape", "room"),
    [((1, 1, 1), 16), ((64, 113, 3), 16), ((160, 285, 3), 7), ((360, 640, 3), 1), ((0, 4, 1), 16)],
)
def test_how_many_frames_of_a_shape_go_into_a_run(shape, room):
    assert room_for(frame(0, shape)) == room


def test_a_batch_holds_the_statistics_of_each_slice():
    slices = [Frame("v", n, 0.0, np.full((3, 4, 1), n, np.float32), n, n + 1.0) for n in range(3)]
    pixels, mean, std = batch_of(slices, 1).arrays()
    assert pixels[:, 0, 0, 0].tolist() == mean.tolist() == [0, 1, 2]
    assert (std.tolist(), std.dtype) == ([1, 2, 3], np.float32)
