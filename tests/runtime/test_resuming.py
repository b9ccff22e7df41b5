"""Streams that go on where they ended: each sink gets exactly what it lacks."""

import json
import random

import pytest
from PIL import Image

from adae_edge.benchmarks.kills import FAULTS, FILES, SPOOLED, run_kills, write_pictures
from adae_edge.errors import UsageError
from adae_edge.runtime.opening import StreamRequest, open_stream
from adae_edge.runtime.resuming import Held
from adae_edge.runtime.sinks.registry import open_sink
from adae_edge.runtime.sinks.sink import Keeping, Kept
from tests.runtime.test_sinks import AWKWARD, result
from tests.support.models import mean_model

SINKS = ("s.jsonl", "s.csv", "s.db")


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder with a model and six pictures, one of them broken, which is worked in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.onnx").write_bytes(mean_model())
    (tmp_path / "frames").mkdir()
    for number in range(5):
        Image.new("L", (8, 6), number * 50).save(f"frames/{number}.png")
    (tmp_path / "frames" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return tmp_path


def score(*sinks, resume=True, sources=("frames",), threshold=None):
    """Score to sinks; how many frames were scored, and the events' details."""
    told = []
    keeping = Keeping(resume=resume)
    request = StreamRequest("model.onnx", sources, sinks, threshold, keeping=keeping)
    with open_stream(request, lambda event: told.append(event.detail)) as stream:
        return stream.run().frames, told


def frames_in(name):
    """The frames that a sink holds, in its order."""
    with open_sink(name) as sink:
        return [(kept.source, int(kept.frame)) for kept in sink.kept() if not kept.event]


def events_in(name):
    with open_sink(name) as sink:
        return [kept.event for kept in sink.kept() if kept.event]


ALL = [(f"frames/{number}.png", 0) for number in range(5)]


def test_what_is_held_is_not_scored_again_and_a_grown_folder_is_added_to(desk):
    assert score(*SINKS)[0] == 5
    first = (desk / "s.jsonl").read_bytes()
    assert score(*SINKS)[0] == 0
    Image.new("L", (8, 6), 7).save("frames/0b.png")
    frames, told = score(*SINKS)
    assert frames == 1
    assert any("broken.png" in sentence for sentence in told)  # is tried again each time
    for name in SINKS:
        assert frames_in(name) == [*ALL, ("frames/0b.png", 0)] or name == "s.db"
        assert sorted(frames_in(name)) == sorted([*ALL, ("frames/0b.png", 0)])
        assert events_in(name) == ["failure"]
    assert (desk / "s.jsonl").read_bytes().startswith(first)


def test_sinks_at_different_places_each_get_what_they_lack(desk):
    score(*SINKS)
    lines = (desk / "s.jsonl").read_bytes().splitlines(keepends=True)
    (desk / "s.jsonl").write_bytes(b"".join(lines[:2]))
    lines = (desk / "s.csv").read_bytes().splitlines(keepends=True)
    (desk / "s.csv").write_bytes(b"".join(lines[:4] + lines[5:]))
    assert score(*SINKS, "new.jsonl")[0] == 5
    for name in (*SINKS, "new.jsonl"):
        assert sorted(frames_in(name)) == ALL
        assert events_in(name) == ["failure"]


@pytest.mark.parametrize("name", ["s.jsonl", "s.csv"])
@pytest.mark.parametrize("cut", [1, 20, 100, 250])
def test_half_a_row_is_dropped_and_its_frame_scored_again(desk, name, cut):
    (desk / "frames" / "broken.png").unlink()
    Image.new("L", (8, 6), 7).save('frames/a\n"b".png')
    score(name)
    whole = (desk / name).read_bytes()
    (desk / name).write_bytes(whole[:-cut])
    score(name)
    assert sorted(frames_in(name)) == sorted([*ALL, ('frames/a\n"b".png', 0)])
    kept = (desk / name).read_bytes()
    assert kept.count(b"\n") == whole.count(b"\n")
    if name == "s.jsonl":
        assert all(json.loads(line) for line in kept.splitlines())


def test_half_a_header_is_written_whole(desk):
    (desk / "s.csv").write_bytes(b"source,frame,ti")
    score("s.csv")
    assert frames_in("s.csv") == ALL


@pytest.mark.parametrize("name", SINKS)
def test_rows_of_another_threshold_or_model_are_refused_before_anything_is_scored(desk, name):
    score(name)
    before = frames_in(name)
    Image.new("L", (8, 6), 7).save("frames/0b.png")
    with pytest.raises(UsageError, match=r"holds rows of the threshold 100, and this one is 3"):
        score("new.jsonl", name, threshold=3.0)
    (desk / "model.onnx").write_bytes(mean_model(last="Abs"))
    with pytest.raises(UsageError, match=r"holds rows of the model \w{12}, and this one is \w{12}"):
        score("new.jsonl", name)
    assert frames_in(name) == before
    assert (desk / "new.jsonl").read_bytes() == b""


def test_rows_that_do_not_say_their_model_are_refused(desk):
    score("s.jsonl")
    rows = [json.loads(line) for line in (desk / "s.jsonl").read_text().splitlines()]
    old = [{k: v for k, v in row.items() if k not in ("model", "age")} for row in rows]
    (desk / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in old))
    with pytest.raises(UsageError, match="an unknown model"):
        score("s.jsonl")
    assert score("s.jsonl", resume=False)[0] == 5  # are added to all the same


def test_a_sink_that_cannot_be_read_again_is_no_sink_to_resume(desk, capsys):
    with pytest.raises(UsageError, match="--resume reads what is kept already"):
        score("terminal")
    score("s.jsonl")
    assert score("terminal", "s.jsonl")[0] == 0
    assert capsys.readouterr().out == ""


def test_files_that_were_put_aside_count(desk):
    keeping = Keeping(rotate=500, resume=True)
    request = StreamRequest("model.onnx", ("frames",), ("s.jsonl",), keeping=keeping)
    with open_stream(request, print) as stream:
        assert stream.run().frames == 5
    assert (desk / "s.1.jsonl").exists()
    assert score("s.jsonl")[0] == 0


def test_without_resume_rows_are_appended(desk):
    score("s.jsonl", resume=False)
    score("s.jsonl", resume=False)
    assert frames_in("s.jsonl") == ALL * 2


@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.parametrize("sink", SINKS)
def test_awkward_names_are_known_again(tmp_path, name, sink):
    with open_sink(str(tmp_path / sink)) as opened:
        opened.write(result(name, 3))
        opened.write(result(name, "1.2.3"))
        opened.flush()
        held = Held(opened.kept())
    assert held.has(name, 3)
    assert held.has(name, "1.2.3")
    assert not held.has(name, 2)
    assert not held.has("other" + name, 3)


def test_held_numbers_are_those_that_were_added_in_any_order():
    for seed in range(20):
        draw = random.Random(seed)
        numbers = draw.sample(range(60), 30)
        held = Held(Kept("clip.mp4", number) for number in numbers)
        assert [held.has("clip.mp4", number) for number in range(60)] == [
            number in numbers for number in range(60)
        ]


def test_a_million_frames_of_a_video_take_no_memory():
    held = Held(Kept("clip.mp4", number) for number in range(200_000))
    assert held._numbers == {"clip.mp4": [0, 200_000]}


def test_killed_runs_that_are_resumed_lose_no_row_and_double_none(desk):
    figures = run_kills(*write_pictures(desk / "numbered", 300), desk / "out", kills=4)
    assert figures["kills"] >= 4
    assert figures["rows"] == 300
    assert figures["sinks"] == {name: dict.fromkeys(FAULTS, 0) for name in [*FILES, SPOOLED]}
    assert "| SQLite | 0 | 0 | 0 | 0 |" in (desk / "out" / "kills.md").read_text()
