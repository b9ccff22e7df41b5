"""Rivals' workers answer as they are asked, one that fails is left out, and figures are right."""

import json
import shlex
import sys

import numpy as np
import pytest

from adae_edge.benchmarks.bench import random_frames
from adae_edge.benchmarks.paired import Ratio
from adae_edge.benchmarks.rivals import __main__ as rivals
from adae_edge.benchmarks.rivals import page, rival, turns
from adae_edge.benchmarks.rivals.rival import RIVALS, Rival, RivalError
from adae_edge.benchmarks.rivals.turns import Table, against_goal, costs, ratio


@pytest.fixture
def sums(tmp_path):
    """A rival whose environment is this one, with its files prepared."""
    one = Rival("sums", tmp_path, "tests.support.tiny_rivals")
    one.python.parent.mkdir(parents=True)
    one.python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    one.python.chmod(0o755)
    installed = {"packages": ["sums==1"], "project": None}
    (one.environment / "installed.json").write_text(json.dumps(installed))
    one.install()
    return one


def loaded(worker, one, contender, frames):
    worker.ask("load", contender=contender, folder=str(one.files), threads=1, size=(8, 6))
    return worker.ask("take", frames.data.cast("B"), shape=frames.shape)


def test_a_worker_scores_the_frames_that_it_is_handed(sums):
    frames = random_frames(3, (8, 6), 3)
    with sums.worker("log") as worker:
        taken = loaded(worker, sums, "summed", frames)
        block = worker.ask("block", seconds=0.01, settle_s=0.0)
    assert taken["score"] == int(frames[0].sum()) + 1000
    assert taken["resident_mb"] > 1
    assert block["calls"] >= 1
    assert 0 < block["min_ms"] <= block["median_ms"]


def test_what_a_library_prints_is_no_answer(sums):
    log = sums.folder / "logs" / "sums-prepare.txt"
    assert "said by a library" in log.read_text()


def test_a_worker_says_what_failed_and_goes_on(sums):
    frames = random_frames(1, (8, 6), 3)
    with sums.worker("log") as worker:
        with pytest.raises(RivalError, match="OSError: there are no weights"):
            loaded(worker, sums, "unloadable", frames)
        assert loaded(worker, sums, "slow", frames)["score"] == 8


def test_a_worker_that_ends_is_told_with_its_exit_code(sums):
    with sums.worker("log") as worker:
        loaded(worker, sums, "dying", random_frames(1, (8, 6), 3))
        with pytest.raises(RivalError, match="without an answer to block, exit code 7"):
            worker.ask("block", seconds=0.01, settle_s=0.0)


def test_contenders_take_turns_and_those_that_fail_are_left_out(sums, monkeypatch):
    monkeypatch.setattr(turns, "BLOCK_S", 0.01)
    told = []
    found = Table((8, 6), 1, 3).measure([sums], told.append)
    assert list(found["contenders"]) == ["summed", "slow"]
    assert set(found["left_out"]) == {"unloadable", "dying"}
    assert len(told) == 2
    slow = found["contenders"]["slow"]
    assert len(slow["rounds_ms"]) == 3
    assert 5 <= slow["min_ms"] <= slow["median_ms"]
    assert ratio(slow, found["contenders"]["summed"])[0] > 1


def test_a_table_that_was_measured_is_not_measured_again(sums, monkeypatch):
    monkeypatch.setattr(rivals, "leave_out_others", lambda table: None)
    monkeypatch.setattr(turns, "BLOCK_S", 0.01)
    parts = sums.folder / "parts"
    first = rivals.measured(Table((8, 6), 1, 1), [sums], parts)
    monkeypatch.setattr(Table, "measure", lambda *_: pytest.fail("it was measured again"))
    assert rivals.measured(Table((8, 6), 1, 1), [sums], parts) == first
    with pytest.raises(pytest.fail.Exception):
        rivals.measured(Table((8, 6), 1, 2), [sums], parts)


def test_an_environment_is_made_anew_only_for_other_packages(tmp_path, monkeypatch):
    commands = []

    def run(command):
        commands.append(command)
        if "venv" in command:
            ours.environment.mkdir()
        return ""

    monkeypatch.setattr(rival, "_run", run)
    monkeypatch.setattr(rival, "project_digest", lambda: "one")
    ours = Rival("ours", tmp_path)
    ours.install()
    assert [command[2] for command in commands] == ["venv", "pip"]
    assert commands[1][-1] == f"{tmp_path}/project[cpu]"
    assert (tmp_path / "project" / "pyproject.toml").is_file()
    ours.install()
    assert len(commands) == 2
    monkeypatch.setattr(rival, "project_digest", lambda: "another")
    ours.install()
    assert commands[2][-3:] == ["--no-deps", "--force-reinstall", f"{tmp_path}/project[cpu]"]


def test_a_rival_that_cannot_be_installed_is_left_out(tmp_path, monkeypatch):
    def fail(command):
        raise RivalError("pip failed: there is no such version")

    monkeypatch.setattr(rival, "_run", fail)
    ready, left_out = rivals.installed([Rival("pyod", tmp_path)])
    assert ready == []
    assert left_out == {"PyOD AutoEncoder": "pip failed: there is no such version"}
    with pytest.raises(RivalError):
        rivals.installed([Rival("ours", tmp_path)])


def test_a_failed_command_gives_its_last_line():
    with pytest.raises(RivalError, match="failed: no such thing"):
        rival._run([sys.executable, "-c", "import sys; sys.exit('first\\nno such thing')"])


def test_each_rival_says_what_it_needs_and_imports_nothing_of_it(tmp_path):
    before = {"torch", "anomalib", "anomavision", "pyod", "openvino"} & set(sys.modules)
    for name in RIVALS:
        one = Rival(name, tmp_path)
        assert one.contenders
        assert all("==" in package or "{project}" in package for package in one.module.PACKAGES)
    assert {"torch", "anomalib", "anomavision", "pyod", "openvino"} & set(sys.modules) == before


def row(name, ms, **figures):
    return {
        "rival": name,
        "score": 1.0,
        "rounds_ms": ms,
        "min_ms": min(ms),
        "median_ms": float(np.median(ms)),
        "waited": 0.0,
        "cpu_s": 1.0,
        "resident_mb": 50.0,
        **figures,
    }


def a_table(**others):
    ours = row("ours", [1.0, 2.0, 3.0], cpu_s=0.2)
    return {"size": [32, 32], "threads": 1, "contenders": {page.OURS: ours, **others}}


def test_a_ratio_is_taken_within_each_round():
    assert ratio({"rounds_ms": [2.0, 8.0, 9.0]}, {"rounds_ms": [1.0, 2.0, 3.0]}) == [3.0, 2.5, 3.5]


def test_a_goal_takes_the_fastest_of_a_rival():
    rows = a_table(slow=row("anomalib", [9.0, 9.0, 9.0]), fast=row("anomalib", [4.0, 8.0, 12.0]))[
        "contenders"
    ]
    found = against_goal(rows, Ratio("it", page.OURS, at_least=5), {"it": "anomalib"})
    assert (found["of"], found["ratio"], found["met"]) == ("fast", [4.0, 4.0, 4.0], False)
    assert against_goal(rows, Ratio("missing", page.OURS), {}) is None
    cost = against_goal(rows, Ratio("fast", page.OURS, at_least=5), {}, "cpu_s")
    assert (cost["ratio"], cost["met"]) == ([5.0], True)


def test_costs_are_medians_over_tables():
    tables = [a_table(), a_table(), a_table()]
    tables[0]["contenders"][page.OURS]["cpu_s"] = 0.9
    assert costs(tables)[page.OURS] == {"rival": "ours", "cpu_s": 0.2, "resident_mb": 50.0}


def test_another_score_of_the_same_network_is_left_out():
    table = {
        **a_table(
            **{
                "PyTorch, eager": row("pytorch", [1.0], score=1.1),
                "two ONNX files and numpy": row("onnx_runtime", [1.0], score=1.0005),
                "PyOD AutoEncoder": row("pyod", [1.0], score=7.0),
            }
        ),
        "left_out": {},
    }
    rivals.leave_out_others(table)
    assert set(table["left_out"]) == {"PyTorch, eager"}
    assert "PyOD AutoEncoder" in table["contenders"]


def test_the_page_shows_times_costs_and_goals():
    rows = {"two ONNX files and numpy": row("onnx_runtime", [2.0, 4.0, 6.0])}
    tables = [a_table(**rows)]
    taken = costs(tables)
    result = {
        "command": "python -m adae_edge.benchmarks.rivals DIR",
        "machine": {"cpu": "a CPU", "python": "3.11", "system": "Linux"},
        "versions": {"adae_edge": "1"},
        "rounds": 3,
        "notes": ["a note"],
        "tables": tables,
        "costs": taken,
        "environments": {"ours": {"mb": 173.0}, "onnx_runtime": {"mb": 294.0}},
        "goals": rivals.reached(tables, taken),
        "left_out": {"PyOD AutoEncoder": "pip failed"},
    }
    lines = page.as_markdown(result).splitlines()
    text = "\n".join(" ".join(line.split()) for line in lines)
    assert "| two ONNX files and numpy | 2.000 | 4.000 | 2.00 (2.00 to 2.00) | 0.0% |" in text
    assert "| two ONNX files and numpy | 1.00 | 50 | 294 |" in text
    assert "0.50 (0.50 to 0.50) | at most 1 | yes |" in text
    assert "- PyOD AutoEncoder: pip failed" in text
    assert all(len(line) <= 100 for line in lines if not line.startswith(("|", "`")))


def test_an_unknown_rival_is_refused_before_anything_is_done(tmp_path):
    with pytest.raises(RivalError, match="there is no rival nothing: choose among ours,"):
        rivals.run(tmp_path, 1, ["nothing"], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
