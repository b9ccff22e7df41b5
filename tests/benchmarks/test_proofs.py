"""What shows that ``bench`` can be believed: how runs are judged, not how fast they are."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from adae_edge.benchmarks import agreement, curves, disturbances, timing_cost
from adae_edge.benchmarks.against.contenders import exported
from adae_edge.benchmarks.disturbances import judged
from adae_edge.contract import Form
from tests.support.models import mean_model


def run(module, *arguments):
    app = module.typer.Typer()
    app.command()(module.main)
    return CliRunner().invoke(app, list(map(str, arguments)))


def measured(*verdicts, batch=1, p50=1.0):
    told = [{"name": name, "because": "so"} for name in verdicts]
    return {"batch": batch, "p50_ms": p50, "verdicts": told, "conditions": {"waiting": 0.01}}


def test_a_run_is_right_with_its_verdict_and_no_other():
    runs = [measured("disturbed"), measured(), measured("disturbed", "unstable")]
    row = judged("busy", "disturbed", runs)
    assert (row["right"], row["met"], row["goal"]) == (1, False, "at least 3")
    assert row["named"] == "disturbed, unstable"
    assert judged("busy", "disturbed", runs[:1])["met"]


def test_of_ten_quiet_runs_one_may_be_named():
    quiet = [measured()] * 9
    assert judged("quiet", "", [*quiet, measured("disturbed")])["met"]
    assert not judged("quiet", "", [*quiet[1:], *[measured("unstable")] * 2])["met"]


def test_two_runs_agree_or_the_tool_says_that_they_cannot():
    row = agreement.agreed(measured(p50=1.0), measured(p50=1.04))
    assert (row["differ"], row["says"], row["met"]) == ("4.0%", "nothing wrong", False)
    assert agreement.agreed(measured(p50=1.0), measured("disturbed", p50=1.04))["met"]
    assert agreement.agreed(measured(batch=64, p50=1.04), measured(batch=64, p50=1.0))["met"]


def test_a_pinned_neighbour_is_named_by_the_command_itself(tmp_path):
    model = tmp_path / "m.onnx"
    model.write_bytes(mean_model(3))
    with disturbances.pinned_neighbour() as before:
        result = disturbances.bench(model, "--threads", "1", "--seconds", "1", before=before)
    (row,) = result["measurements"]
    assert (row["width"], row["batch"]) == (32, 1)
    assert [verdict["name"] for verdict in row["verdicts"]] == ["disturbed"]
    assert len(os.sched_getaffinity(0)) == result["machine"]["cpus"] or result["threads"] == 1


def test_a_quota_is_that_of_a_cgroup_and_gone_afterwards(tmp_path, monkeypatch):
    monkeypatch.setattr(disturbances, "_GROUPS", tmp_path)
    group = tmp_path / f"adae-edge-{os.getpid()}"
    monkeypatch.setattr(Path, "rmdir", lambda path: [each.unlink() for each in path.iterdir()])
    with disturbances.quota() as before:
        before()
        assert (group / "cpu.max").read_text() == "20000 100000"
        assert (group / "cgroup.procs").read_text() == str(os.getpid())
    assert list(group.iterdir()) == []


def test_a_model_that_is_not_there_ends_the_proof_with_its_sentence(tmp_path):
    done = run(agreement, tmp_path / "none.onnx", "--pairs", "1")
    assert done.exit_code == 2
    assert "none.onnx" in done.output


def test_the_bench_s_loop_makes_as_many_calls_as_the_bare_one(monkeypatch):
    calls = []
    for way in (timing_cost.bare_s, timing_cost.looped_s):
        calls.clear()
        assert way(lambda: calls.append(1), 30) > 0
        assert len(calls) == 30
    monkeypatch.setattr(timing_cost, "BLOCK_S", 0.001)
    row = timing_cost.measure(lambda: sum(range(1000)), 3)
    assert row["quartile_1"] <= row["ratio"] <= row["quartile_3"]
    assert row["met"] == (row["ratio"] <= 1.01)


def test_points_that_are_there_are_not_measured_again(tmp_path, monkeypatch):
    every = list(curves.points(2.0, 10.0))
    assert {each.curve for each in every} == {
        "size",
        "batch",
        "side",
        "threads",
        "source",
        "length",
    }
    assert len({each.file for each in every}) == len(every)
    assert every[-1].arguments[-2:] == ("--seconds", "600")
    row = {name: 1 for name in curves._KEPT} | {"verdicts": [{"name": "unstable"}]}
    row["parts_p50_ms"] = [1.0, 1.5, 2.0]
    for point in every:
        result = {"command": "adae-edge bench", "measurements": [row]}
        (tmp_path / point.file).write_text(json.dumps(result))
    monkeypatch.setattr(curves, "exported", lambda *given: SimpleNamespace(data=b""))
    monkeypatch.setattr(curves, "_write_sources", lambda folder: None)
    monkeypatch.setattr(curves.subprocess, "run", lambda *given, **named: pytest.fail("measured"))
    done = run(curves, tmp_path, "--json", tmp_path / "curves.json")
    assert done.exit_code == 0, done.output
    points = json.loads((tmp_path / "curves.json").read_text())["points"]
    assert [(each["curve"], each["at"]) for each in points] == [
        (each.curve, each.at) for each in every
    ]
    assert "first tenth 1.000 ms, last 2.000 ms unstable" in done.output


def test_a_point_is_measured_with_a_network_of_its_side(tmp_path, monkeypatch):
    monkeypatch.setattr(curves, "_FRAMES", 25)
    (tmp_path / "a64.onnx").write_bytes(exported("a", 3, Form(), 64).data)
    options = ("--size", "64x48", "--batch", "2", "--seconds", "0.1")
    point = curves.Point("side", "64", ("a64.onnx", *options))
    row = curves._measured(tmp_path, point)
    assert (row["width"], row["batch"], row["at"]) == (64, 2, "64")
    assert json.loads((tmp_path / "side-64.json").read_text())["model"]["side"] == 64
