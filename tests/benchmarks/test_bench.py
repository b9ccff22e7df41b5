"""The benchmark command: what it reports, not how fast it is."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from adae_edge.benchmarks import record
from adae_edge.benchmarks.against import graphs
from adae_edge.benchmarks.apart import Apart
from adae_edge.benchmarks.paired import Comparison, Ratio, in_turns
from adae_edge.cli import app as cli
from adae_edge.cli import main
from adae_edge.machine import available_threads
from tests.support.models import HANGS_S, mean_model


def run_module(name, *arguments, cwd, **variables):
    """Run a module of this package to its end; its output and its errors are text."""
    return subprocess.run(
        [sys.executable, "-m", f"adae_edge{name}", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def bench(model, *options):
    return run_module("", "bench", model, "--seconds", "0.1", *options, cwd=model.parent)


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(mean_model(3))
    return path


def test_figures_in_table_json_and_markdown(model, tmp_path):
    sizes = ("--size", "20x10", "--size", "64x48")
    done = bench(model, "--batch", "1,3", *sizes, "--json", "b.json", "--markdown", "b.md")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "b.md").read_text() == done.stdout
    result = json.loads((tmp_path / "b.json").read_text())
    assert result["command"].startswith("adae-edge bench m.onnx --seconds 0.1 --batch 1,3")
    assert result["schema"] == 1
    assert {"adae_edge", "numpy", "onnxruntime"} == set(result["versions"])
    assert result["machine"]["usable_cpus"] == result["threads"] == available_threads()
    assert min(result["load_ms"], result["first_inference_ms"]) > 0
    assert result["model"]["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    measured = [(row["width"], row["height"], row["batch"]) for row in result["measurements"]]
    assert measured == [(20, 10, 1), (20, 10, 3), (64, 48, 1), (64, 48, 3)]
    for row in result["measurements"]:
        assert row["runs"] >= 20
        assert 0 < row["min_ms"] <= row["p50_ms"] <= row["max_ms"]
        assert sum(row["histogram"]["counts"]) == row["runs"]
        assert len(row["parts_p50_ms"]) == 10
        assert row["peak_memory_mb"] > 20
        assert row["conditions"]["seconds"] >= 0.1
        for verdict in row["verdicts"]:
            assert f"**{verdict['name']}**" in done.stdout
            assert verdict["because"] in done.stdout
        known = row["runs"] >= 1000
        assert (row["p99_ms"] is not None) == known
        assert f"{row['p50_ms']:.3f}" in done.stdout
    assert ("too few" in done.stdout) == any(
        row["p999_ms"] is None for row in result["measurements"]
    )


def test_a_run_with_too_many_threads_fails_if_that_is_asked(model, tmp_path):
    threads = available_threads() + 1
    options = ("--threads", threads, "--batch", "1", "--size", "8x8", "--json", "b.json")
    done = bench(model, "--strict", *options)
    assert done.returncode == 1
    assert f"**oversubscribed** 8x8: {threads} threads compute on {threads - 1} CPUs" in done.stdout
    assert done.stderr == "adae-edge: 1 of 1 measurements are not to be used\n"
    row = json.loads((tmp_path / "b.json").read_text())["measurements"][0]
    assert "disturbed" not in [verdict["name"] for verdict in row["verdicts"]]


def test_a_rate_that_is_far_too_high_is_given_up(model, tmp_path):
    options = ("--rate", "999999999", "--batch", "1", "--size", "8x8", "--json", "b.json")
    done = bench(model, *options)
    assert done.returncode == 1
    row = json.loads((tmp_path / "b.json").read_text())["measurements"][0]
    assert row["runs"] >= 20
    assert row["runs"] + row["given_up"] == 99999999 + 1
    sentence = f"{row['given_up']} calls were due and never made: 1e+09 frames/s are far too many"
    assert done.stderr == f"adae-edge: 8x8: {sentence}\n"
    assert sentence in done.stdout


def test_sweeps_run_scorers_side_by_side_in_threads_and_in_processes(model, tmp_path):
    options = ("--batch", "1", "--size", "8x8", "--threads", "1", "--json", "b.json")
    for kind, processes in (((), [1, 1]), (("--processes",), [1, 2])):
        done = bench(model, "--streams", "1,2", *options, *kind)
        assert done.returncode == 0, done.stderr
        rows = json.loads((tmp_path / "b.json").read_text())["measurements"]
        assert [row["streams"] for row in rows] == [1, 2]
        assert [row["processes"] for row in rows] == processes
        assert all(row["threads"] == 1 for row in rows)
        assert rows[1]["runs"] >= 40  # 20 of each
        assert sum(rows[1]["histogram"]["counts"]) == rows[1]["runs"]
    assert rows[1]["peak_memory_mb"] > 1.5 * rows[0]["peak_memory_mb"]


def test_arrays_of_numbers_are_one_line_of_json():
    value = {"a": [1, 2.5, None], "b": [{"c": []}], "text": "[ 1,  2 ]", "words": ["x", "y"]}
    text = record.as_json(value)
    assert json.loads(text) == value
    assert '"a": [1, 2.5, null],\n' in text


@pytest.mark.parametrize(
    "wrong",
    [
        (("--batch", "0"), "a batch has at least one frame"),
        (("--batch", "many"), "--batch takes whole numbers"),
        (
            ("--batch", "1,1000000", "--size", "640x480"),
            "batches of 1000000 frames of 640x480 take 1843.2 GB, and ",
        ),
        (  # the frames fit, and what the network makes of them does not
            ("--batch", "9000000000", "--size", "1x1"),
            "batches of 9000000000 frames of 1x1 take ",
        ),
        (("--size", "20"), "20 is something else"),
        (("--size", "0x5"), "a frame has 1x1 to 8192x8192 pixels, and not 0x5"),
        (("--size", "9000x9000"), "a frame has 1x1 to 8192x8192 pixels, and not 9000x9000"),
        (("--device", "tpu"), "there is no device tpu"),
        (("--threads", "0"), "there is at least one thread"),
        (("--streams", "2", "--rate", "30"), "--rate goes with one stream"),
        (("--rate", "0"), "a rate is above 0"),
        (("--rate", "0.001", "--batch", "1"), "the least for a figure, take 5.6 hours"),
        (("--rate", "0.1"), "20 runs of 64 frames at --rate 0.1"),
        (("--rate", "٣٠"), "٣٠ is something else"),
        (("--rate", "max:p99<20"), "max:p99<20 is something else"),
        (("--rate", "max:p42<20ms"), "max:p42<20ms is something else"),
        (("--fail-if", "p99_ms > ٢٠"), "p99_ms > ٢٠ is something else"),
        (("--fail-if", "p98_ms > 1"), "there is no figure p98_ms: there are min_ms, p50_ms"),
        (("--html", "nowhere/b.html"), "there is no folder"),
        (("--compare", "nowhere.json"), "nowhere.json cannot be read"),
        (("--json", "nowhere/b.json"), "there is no folder"),
        (("--markdown", "nowhere/b.md"), "there is no folder"),
        (("--json", "/proc/b.json"), "cannot write /proc/b.json: /proc is read-only"),
        (("--json", "/dev/full"), "cannot write /dev/full: it is there, and no file"),
        (("--json", "m.onnx"), "cannot write m.onnx: it is the model, or asked for twice"),
        (("--json", "b", "--html", "b"), "cannot write b: it is the model, or asked for twice"),
        (("--streams", "257"), "there are at most 256 streams, and not 257"),
        (
            ("--streams", "256", "--size", "8192x8192", "--batch", "64"),
            "batches of 64 frames of 8192x8192, and 256 streams of them, take 6597.1 GB",
        ),
    ],
)
def test_wrong_use_is_one_sentence_and_exit_code_2(model, monkeypatch, capsys, wrong):
    options, sentence = wrong
    monkeypatch.chdir(model.parent)
    monkeypatch.setattr(sys, "argv", ["adae-edge", "bench", str(model), *options])
    monkeypatch.setattr(Apart, "measure", untouched)
    monkeypatch.setattr(cli, "listen", lambda: None)
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    assert ended.value.code == 2
    assert sentence in printed.err
    assert (printed.err.count("\n"), printed.out) == (1, "")
    assert [path.name for path in model.parent.iterdir()] == ["m.onnx"]


def untouched(*arguments):
    pytest.fail("the measuring began")


def test_ctrl_c_prints_and_writes_what_there_is(model, tmp_path):
    sizes = ("--size", "20x10", "--size", "64x48", "--batch", "1", "--json", "b.json")
    running = subprocess.Popen(
        [sys.executable, "-m", "adae_edge", "bench", str(model), "--seconds", "600", *sizes],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not measures(running.pid):
        assert running.poll() is None
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does
    printed, complained = running.communicate(timeout=HANGS_S)
    assert (running.returncode, complained) == (130, "adae-edge: stopped\n")
    result = json.loads((tmp_path / "b.json").read_text())
    assert result["stopped"] is True
    assert [row["width"] for row in result["measurements"]] == [20]
    assert result["measurements"][0]["runs"] > 0
    assert "20x10" in printed


def test_a_measuring_process_ends_when_its_command_is_killed(model, tmp_path):
    command = [sys.executable, "-m", "adae_edge", "bench", str(model), "--seconds", "600"]
    running = subprocess.Popen(command, cwd=tmp_path, start_new_session=True)
    while not measures(running.pid):
        assert running.poll() is None
        time.sleep(0.1)
    running.kill()
    running.wait()
    until = time.monotonic() + HANGS_S
    while is_there(running.pid):
        assert time.monotonic() < until
        time.sleep(0.1)


def is_there(session):
    """Whether a process of a session is left."""
    try:
        os.killpg(session, 0)
    except ProcessLookupError:
        return False
    return True


def measures(pid):
    """Whether a process has one that measures, with the model loaded."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            if parent == pid and "onnxruntime" in (path.parent / "maps").read_text():
                return "Threads:\t1\n" not in (path.parent / "status").read_text()
        except (OSError, ValueError, IndexError):
            continue
    return False


def test_the_command_in_a_record_has_no_folders_of_the_machine(monkeypatch):
    arguments = ["brats:/data/brats", "A=/home/me/a.safetensors,/data/frames", "--json", "b/r.json"]
    monkeypatch.setattr(sys, "argv", ["/usr/bin/adae-edge", *arguments])
    assert record.command().endswith(" brats:brats A=a.safetensors,frames --json b/r.json")
    figures = record.record(rows=[1])
    assert list(figures) == ["command", "machine", "versions", "rows"]


def test_threads_follow_the_affinity(model):
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system has no CPU affinity")
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from adae_edge.machine import available_threads; print(available_threads())"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "1\n"
    )


def test_side_by_side_scripts_print_their_ratios(model):
    options = ("--size", "8x8", "--json", "o.json")
    done = run_module(".benchmarks.against.overhead", model, *options, cwd=model.parent)
    assert done.returncode == 0, done.stderr
    rows = json.loads((model.parent / "o.json").read_text())["rows"]
    assert [row["batch"] for row in rows] == [1, 64]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["scorer_ms"] / row["bare_ms"], rel=0.02)
        assert np.isfinite(row["ratio"])
        assert f"{row['ratio']:.3f}" in done.stdout


def test_training_is_compared_with_plain_loops_that_train_too(tmp_path):
    options = ("digits", "--steps", "12", "--rounds", "2", "--json", "t.json")
    one_thread = {"OMP_NUM_THREADS": "1"}
    done = run_module(".benchmarks.against.training", *options, cwd=tmp_path, **one_thread)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "t.json").read_text())
    assert (result["batch"], result["frames"]) == (64, 1165)
    assert result["peak_memory_mb"] > 0
    names = [row["name"].partition(",")[0] for row in result["rows"]]
    assert names == ["adae-edge", "adae-edge", "plain", "plain", "plain"]
    assert result["rows"][0]["ratio"] == 1
    for row in result["rows"]:
        assert len(row["seconds"]) == 2
        at_once = result["machine"]["usable_cpus"] if "side by side" in row["name"] else 1
        rate = at_once * 12 * 64 / np.median(row["seconds"])
        assert row["images_per_s"] == pytest.approx(rate, rel=0.01)
        assert row["ratio"] == pytest.approx(result["rows"][0]["images_per_s"] / rate, rel=0.01)
        assert f"{row['images_per_s']:.0f} images/s" in done.stdout
        assert 0 < row["loss_generator"] < 0.6  # untrained, it is near 0.8


def test_the_exported_graph_beside_what_it_replaces(tmp_path):
    options = ("network-sized", "--rounds", "2", "--threads", "1", "--json", "g.json")
    done = run_module(".benchmarks.against.graphs", *options, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads((tmp_path / "g.json").read_text())
    assert (
        result["command"]
        == "python -m adae_edge.benchmarks.against.graphs network-sized --rounds 2 --threads 1 "
        "--json g.json"
    )
    assert (result["rounds"], result["threads"]) == (2, 1)
    assert {"adae_edge", "onnxruntime", "opencv", "torch"} <= set(result["versions"])
    (answer,) = result["comparisons"]
    goals = [row["goal"] for row in answer["ratios"]]
    assert goals == ["at most 1", "at least 8", None, None]
    for row in answer["ratios"]:
        of, to = (np.array(answer["contenders"][row[name]]["rounds_ms"]) for name in ("of", "to"))
        assert len(of) == 2
        assert row["ratio"] == pytest.approx(np.median(of / to), rel=0.01)
        assert f"{row['ratio']:.3f}     {row['of']} / {row['to']}" in done.stdout
    scores = [contender["score"] for contender in answer["contenders"].values()]
    assert scores == pytest.approx([scores[0]] * 5, rel=1e-4)


@pytest.mark.parametrize(
    ("group", "tolerance"), [("raw", 0.05), ("precision", 0.2), ("forms", 1e-4), ("openvino", 0.2)]
)
def test_all_that_is_compared_computes_the_same_score(group, tolerance):
    if group == "openvino":
        pytest.importorskip("openvino")
    comparison = next(graphs.GROUPS[group](1))
    scores = {name: call() for name, call in comparison.contenders.items()}
    expected = next(iter(scores.values()))
    for name, found in scores.items():
        assert found == pytest.approx(expected, rel=tolerance), name
    names = {*comparison.contenders, *comparison.fastest}
    assert {name for ratio in comparison.ratios for name in (ratio.of, ratio.to)} <= names


def test_a_group_that_is_not_there(tmp_path):
    done = run_module(".benchmarks.against.graphs", "speed", cwd=tmp_path)
    assert done.returncode == 2
    assert "there is no group speed" in done.stderr


def test_turns_alternate_and_a_goal_is_met_or_not(monkeypatch):
    monkeypatch.setattr("adae_edge.benchmarks.paired._block_ms", lambda call: float(call()[0]))
    order = []
    contenders = {
        name: lambda name=name, ms=ms: order.append(name) or np.float32([ms])
        for name, ms in zip("abc", (4, 2, 3), strict=True)
    }
    assert {name: ms.tolist() for name, ms in in_turns(contenders, 3).items()} == {
        "a": [4] * 3,
        "b": [2] * 3,
        "c": [3] * 3,
    }
    assert "".join(order) == "abccbaabc"
    ratios = (
        Ratio("a", "b", at_least=2),
        Ratio("b", "a", at_most=0.4),
        Ratio("a", "rest", at_least=1.9),
        Ratio("c", "b"),
    )
    rows = Comparison("x", "y", contenders, ratios, {"rest": ("b", "c")}).measure(2)["ratios"]
    assert [(row["to"], row["ratio"], row["goal"], row["met"]) for row in rows] == [
        ("b", 2.0, "at least 2", True),
        ("a", 0.5, "at most 0.4", False),
        ("b", 2.0, "at least 1.9", True),
        ("b", 1.5, None, None),
    ]
