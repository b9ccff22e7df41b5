"""Sinks: rows with exact fields; whatever stops the process, each row that was written is whole."""

import contextlib
import csv
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from adae_edge.cli.app import app
from adae_edge.errors import SinkError, UsageError
from adae_edge.runtime.frame import Event, Frame, Scored
from adae_edge.runtime.sinks import rows
from adae_edge.runtime.sinks.registry import open_sink
from adae_edge.runtime.sinks.rows import timestamp
from adae_edge.runtime.sinks.sink import Keeping
from adae_edge.runtime.sinks.terminal import Terminal
from tests.support.models import (
    BUFFERED,
    command,
    complaints,
    mean_model,
    run,
    run_limited,
    when_rows,
)

ROOT = Path(__file__).parents[2]
FIELDS = [
    *("source", "frame", "time", "video_time", "age"),
    *("score", "threshold", "verdict", "wants", "model", "boxes", "complete"),
]
OF_EVENTS = ["event", "detail", "frames", "over"]
EARLIER = b"source,frame,time,video_time,score,threshold,verdict,wants\n"
HEADER = (
    b"source,frame,time,video_time,age,score,threshold,verdict,wants,model,boxes,complete,"
    b"event,detail,frames,over\n"
)
AWKWARD = [
    "a,b.png",
    'a "b".png',
    "a\nb.png",
    "a\rb.png",
    "a\tb;c.png",
    "é漢🙂.png",
    " a ",
    "=1+1",
    "\x1b[2J.png",
    "\udce9.png",
]


def result(source="frame.png", frame=0, score=1.5):
    pixels = np.zeros((2, 3, 1), np.uint8)
    taken = Frame(source, frame, 1767323045.678, pixels)
    return Scored(taken, score, 1.25, age=0.01234, model="90f3d94cb19b")


LOST = Event("rtsp://camera/1", 1767323045.678, "gap", 'frames, "42"\nand on', 12)


def keep(spec, *results):
    sink = open_sink(str(spec))
    for one in results:
        sink.write(one)
    sink.close()


def json_rows(path):
    text = path.read_text("utf-8")
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def csv_rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, strict=True))


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with a model and three pictures, whose scores are 50, 150 and 250."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "model.onnx").write_bytes(mean_model())
    (folder / "frames").mkdir()
    for number, value in enumerate((50, 150, 250)):
        Image.new("L", (8, 6), value).save(folder / "frames" / f"{number}.png")
    return folder


def test_json_lines_have_these_fields_and_no_others(tmp_path):
    path = tmp_path / "scores.jsonl"
    keep(f"jsonl:{path}", result(), result("scan.dcm", "1.2.3/4", 0.123456789))
    first, second = path.read_text().splitlines()
    assert first == (
        '{"source": "frame.png", "frame": 0, "time": "2026-01-02T03:04:05.678Z", '
        '"video_time": null, "age": 0.0123, "score": 1.5, "threshold": 1.25, '
        '"verdict": "anomalous", "wants": null, "model": "90f3d94cb19b", "boxes": null, '
        '"complete": null}'
    )
    row = json.loads(second)
    assert list(row) == FIELDS
    assert (row["frame"], row["score"], row["verdict"]) == ("1.2.3/4", 0.123456789, "normal")


def test_an_event_is_a_row_in_every_file(tmp_path):
    for name in ("s.jsonl", "s.csv"):
        sink = open_sink(str(tmp_path / name))
        sink.event(LOST)
        sink.write(result())
        sink.close()
    event, row = json_rows(tmp_path / "s.jsonl")
    assert list(event) == ["event", "source", "time", "detail", "frames", "over"]
    assert (event["event"], event["source"], event["frames"]) == ("gap", LOST.source, 12)
    assert (event["detail"], row["source"]) == (LOST.detail, "frame.png")
    _, cells, _ = csv_rows(tmp_path / "s.csv")
    event_cells = ["gap", LOST.detail, "12", "False"]
    assert cells == [LOST.source, "", event["time"], *[""] * 9, *event_cells]


def numbers_in(folder):
    """The frames of the rows of each file of a folder."""
    return {
        path.name: [row["frame"] for row in json_rows(path)] for path in sorted(folder.iterdir())
    }


def test_a_file_that_somebody_moves_removes_or_empties_is_opened_anew(tmp_path):
    for kind, head in (("jsonl", b""), ("csv", HEADER)):
        path, moved = tmp_path / f"s.{kind}", tmp_path / f"s.{kind}.old"
        with open_sink(str(path)) as sink:
            sink.write(result(frame=0))
            path.rename(moved)
            sink.write(result(frame=1))
            path.unlink()
            sink.write(result(frame=2))
            os.truncate(path, 0)
            sink.write(result(frame=3))
        for file, frame in ((moved, b"0"), (path, b"3")):
            assert file.read_bytes().startswith(head)
            (row,) = file.read_bytes().removeprefix(head).splitlines()
            assert (b'"frame": %s,' % frame if kind == "jsonl" else b"frame.png,%s," % frame) in row


def test_a_file_is_put_aside_under_the_next_number_and_none_is_replaced(tmp_path):
    (tmp_path / "s.2.jsonl").touch()
    with open_sink(str(tmp_path / "s.jsonl"), Keeping(rotate=600)) as sink:
        for number in range(7):
            sink.write(result(frame=number))
    assert numbers_in(tmp_path) == {
        "s.2.jsonl": [], "s.3.jsonl": [0, 1], "s.4.jsonl": [2, 3], "s.5.jsonl": [4, 5],
        "s.jsonl": [6],
    }  # fmt: skip


def test_each_row_of_fsync_is_on_the_disk_before_the_next(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(rows.os, "fsync", synced.append)
    with open_sink(str(tmp_path / "s.jsonl"), Keeping(fsync=True)) as sink:
        for number in range(5):
            sink.write(result(frame=number))
            assert len(synced) == number + 1


def test_a_folder_that_is_gone_fails_and_takes_rows_when_it_is_back(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    with open_sink(str(folder / "s.csv")) as sink:
        (folder / "s.csv").unlink()
        folder.rmdir()
        for _ in range(2):
            with pytest.raises(SinkError, match="cannot write"):
                sink.write(result(frame=1))
        folder.mkdir()
        sink.write(result(frame=2))
    assert [row[1] for row in csv_rows(folder / "s.csv")] == ["frame", "2"]


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 64 kB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small disk can be mounted by root alone")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_disk_that_is_full_and_then_has_room_again_has_whole_rows(small_disk, kind):
    path = small_disk / f"s.{kind}"
    (small_disk / "other").write_bytes(bytes(50_000))
    kept = []
    with open_sink(str(path)) as sink:
        for number in range(300):
            try:
                sink.write(result(frame=number))
                kept.append(number)
            except SinkError:
                (small_disk / "other").unlink(missing_ok=True)
                assert kept
    if kind == "jsonl":
        assert [row["frame"] for row in json_rows(path)] == kept
    else:
        assert [int(row[1]) for row in csv_rows(path)[1:]] == kept
    assert 10 < len(kept) < 300


def test_csv_has_one_header_and_these_fields(tmp_path):
    path = tmp_path / "scores.csv"
    keep(f"csv:{path}", result())
    keep(f"csv:{path}", result("scan.dcm", "1.2.3", 0.123456789))
    assert path.read_bytes() == (
        HEADER
        + b"frame.png,0,2026-01-02T03:04:05.678Z,,0.0123,1.5,1.25,anomalous,,90f3d94cb19b,,,,,,\n"
        b"scan.dcm,1.2.3,2026-01-02T03:04:05.678Z,,0.0123,0.123456789,1.25,normal,,"
        b"90f3d94cb19b,,,,,,\n"
    )


def test_the_command_writes_what_it_scored(desk, tmp_path):
    process = run(
        "score",
        desk / "model.onnx",
        desk / "frames",
        "--to",
        "s.jsonl",
        "--to",
        "s.csv",
        cwd=tmp_path,
    )
    assert (process.returncode, process.stdout) == (0, "")
    rows = json_rows(tmp_path / "s.jsonl")
    assert [row["source"] for row in rows] == [
        str(desk / "frames" / f"{number}.png") for number in range(3)
    ]
    assert [(row["frame"], row["score"], row["threshold"], row["verdict"]) for row in rows] == [
        (0, 50, 100, "normal"),
        (0, 150, 100, "anomalous"),
        (0, 250, 100, "anomalous"),
    ]
    header, *table = csv_rows(tmp_path / "s.csv")
    assert header == FIELDS + OF_EVENTS
    texts = [{name: "" if row[name] is None else str(row[name]) for name in FIELDS} for row in rows]
    assert table == [[*text.values(), *[""] * len(OF_EVENTS)] for text in texts]


def test_a_file_is_appended_to(tmp_path):
    for kind, read in (("jsonl", json_rows), ("csv", csv_rows)):
        path = tmp_path / f"scores.{kind}"
        for number in range(3):
            keep(path, result(frame=number), result(frame=number))
        rows = (
            [row["frame"] for row in json_rows(path)]
            if read is json_rows
            else [int(r[1]) for r in read(path)[1:]]
        )
        assert rows == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    "spec", ["scores.jsonl", "SCORES.JSONL", "jsonl:scores", "csv:scores", "scores.csv", "csv:a:b"]
)
def test_names_of_sinks(tmp_path, monkeypatch, spec):
    monkeypatch.chdir(tmp_path)
    keep(spec, result())
    (written,) = tmp_path.iterdir()
    assert written.name == spec.removeprefix("jsonl:").removeprefix("csv:")
    assert (written.read_bytes()[:1] == b"{") is ("jsonl" in spec.lower())


@pytest.mark.parametrize(
    "spec", ["", "kafka:host", "scores.txt", "jsonl:", "csv:", "jsonl", "Terminal"]
)
def test_unknown_sinks(spec):
    with pytest.raises(UsageError, match="there is no sink"):
        open_sink(spec)


def test_every_file_of_the_folder_with_a_sink_is_named_in_the_help_and_in_the_complaint():
    folder = Path(rows.__file__).parent
    named = {path.stem for path in folder.glob("*.py") if "\nSINK = " in path.read_text()}
    assert len(named) == 13
    with pytest.raises(UsageError) as refused:
        open_sink("shared:x")
    (option,) = (
        option
        for option in typer.main.get_command(app).commands["score"].params
        if option.name == "to"
    )
    for text in (str(refused.value), option.help):
        words = set(re.findall(r"\w+", text.partition(": ")[2]))
        assert named - words == {"mqtts", "http"}  # forms of mqtt and https


def test_a_folder_that_is_not_there_and_one_that_is(tmp_path):
    with pytest.raises(UsageError, match="there is no folder"):
        open_sink(f"jsonl:{tmp_path / 'nowhere' / 'scores'}")
    with pytest.raises(UsageError, match=r"cannot write .*: it is a folder"):
        open_sink(f"csv:{tmp_path}")
    with pytest.raises(SinkError, match="cannot write"):
        open_sink(f"csv:{'x' * 5000}")


def test_unknown_sink_and_missing_folder_are_wrong_use(desk, tmp_path):
    for spec in ("mqtt:host", "jsonl:nowhere/scores"):
        process = run(
            "score",
            desk / "model.onnx",
            desk / "frames",
            "--to",
            "first.jsonl",
            "--to",
            spec,
            cwd=tmp_path,
        )
        assert process.returncode == 2
        assert len(complaints(process)) == 1
    assert json_rows(tmp_path / "first.jsonl") == []


@pytest.mark.parametrize(
    "content",
    [b"name,age\nAnna,40\n", b"{}\n", b"source,frame\n", b"\n", b"\xff\xfe", HEADER[:-1], EARLIER],
)
def test_a_csv_file_of_something_else_is_refused_and_stays(tmp_path, content):
    path = tmp_path / "people.csv"
    path.write_bytes(content)
    why = "columns of an earlier version" if content == EARLIER else "something else"
    with pytest.raises(SinkError, match=why):
        open_sink(f"csv:{path}")
    assert path.read_bytes() == content


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_names(tmp_path, name):
    keep(tmp_path / "s.jsonl", result(name), result())
    keep(tmp_path / "s.csv", result(name), result())
    assert [row["source"] for row in json_rows(tmp_path / "s.jsonl")] == [name, "frame.png"]
    shown = name.replace("\udce9", "\\udce9")
    assert [row[0] for row in csv_rows(tmp_path / "s.csv")] == ["source", shown, "frame.png"]


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_awkward_names_take_one_harmless_line_on_the_terminal(tmp_path, encoding):
    script = (
        "from tests.runtime.test_sinks import *\n"
        "for name in AWKWARD:\n    Terminal().write(result(name))"
    )
    environment = os.environ | {"PYTHONIOENCODING": f"{encoding}:strict"}
    ran = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=ROOT, capture_output=True, timeout=60
    )
    assert ran.stderr == b""
    lines = ran.stdout.decode("utf-8" if encoding != "latin-1" else "latin-1").splitlines()
    assert len(lines) == len(AWKWARD)
    assert all(line.isprintable() and line.startswith("   1.5000  anomalous  ") for line in lines)


def test_the_terminal_names_the_frame_where_there_are_several(capsys):
    for one in (result(), result("clip.avi", 12, 0.5), result("scan.dcm", "1.2.3")):
        Terminal().write(one)
    assert capsys.readouterr().out.splitlines() == [
        "   1.5000  anomalous  frame.png",
        "   0.5000  normal  clip.avi 12",
        "   1.5000  anomalous  scan.dcm 1.2.3",
    ]


def on_a_terminal(tmp_path, term):
    """What a terminal is sent by a run over 30 pictures and a broken one."""
    (tmp_path / "frames").mkdir()
    for number in range(30):
        Image.new("L", (8, 6), number * 8).save(tmp_path / "frames" / f"{number:02}.png")
    (tmp_path / "frames" / "25b.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "model.onnx").write_bytes(mean_model())
    terminal, end = pty.openpty()
    environment = BUFFERED | {"TERM": term, "COLUMNS": "100", "PYTHONIOENCODING": "utf-8"}
    process = subprocess.Popen(
        command("score", "model.onnx", "frames"),
        stdin=end, stdout=end, stderr=end, cwd=tmp_path, env=environment,
    )  # fmt: skip
    os.close(end)
    sent = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while read := os.read(terminal, 65536):
            sent += read
    os.close(terminal)
    assert process.wait(60) == 1
    return sent.decode()


def test_a_terminal_shows_20_lines_and_then_a_table_below_all_complaints(tmp_path):
    sent = on_a_terminal(tmp_path, "xterm-256color")
    plain = re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "", sent).replace("\r\n", "\n")
    lines = [line.rsplit("\r", 1)[-1] for line in plain.splitlines()]
    assert sum(" normal  frames/" in line or " anomalous  frames/" in line for line in lines) == 20
    assert "adae-edge: frames/25b.png cannot be decoded: it is cut short" in lines
    (table,) = [place for place, line in enumerate(lines) if line.startswith("source  ")][-1:]
    source, frames, anomalous, *_, bars = lines[table + 1].split()
    assert (source, frames, anomalous) == ("frames", "30", "17")
    assert bars[0] == "▁"
    assert bars[-1] == "█"
    assert lines[-6:] == ["last anomalous frames"] + [
        f" {number * 8:.4f}  frames/{number}.png" for number in range(25, 30)
    ]


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(tmp_path):
    sent = on_a_terminal(tmp_path, "dumb")
    assert "source" not in sent
    assert sum(" frames/" in line for line in sent.splitlines()) == 31


@pytest.mark.parametrize(
    ("kind", "left"), [("jsonl", b'{"source": "cut sho'), ("csv", HEADER + b"cut sho")]
)
def test_a_file_left_without_a_final_newline(tmp_path, kind, left):
    path = tmp_path / f"scores.{kind}"
    path.write_bytes(left)
    keep(path, result())
    lines = path.read_bytes().splitlines(keepends=True)
    assert b"".join(lines[:-1]) == left + b"\n"
    assert b"frame.png" in lines[-1]
    assert lines[-1].endswith(b"\n")


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
@pytest.mark.parametrize("limit", [2000, 2001, 20])
def test_a_full_disk_keeps_every_row_before(desk, tmp_path, kind, limit):
    Image.new("L", (4, 4)).save(tmp_path / "frame.png")
    (tmp_path / "frames").mkdir()
    for number in range(30):
        (tmp_path / "frames" / f"{number:02}.png").hardlink_to(tmp_path / "frame.png")
    path = tmp_path / f"scores.{kind}"
    arguments = ("score", desk / "model.onnx", "frames", "--to", path.name)
    ran = run_limited(limit, *arguments, cwd=tmp_path)
    assert ran.returncode == 1
    (sentence,) = complaints(ran)
    assert sentence.startswith(f"cannot write {path.name}: File too large")
    assert path.stat().st_size <= limit
    names = (
        [row["source"] for row in json_rows(path)]
        if kind == "jsonl"
        else [row[0] for row in csv_rows(path)[1:]]
    )
    assert names == [f"frames/{number:02}.png" for number in range(len(names))]
    assert path.stat().st_size == 0 or path.read_bytes().endswith(b"\n")
    if limit >= 2000:
        assert 4 < len(names) < 30


def test_a_full_disk_takes_nothing_from_another_writer_of_the_file(tmp_path):
    script = """
import resource, sys
from tests.runtime.test_sinks import *
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
first, second = open_sink(sys.argv[1]), open_sink(sys.argv[1])
try:
    for number in range(100):
        (first, second)[number % 2].write(result(frame=number))
except SinkError:
    print(number)
"""
    path = tmp_path / "scores.jsonl"
    ran = subprocess.run(
        [sys.executable, "-c", script, path], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert ran.stderr == ""
    assert [row["frame"] for row in json_rows(path)] == list(range(int(ran.stdout)))
    assert int(ran.stdout) > 4


@pytest.mark.parametrize("spec", ["jsonl:/dev/full", "csv:/dev/full", "terminal"])
def test_a_device_that_is_full(desk, tmp_path, spec):
    scoring = ("score", desk / "model.onnx", desk / "frames")
    with open("/dev/full", "w") as full:  # noqa: PTH123
        ran = subprocess.run(
            command(*scoring, "--to", "rows.jsonl", "--to", spec),
            cwd=tmp_path,
            env=BUFFERED,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert ran.returncode == 1
    (sentence,) = complaints(ran)
    assert "No space left on device" in sentence
    kept = json_rows(tmp_path / "rows.jsonl")
    if spec.startswith("csv"):  # its header is written before anything is scored
        assert kept == []
        return
    assert [row["score"] for row in kept if "event" not in row] == [50, 150, 250]
    assert [row["event"] for row in kept if "event" in row] == ["sink"]


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_rows_go_into_a_pipe(desk, tmp_path, kind):
    process = run(
        "score", desk / "model.onnx", desk / "frames", "--to", f"{kind}:/dev/stdout", cwd=tmp_path
    )
    assert (process.returncode, complaints(process)) == (0, [])
    lines = process.stdout.splitlines()
    assert len(lines) == (3 if kind == "jsonl" else 4)
    if kind == "jsonl":
        assert [json.loads(line)["score"] for line in lines] == [50, 150, 250]


@pytest.mark.parametrize("spec", ["terminal", "jsonl:/dev/stdout"])
@pytest.mark.parametrize("others", [[], ["--to", "rows.jsonl"]])
def test_a_reader_that_has_enough_ends_its_own_sink_alone(desk, tmp_path, spec, others):
    process = subprocess.Popen(
        command("score", desk / "model.onnx", desk / "frames", "--to", spec, *others),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=BUFFERED, text=True,
    )  # fmt: skip
    process.stdout.close()
    _, errors = process.communicate(timeout=60)
    assert [line for line in errors.splitlines() if " frames scored, " not in line] == []
    if others:
        assert [row["score"] for row in json_rows(tmp_path / "rows.jsonl")] == [50, 150, 250]
        assert process.returncode == 0
    else:
        assert process.returncode == 1


def test_what_cannot_be_synced_is_not_synced(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "_SYNC_S", -1.0)
    keep("jsonl:/dev/null", result(), result())
    path = tmp_path / "scores.jsonl"
    keep(path, result(), result())
    assert len(json_rows(path)) == 2


def test_closing_twice_is_closing_once(tmp_path):
    sink = open_sink(str(tmp_path / "scores.csv"))
    sink.close()
    sink.close()
    assert (tmp_path / "scores.csv").read_bytes() == HEADER


def test_each_row_is_on_the_file_before_the_next_frame(tmp_path):
    path = tmp_path / "scores.jsonl"
    sink = open_sink(str(path))
    for number in range(3):
        sink.write(result(frame=number))
        assert len(json_rows(path)) == number + 1
    sink.close()


def test_a_kill_in_the_middle_leaves_whole_rows(desk, long_folder, tmp_path):
    paths = [tmp_path / "scores.jsonl", tmp_path / "scores.csv"]
    process = subprocess.Popen(
        command("score", desk / "model.onnx", long_folder, "--to", paths[0], "--to", paths[1]),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    when_rows(paths[1], process, 20)
    process.kill()
    assert process.wait(60) == -9
    names = [row["source"] for row in json_rows(paths[0])]
    assert 19 <= len(names) < 400
    assert names == [str(long_folder / f"{number:03}.png") for number in range(len(names))]
    table = csv_rows(paths[1])[1:]
    assert {len(row) for row in table} == {len(FIELDS + OF_EVENTS)}
    assert len(names) - 1 <= len(table) <= len(names)


def test_times_are_in_utc_to_the_millisecond():
    assert timestamp(0) == "1970-01-01T00:00:00.000Z"
    assert timestamp(1767323045.6784) == "2026-01-02T03:04:05.678Z"
