"""Signals: the first ends a stream after a batch, the second at once, SIGHUP loads the model."""

import json
import os
import signal
import subprocess
import sys

import pytest
from PIL import Image

from adae_edge.cli.stopping import Stopped, gently
from tests.support.models import BUFFERED, HANGS_S, command, frame_rows, mean_model, run, when_rows

# Runs the command with a decoder that says so and then hangs on the third picture.
HANGING = """
import sys, time
from adae_edge.runtime.sources import files
decode, seen = files.decode_shrunk, []
def hang(path, *settings):
    seen.append(path)
    if len(seen) == 3:
        print("hangs", flush=True)
        time.sleep(60)
    return decode(path, *settings)
files.decode_shrunk = hang
from adae_edge.cli import main
main()
"""

# Runs the command with a camera that gives a frame whenever it is asked, for ever.
FILMING = """
import time
import numpy as np
from adae_edge.runtime import Frame, Source
from adae_edge.runtime.sources import camera
class Camera(Source):
    live = True
    def __init__(self, place, wanted):
        self.place = place
    def __iter__(self):
        number = 0
        while not self._stopping:
            yield Frame("camera:0", number, time.time(), np.full((6, 8, 1), 120, np.uint8))
            number += 1
            time.sleep(0.001)
camera.SOURCE = Camera
from adae_edge.cli import main
main()
"""


# Runs the command, and presses Ctrl-C in the middle of its first imports.
INTERRUPTED = """
import os, runpy, signal, sys
class Finder:
    def find_spec(name, path, target=None):
        if name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder)
runpy.run_module("adae_edge", run_name="__main__")
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("desk")
    (folder / "model.onnx").write_bytes(mean_model())
    return folder


def hanging(desk, *arguments, code=HANGING):
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=desk, env=BUFFERED, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while "hangs" not in (line := process.stdout.readline()):
        assert line, process.communicate()[1]
    return process


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_ends_what_hangs_at_once(desk, long_folder, tmp_path, stop):
    process = hanging(desk, "score", "model.onnx", long_folder, "--to", tmp_path / "s.jsonl")
    when_rows(tmp_path / "s.jsonl", process, 2)  # of the pictures before the one that hangs
    process.send_signal(stop)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(stop)
    process.communicate(timeout=HANGS_S)
    # by the system, or by the thread that counts signals where Python has not yet heard the first
    assert process.returncode in (-stop, 128 + stop)
    rows = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert [row["source"] for row in rows] == sorted(map(str, long_folder.iterdir()))[:2]


def test_a_second_signal_ends_a_run_of_the_model_that_lets_python_hear_none(desk, long_folder):
    code = (
        "import hashlib\n"
        "from adae_edge.runtime.scorer import Scorer\n"
        "def score(*given):\n"
        "    print('it hangs', flush=True)\n"
        "    hashlib.pbkdf2_hmac('sha256', b'a', b'b', 2**31 - 1)  # as C code of a slow model\n"
        "Scorer.score = score\n"
        "from adae_edge.cli import main\nmain()"
    )
    process = hanging(desk, "score", "model.onnx", long_folder, code=code)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=HANGS_S)
    assert process.returncode in (128 + signal.SIGINT, 128 + signal.SIGTERM)


def test_a_stopped_calibration_leaves_the_model(long_folder, tmp_path):
    model = tmp_path / "m.onnx"
    model.write_bytes(mean_model())
    goes_on = HANGING.replace("time.sleep(60)", "pass")
    process = hanging(tmp_path, "calibrate", model, long_folder, code=goes_on)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=HANGS_S)
    assert (process.returncode, errors) == (130, "adae-edge: stopped\n")
    assert model.read_bytes() == mean_model()
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_a_stop_between_two_frames_is_no_exception_inside_of_one(desk, long_folder, tmp_path):
    """The frame in hand is scored and its row is written; only then the stream ends."""
    path = tmp_path / "s.jsonl"
    process = subprocess.Popen(
        command("score", desk / "model.onnx", long_folder, "--to", path),
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    when_rows(path, process, 5)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=HANGS_S)
    summary, last = errors.splitlines()
    assert (process.returncode, last) == (130, "adae-edge: stopped")
    assert int(summary.split()[0]) == path.read_text().count("\n")


@pytest.mark.parametrize("imported", ["adae_edge.cli.app", "typer", "adae_edge.cli.train"])
def test_ctrl_c_in_the_middle_of_the_first_imports_is_quiet(imported):
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, imported], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_signal_before_anything_is_scored(desk, tmp_path):
    Image.new("L", (8, 6)).save(tmp_path / "a.png")
    assert run("score", desk / "model.onnx", tmp_path / "a.png", cwd=tmp_path).returncode == 0
    code = (
        "import os, signal, adae_edge.runtime.opening as opening\n"
        "opening.Scorer = lambda *given: os.kill(os.getpid(), signal.SIGINT)\n"
        "from adae_edge.cli import main\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "score", desk / "model.onnx", "a.png"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "adae-edge: stopped\n")


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_camera_that_is_stopped_has_done_what_it_should(desk, tmp_path, stop):
    process, path = filming(desk, tmp_path)
    process.send_signal(stop)
    _, errors = process.communicate(timeout=HANGS_S)
    assert process.returncode == 0
    (summary,) = errors.splitlines()
    rows = frame_rows(path)
    assert int(summary.split()[0]) == len(rows)
    numbers = [row["frame"] for row in rows]
    assert numbers == sorted(set(numbers))


def filming(desk, tmp_path):
    """A running command that scores a camera into rows, of which some are there."""
    path = tmp_path / "s.jsonl"
    arguments = ["score", "model.onnx", "camera:0", "--to", str(path)]
    process = subprocess.Popen(
        [sys.executable, "-c", FILMING, *arguments],
        cwd=desk, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    when_rows(path, process)
    return process, path


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
@pytest.mark.parametrize(
    ("data", "says"),
    [
        (mean_model(threshold=110.0), "the model was loaded again: "),
        (mean_model()[:-30], "the model stays as it is: "),
        (None, "the model stays as it is: there is no model file"),
    ],
)
def test_hangup_loads_the_model_again_and_loses_no_frame(tmp_path, long_folder, data, says):
    model, path = tmp_path / "model.onnx", tmp_path / "s.jsonl"
    model.write_bytes(mean_model())
    process = subprocess.Popen(
        command("score", model, long_folder, "--to", path), stderr=subprocess.PIPE, text=True
    )
    when_rows(path, process)
    model.unlink() if data is None else model.write_bytes(data)
    process.send_signal(signal.SIGHUP)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    told, summary = errors.splitlines()
    assert says in told
    rows = frame_rows(path)
    assert [row["source"] for row in rows] == sorted(map(str, long_folder.iterdir()))
    assert {row["threshold"] for row in rows} == ({100, 110} if says.endswith("again: ") else {100})
    assert summary.startswith("400 frames scored, ")


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_hangup_ends_what_has_no_stream_to_serve(long_folder, tmp_path):
    model = tmp_path / "m.onnx"
    model.write_bytes(mean_model())
    process = subprocess.Popen(
        command("calibrate", model, long_folder), stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # which nohup ignores
    )  # fmt: skip
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(signal.SIGHUP)
    assert process.communicate(timeout=HANGS_S)[1] == ""
    assert process.returncode == -signal.SIGHUP
    assert model.read_bytes() == mean_model()


def test_a_terminal_that_goes_away_ends_no_stream(tmp_path):
    (tmp_path / "model.onnx").write_bytes(mean_model())
    terminal, end = os.openpty()
    scoring = ("score", "model.onnx", "synthetic://?fps=200&size=8x6", "--to", "terminal")
    process = subprocess.Popen(
        command(*scoring, "--to", "rows.jsonl"),
        **{"stdin": end, "stdout": end, "stderr": end, "cwd": tmp_path},
        env=BUFFERED | {"TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(end)
    rows = tmp_path / "rows.jsonl"
    try:
        while b"per second" not in os.read(terminal, 65536):
            pass  # until the table is shown
        os.close(terminal)
        process.send_signal(signal.SIGHUP)  # as a connection that is cut does
        while b"the model was loaded again" not in rows.read_bytes():
            assert process.poll() is None
        when_rows(rows, process, rows.read_bytes().count(b"\n") + 100)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 130
    finally:
        process.kill()


def test_complaints_that_nobody_can_hear_end_no_stream(desk, tmp_path):
    (tmp_path / "frames").mkdir()
    for name in ("a.png", "c.png"):
        Image.new("L", (8, 6), 9).save(tmp_path / "frames" / name)
    (tmp_path / "frames" / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    scoring = ("score", desk / "model.onnx", "frames", "--to", "rows.jsonl")
    with open("/dev/full", "w") as full:  # noqa: PTH123
        ran = subprocess.run(command(*scoring), cwd=tmp_path, env=BUFFERED, stderr=full, timeout=60)
    assert ran.returncode == 1
    rows = [json.loads(row) for row in (tmp_path / "rows.jsonl").read_bytes().splitlines()]
    assert [row.get("score") for row in rows] == [9, None, 9]


def test_a_signal_that_got_lost_in_an_import_stops_before_the_work(monkeypatch):
    monkeypatch.setattr(Stopped, "asked", True)
    with gently() as on_signal, pytest.raises(Stopped):
        on_signal(lambda: None)
