"""``adae-edge score`` as a user calls it, and the Scorer behind it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pydicom
import pytest
from PIL import Image

from adae_edge.contract import Region
from adae_edge.errors import FrameError
from adae_edge.runtime import scorer as scorer_module
from adae_edge.runtime.scorer import Scorer
from tests.support.models import (
    BUFFERED,
    HANGS_S,
    command,
    complaints,
    frame_rows,
    mean_model,
    run,
    summary_of,
    when_rows,
)

VALUES = (50, 100, 150, 250)
# Runs the command in a process that ends at once where it opens a socket or starts a program.
WATCHED = """
import os, sys
def watch(event, arguments):
    programs = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn")
    if event.split(".")[0] == "socket" or event in programs:
        os.write(2, f"{event} {arguments}".encode())
        os._exit(99)
sys.addaudithook(watch)
from adae_edge.cli import main
main()
"""


def picture(path, *values, size=(8, 6)):
    Image.new(
        "L" if len(values) == 1 else "RGB", size, values[0] if len(values) == 1 else values
    ).save(path)
    return path


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with a grey and a colour model, and pictures whose scores are their values."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "grey.onnx").write_bytes(mean_model(1))
    (folder / "colour.onnx").write_bytes(mean_model(3))
    (folder / "frames").mkdir()
    for value in VALUES:
        picture(folder / "frames" / f"{value:03}.png", value)
    return folder


@pytest.fixture
def scorer(desk):
    return Scorer(desk / "grey.onnx", threads=1)


def test_a_good_folder(desk):
    process = run("score", "grey.onnx", "frames", cwd=desk)
    assert process.returncode == 0
    assert process.stdout.splitlines() == [
        "  50.0000  normal  frames/050.png",
        " 100.0000  normal  frames/100.png",
        " 150.0000  anomalous  frames/150.png",
        " 250.0000  anomalous  frames/250.png",
    ]
    assert complaints(process) == []
    assert summary_of(process).startswith("4 frames scored, 2 anomalous (above 100.0000); ")
    assert f"onnxruntime {onnxruntime.__version__} CPUExecutionProvider" in summary_of(process)


def test_a_bad_file_is_reported_and_the_others_are_scored(desk, tmp_path):
    frames = tmp_path / "frames"
    frames.mkdir()
    for value in VALUES:
        picture(frames / f"{value:03}.png", value)
    (frames / "120.png").write_bytes((frames / "150.png").read_bytes()[:45])
    process = run("score", desk / "grey.onnx", "frames", "--to", "s.jsonl", cwd=tmp_path)
    assert process.returncode == 1
    (sentence,) = complaints(process)
    assert sentence.startswith("frames/120.png cannot be decoded")
    assert [row["score"] for row in frame_rows(tmp_path / "s.jsonl")] == list(VALUES)
    assert "4 frames scored, 2 anomalous (above 100.0000), 1 not scored; " in summary_of(process)


def test_nothing_but_bad_files(desk, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"")
    process = run("score", desk / "grey.onnx", "bad.png", cwd=tmp_path)
    assert (process.returncode, process.stdout) == (1, "")
    assert complaints(process) == ["bad.png cannot be decoded: it is empty"]
    assert summary_of(process).startswith(
        "0 frames scored, 0 anomalous (above 100.0000), 1 not scored; "
    )


def test_the_threshold_changes_verdicts_and_nothing_else(desk, tmp_path):
    found = {}
    for threshold in (None, 150, 49.5, 0):
        path = tmp_path / f"{threshold}.jsonl"
        options = [] if threshold is None else ["--threshold", threshold]
        assert run("score", "grey.onnx", "frames", "--to", path, *options, cwd=desk).returncode == 0
        found[threshold] = frame_rows(path)
    for threshold, scored in found.items():
        limit = 100 if threshold is None else threshold
        assert [row["score"] for row in scored] == list(VALUES)
        assert {row["threshold"] for row in scored} == {limit}
        assert [row["verdict"] == "anomalous" for row in scored] == [
            value > limit for value in VALUES
        ]
    assert (desk / "grey.onnx").read_bytes() == mean_model(1)


def test_several_sinks_at_once(desk, tmp_path):
    to = ["--to", tmp_path / "a.jsonl", "--to", "terminal", "--to", f"csv:{tmp_path / 'b'}"]
    process = run("score", "grey.onnx", "frames", *to, cwd=desk)
    assert process.returncode == 0
    assert len(process.stdout.splitlines()) == 4
    assert [row["score"] for row in frame_rows(tmp_path / "a.jsonl")] == list(VALUES)
    table = [line.split(",") for line in (tmp_path / "b").read_text().splitlines()]
    assert [row[0] for row in table] == ["source", *(f"frames/{value:03}.png" for value in VALUES)]
    assert [float(row[table[0].index("score")]) for row in table[1:]] == list(VALUES)


def test_frames_are_converted_to_the_models_channels(desk, tmp_path):
    picture(tmp_path / "1.png", 200, 100, 30)
    picture(tmp_path / "2.png", 77)
    scores = {}
    for model in ("grey", "colour"):
        path = tmp_path / f"{model}.jsonl"
        assert run("score", desk / f"{model}.onnx", ".", "--to", path, cwd=tmp_path).returncode == 0
        scores[model] = [row["score"] for row in frame_rows(path)]
    assert scores["grey"] == [(299 * 200 + 587 * 100 + 114 * 30 + 500) // 1000, 77]
    assert scores["colour"] == [110, 77]


def test_a_video(desk, tmp_path):
    writer = cv2.VideoWriter(
        str(tmp_path / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48)
    )
    for value in (20, 200, 20):
        writer.write(np.full((48, 64, 3), value, np.uint8))
    writer.release()
    process = run("score", desk / "colour.onnx", "clip.avi", "--to", "s.jsonl", cwd=tmp_path)
    assert (process.returncode, complaints(process)) == (0, [])
    scored = frame_rows(tmp_path / "s.jsonl")
    assert [(row["source"], row["frame"]) for row in scored] == [
        ("clip.avi", number) for number in range(3)
    ]
    assert [round(row["score"], -1) for row in scored] == [20, 200, 20]
    assert [row["verdict"] for row in scored] == ["normal", "anomalous", "normal"]


def test_a_dicom_file_without_a_window_needs_one(desk, tmp_path):
    slice_ = Path(pydicom.__file__).parent / "data" / "test_files" / "CT_small.dcm"
    process = run("score", desk / "grey.onnx", slice_, "--to", "s.jsonl", cwd=tmp_path)
    assert process.returncode == 1
    assert "--window" in complaints(process)[0]
    assert frame_rows(tmp_path / "s.jsonl") == []
    process = run(
        "score", desk / "grey.onnx", slice_, "--to", "s.jsonl", "--window", "40.5,401", cwd=tmp_path
    )
    assert process.returncode == 0
    (row,) = frame_rows(tmp_path / "s.jsonl")
    data = pydicom.dcmread(slice_)
    hounsfield = data.pixel_array * float(data.RescaleSlope) + float(data.RescaleIntercept)
    assert row["frame"] == data.SOPInstanceUID
    assert row["score"] == pytest.approx(
        (np.clip((hounsfield - 40) / 400 + 0.5, 0, 1) * 255).mean(), abs=0.1
    )


def test_a_frame_smaller_than_the_models_region(tmp_path):
    (tmp_path / "model.onnx").write_bytes(mean_model(1, region=Region(4, 0, 10, 5)))
    picture(tmp_path / "1.png", 9, size=(14, 5))
    picture(tmp_path / "2.png", 9, size=(13, 5))
    process = run("score", "model.onnx", ".", "--to", "s.jsonl", cwd=tmp_path)
    assert process.returncode == 1
    (sentence,) = complaints(process)
    assert sentence.startswith("2.png 0: ")
    assert "outside of a frame of 13 x 5 pixels" in sentence
    assert [row["source"] for row in frame_rows(tmp_path / "s.jsonl")] == ["1.png"]


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_keeps_the_rows(desk, long_folder, tmp_path, stop):
    path = tmp_path / "s.jsonl"
    process = subprocess.Popen(
        command("score", desk / "grey.onnx", long_folder, "--to", path),
        stderr=subprocess.PIPE,
        text=True,
    )
    when_rows(path, process, 10)
    process.send_signal(stop)
    _, errors = process.communicate(timeout=HANGS_S)
    assert process.returncode == 130
    scored = frame_rows(path)
    assert [row["source"] for row in scored] == [
        str(long_folder / f"{number:03}.png") for number in range(len(scored))
    ]
    assert 10 <= len(scored) < 400
    assert path.read_bytes().endswith(b"\n")
    summary, last = errors.splitlines()
    assert int(summary.split()[0]) - len(scored) in (0, 1)
    assert last == "adae-edge: stopped"


def test_a_reader_that_has_enough(desk, long_folder, tmp_path):
    score = command("score", desk / "grey.onnx", long_folder)
    process = subprocess.Popen(
        score, env=BUFFERED, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    reader = subprocess.run(
        ["head", "-1"], stdin=process.stdout, capture_output=True, text=True, timeout=HANGS_S
    )
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(HANGS_S) == 1
    assert reader.stdout.endswith("000.png\n")
    assert len(errors.splitlines()) == 1
    assert " frames scored, " in errors


def test_scoring_pictures_loads_no_torch_no_onnx_and_no_opencv(desk):
    script = """
import atexit, sys
heavy = {"torch", "onnx", "cv2", "pydicom", "sklearn", "matplotlib", "scipy"}
atexit.register(lambda: print(sorted(heavy & set(sys.modules)), "onnxruntime" in sys.modules))
from adae_edge.cli import main
main()
"""
    ran = subprocess.run(
        [sys.executable, "-c", script, "score", "grey.onnx", "frames"],
        cwd=desk, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ran.stdout.splitlines()[4:] == ["[] True"]


def test_scoring_opens_no_socket_and_starts_no_program(desk):
    arguments = [sys.executable, "-c", WATCHED, "score", "grey.onnx", "frames"]
    ran = subprocess.run(arguments, cwd=desk, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, complaints(ran)) == (0, [])
    assert len(ran.stdout.splitlines()) == 4


def test_the_watch_for_sockets_sees_them():
    script = WATCHED.replace(
        "from adae_edge.cli import main\nmain()", "import socket; socket.socket()"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 99


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this one can use CUDA"
)
def test_cuda_where_there_is_none_is_never_the_cpu(desk, tmp_path):
    process = run(
        "score",
        desk / "grey.onnx",
        desk / "frames",
        "--device",
        "cuda",
        "--to",
        "s.jsonl",
        cwd=tmp_path,
    )
    assert (process.returncode, process.stdout) == (2, "")
    (sentence,) = complaints(process)
    assert "cannot run on cuda" in sentence
    assert not (tmp_path / "s.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["grey.onnx", "nowhere"], "there is no source nowhere"),
        (["nowhere.onnx", "frames"], "there is no model file nowhere.onnx"),
        (["grey.onnx", "frames", "--device", "tpu"], "there is no device tpu"),
        (["grey.onnx", "frames", "./frames"], "a source is named twice"),
        (["grey.onnx", "frames", "--max-latency", "20"], "--max-latency takes a time such as 20ms"),
    ],
)
def test_wrong_use_is_one_sentence(desk, arguments, says):
    process = run("score", *arguments, cwd=desk)
    assert (process.returncode, process.stdout) == (2, "")
    (sentence,) = complaints(process)
    assert says in sentence


def test_a_model_that_is_refused(desk, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(mean_model()[:-40])
    process = run("score", "bad.onnx", desk / "frames", cwd=tmp_path)
    assert process.returncode == 1
    (sentence,) = complaints(process)
    assert sentence.startswith("bad.onnx is refused: ")


@pytest.mark.parametrize(
    "options", [["--threshold", "-1"], ["--threshold", "nan"], ["--threads", "0"], ["--speed", "9"]]
)
def test_impossible_options(desk, options):
    process = run("score", "grey.onnx", "frames", *options, cwd=desk)
    assert (process.returncode, process.stdout) == (2, "")
    assert options[0] in process.stderr
    assert "Traceback" not in process.stderr


def test_a_name_that_is_not_utf8(desk, tmp_path):
    picture(tmp_path / "caf\udce9.png", 250)
    (tmp_path / "th\udce9.png").write_bytes(b"no image")
    to = ["--to", "terminal", "--to", "s.csv", "--to", "s.jsonl"]
    process = run(
        "score", desk / "grey.onnx", ".", *to, cwd=tmp_path, PYTHONIOENCODING="utf-8:strict"
    )
    assert process.returncode == 1
    assert process.stdout == " 250.0000  anomalous  caf\\udce9.png\n"
    assert "Traceback" not in process.stderr
    (row,) = frame_rows(tmp_path / "s.jsonl")
    assert os.fsencode(row["source"]) == b"caf\xe9.png"
    assert (tmp_path / "s.csv").read_text("utf-8").count("\n") == 3  # with the event


def refusal(scorer, frames):
    with pytest.raises(FrameError) as refused:
        scorer.score(frames)
    return str(refused.value)


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        (np.zeros((1, 4, 5, 1), np.float32), "this is float32 [1, 4, 5, 1]"),
        (np.zeros((1, 4, 5, 1), bool), "this is bool"),
        (np.zeros((4, 5, 1), np.uint8), "this is uint8 [4, 5, 1]"),
        ([[[[0]]]], "this is list"),
        (None, "this is NoneType"),
        (np.zeros((1, 4, 5, 3), np.uint8), "takes frames with 1 channels, and these have 3"),
        (np.zeros((1, 4, 5, 0), np.uint8), "these have 0"),
        (np.zeros((1, 0, 5, 1), np.uint8), "a frame is 5 x 0 pixels"),
        (np.zeros((0, 4, 0, 1), np.uint8), "a frame is 0 x 4 pixels"),
        (np.zeros((1, 1, 8193, 1), np.uint8), "a frame is 8193 x 1 pixels"),
    ],
)
def test_frames_that_cannot_be_scored(scorer, frames, says):
    assert says in refusal(scorer, frames)


def test_a_region_larger_than_the_frame(tmp_path):
    (tmp_path / "model.onnx").write_bytes(mean_model(1, region=Region(0, 3, 5, 4)))
    scorer = Scorer(tmp_path / "model.onnx", threads=1)
    assert scorer.score(np.zeros((2, 7, 5, 1), np.uint8)).tolist() == [0, 0]
    for shape in ((1, 6, 5, 1), (1, 7, 4, 1)):
        assert "outside of a frame" in refusal(scorer, np.zeros(shape, np.uint8))


def test_an_empty_batch_has_no_scores(scorer):
    scores = scorer.score(np.zeros((0, 4, 5, 1), np.uint8))
    assert (scores.shape, scores.dtype) == ((0,), np.float32)


def test_scores_are_those_of_the_graph(scorer):
    frames = np.random.default_rng(0).integers(0, 256, (7, 12, 9, 1), np.uint8)
    scores = scorer.score(frames)
    assert (scores.shape, scores.dtype) == ((7,), np.float32)
    assert np.allclose(scores, frames.mean(axis=(1, 2, 3)), rtol=1e-6)
    assert scorer.threshold == 100


def test_a_view_into_a_larger_frame_scores_as_its_copy(scorer):
    frames = np.random.default_rng(1).integers(0, 256, (3, 40, 50, 1), np.uint8)
    for view in (
        frames[:, 5:30, 10:40],
        frames[::-1, ::2, ::-3],
        frames.swapaxes(1, 2),
        np.asfortranarray(frames),
    ):
        assert not view.flags.c_contiguous
        assert np.array_equal(scorer.score(view), scorer.score(view.copy()))
    frames.flags.writeable = False
    assert np.array_equal(scorer.score(frames), scorer.score(frames.copy()))


def test_many_frames_are_run_in_parts_and_score_as_one_by_one(scorer, monkeypatch):
    # Values below 16, so that the sum of a frame is exact in float32.
    frames = np.random.default_rng(2).integers(0, 16, (35, 64, 64, 1), np.uint8)
    monkeypatch.setattr(scorer_module, "_VALUES_PER_RUN", 16 * frames[0].size)
    runs = []
    whole = scorer.backend.run
    monkeypatch.setattr(
        scorer.backend,
        "run",
        lambda inputs, outputs: runs.append(len(inputs[0])) or whole(inputs, outputs),
    )
    scores = scorer.score(frames)
    assert runs == [16, 16, 3]
    assert scores.tolist() == [scorer.score(frame[None])[0] for frame in frames]


def test_a_score_that_is_no_number_is_a_failure_and_not_normal(tmp_path):
    (tmp_path / "model.onnx").write_bytes(mean_model(last="Log"))
    picture(tmp_path / "black.png", 0)
    picture(tmp_path / "white.png", 255)
    process = run("score", "model.onnx", ".", "--to", "s.jsonl", cwd=tmp_path)
    assert process.returncode == 1
    assert complaints(process) == ["black.png 0: the score is not a finite number"]
    assert [row["source"] for row in frame_rows(tmp_path / "s.jsonl")] == ["white.png"]
    assert summary_of(process).startswith(
        "1 frames scored, 0 anomalous (above 100.0000), 1 not scored; "
    )
