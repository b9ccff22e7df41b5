"""Alarms: when they begin and end, what they say, and that every sink gets them."""

import csv
import json
import random
import sqlite3

import pytest
from PIL import Image

from adae_edge.errors import UsageError
from adae_edge.runtime import Scorer, Stream
from adae_edge.runtime.alarm import Alarm
from adae_edge.runtime.frame import Scored
from tests.support.models import mean_model, run
from tests.support.streams import Kept, Listed, frame


def scored(number, score, opened="camera:0", threshold=100.0):
    return Scored(frame(number), score, threshold, opened=opened)


def watch(alarm, *scores, opened="camera:0", threshold=100.0):
    """What an alarm says after each score, and its events."""
    on, events = [], []
    for number, score in enumerate(scores):
        result, told = alarm.watch(scored(number, score, opened, threshold))
        on.append(result.alarm)
        events += told
    return on, events


def test_an_alarm_begins_at_k_of_n_and_ends_below_half_of_k():
    bad, good = 120.0, 60.0
    scores = [good, bad, good, bad, bad, 150.0, *[good] * 9]
    on, (begun, ended) = watch(Alarm("3/10"), *scores)
    # Frame 4 is the third; when frame 14 comes, frame 5 is the only one of the last ten.
    assert on == [False] * 4 + [True] * 10 + [False]
    assert (begun.kind, begun.over, begun.frames) == ("alarm", False, 3)
    assert (begun.source, begun.opened, begun.time) == ("camera:0", "camera:0", 4.0)
    assert begun.detail == (
        "camera:0 raises an alarm: 3 of its last 5 frames are anomalous; frame 4 has the score "
        "120.0000, above 100.0000"
    )
    assert (ended.kind, ended.over, ended.frames, ended.time) == ("alarm", True, 4, 14.0)
    assert ended.detail == (
        "camera:0 has no alarm any more: 1 of its last 10 frames is anomalous; it lasted 11 "
        "frames, and the highest score was 150.0000, of frame 5"
    )


@pytest.mark.parametrize(("rule", "least", "of"), [("1/1", 1, 1), ("2/7", 2, 7), ("7/9", 7, 9)])
def test_an_alarm_is_what_counting_anew_gives(rule, least, of):
    random.seed(5)
    scores = [random.choice((60.0, 120.0)) for _ in range(3000)]
    on, events = watch(Alarm(rule), *scores)
    state, changes = False, 0
    for place, told in enumerate(on):
        last = scores[max(0, place - of + 1) : place + 1]
        count = sum(score > 100 for score in last)
        before, state = state, 2 * count >= least if state else count >= least
        changes += state != before
        assert told == state
    assert changes == len(events) > 10
    assert [event.over for event in events] == [place % 2 == 1 for place in range(len(events))]


def test_sources_have_alarms_of_their_own():
    alarm = Alarm("2/3")
    assert watch(alarm, 120.0, opened="camera:0")[0] == [False]
    assert watch(alarm, 120.0, opened="camera:1")[0] == [False]
    on, (event,) = watch(alarm, 120.0, opened="camera:1")
    assert on == [True]
    assert event.source == "camera:1"
    assert watch(alarm, 60.0, opened="camera:0")[0] == [False]


@pytest.mark.parametrize("rule", ["", "3", "3/", "0/10", "4/3", "-1/3", "3/10/2", "3.5/10", "a/b"])
def test_another_rule_is_refused(rule):
    with pytest.raises(UsageError, match="takes K/N, as 3/10"):
        Alarm(rule)


def test_a_stream_tells_its_sinks_of_alarms_behind_the_frame(tmp_path):
    (tmp_path / "m.onnx").write_bytes(mean_model(1))
    order = []

    class Ordered(Kept):
        def write(self, result):
            order.append((result.frame.id, result.alarm))

        def event(self, event):
            order.append((event.kind, event.over))

    frames = [frame(number, value) for number, value in enumerate((120, 120, 60, 60))]
    with Scorer(tmp_path / "m.onnx", threads=1) as scorer:
        stream = Stream(scorer, Listed(*frames), [Ordered()], watchers=[Alarm("2/2")])
        metrics = stream.run()
    assert order == [
        (0, False),
        (1, True),
        ("alarm", False),
        (2, True),
        (3, False),
        ("alarm", True),
    ]
    assert metrics.events["alarm"] == 4  # two frames by which it began, and both were all


def test_the_command_tells_alarms_of_a_folder_to_every_sink(tmp_path):
    (tmp_path / "grey.onnx").write_bytes(mean_model(1))
    (tmp_path / "frames").mkdir()
    for number, value in enumerate((50, 150, 150, 50, 50, 50)):
        Image.new("L", (8, 6), value).save(tmp_path / "frames" / f"{number}.png")
    sinks = [f"--to={name}" for name in ("s.jsonl", "s.csv", "s.db")]
    done = run("score", "grey.onnx", "frames", "--alarm", "2/3", *sinks, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    begun, ended = done.stderr.splitlines()[:2]
    assert begun == (
        "adae-edge: frames raises an alarm: 2 of its last 3 frames are anomalous; frames/2.png has "
        "the score 150.0000, above 100.0000"
    )
    assert "frames has no alarm any more: 0 of its last 3 frames are anomalous" in done.stderr
    rows = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    alarms = [row for row in rows if row.get("event") == "alarm"]
    assert [(row["source"], row["over"]) for row in alarms] == [("frames", False), ("frames", True)]
    assert rows.index(alarms[0]) == 3
    with (tmp_path / "s.csv").open(newline="") as file:
        cells = [row["over"] for row in csv.DictReader(file)]
    assert cells == ["", "", "", "False", "", "", "", "True"]
    database = sqlite3.connect(tmp_path / "s.db")
    assert database.execute("SELECT over FROM events").fetchall() == [(0,), (1,)]
    database.close()
    assert ended.startswith("adae-edge: frames has no alarm")


def test_a_rule_that_is_none_ends_the_command_before_anything_starts(tmp_path):
    (tmp_path / "grey.onnx").write_bytes(mean_model(1))
    Image.new("L", (8, 6), 50).save(tmp_path / "a.png")
    done = run(
        *("score", "grey.onnx", "a.png", "--alarm", "11/10", "--to", "s.jsonl"), cwd=tmp_path
    )
    assert done.returncode == 2
    assert "--alarm takes K/N" in done.stderr
    assert not (tmp_path / "s.jsonl").exists()
