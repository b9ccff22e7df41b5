"""The demo as its user runs it: the whole line on real digits, and what it leaves behind."""

import dataclasses
import json
import re
import subprocess
import sys

import pytest

from adae_edge.cli import demonstration
from adae_edge.contract import Form
from adae_edge.errors import AdaeEdgeError
from adae_edge.formats import modelfile
from adae_edge.formats.checkpoint import Checkpoint
from tests.support.checkout import ROOT


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "out"
    command = [sys.executable, "-m", "adae_edge", "demo", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out, done


def test_the_held_out_digit_is_detected(demo):
    out, done = demo
    summary = json.loads((out / "summary.json").read_text())
    told = {"auroc", "best_yardstick", "seconds", "latency_p50_ms", "checkpoint", "model"}
    assert set(summary) == told
    assert summary["auroc"] >= 0.95
    assert f"{summary['auroc']:.4f}" in done.stdout
    best = summary["best_yardstick"]
    assert f"{best['auroc']:.4f}, {best['name']}" in done.stdout
    loses = "the model loses to a yardstick" in done.stdout
    assert loses == (best["auroc"] > summary["auroc"])
    assert summary["latency_p50_ms"] > 0
    exported = modelfile.read(summary["model"]).contract
    assert Checkpoint.load(out / "digits.safetensors").contract == dataclasses.replace(
        exported, form=Form()
    )


def test_the_scores_are_those_of_the_runtime_in_a_process_without_torch(demo):
    out, done = demo
    rows = [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]
    assert len(rows) == 324 + 178
    assert f"score {out / 'digits.onnx'}" in done.stdout
    truth = [row for row in rows if "/anomalous/" in row["source"]]
    assert sum(row["verdict"] == "anomalous" for row in truth) > len(truth) / 2


def test_the_readme_quotes_what_it_prints(demo):
    """Numbers differ between machines, and the demo writes the scores to a file."""
    out, done = demo

    def masked(text):
        return re.sub(r"\d[\d.]*(e-\d+)?", "0", text)

    printed = masked((done.stdout + done.stderr).replace(str(out), "demo"))
    section = (ROOT / "README.md").read_text().partition("## See it run")[2].partition("\n## ")[0]
    lines = re.findall(r"^    (.+)$", section.replace("\\\n", ""), re.MULTILINE)
    quoted = [line for line in lines if not re.match(r"make | +[\d.]+  ", line)]
    assert len(quoted) > 8
    for line in quoted:
        for part in line.split("..."):
            assert " ".join(masked(part).split()) in " ".join(printed.split()), line


def test_a_command_without_torch_really_cannot_import_it(demo):
    out, _ = demo
    with pytest.raises(AdaeEdgeError, match="export failed"):
        demonstration._run(
            ["export", str(out / "digits.safetensors"), "--out", str(out / "x.onnx")],
            without_torch=True,
        )
    demonstration._run(["inspect", str(out / "digits.onnx")], without_torch=True)


def test_the_report_has_its_pictures_figures_and_commands(demo):
    out, _ = demo
    page = (out / "report.html").read_text()
    assert (
        len(re.findall(r'<img alt="[^"]+" src="data:image/png;base64,[A-Za-z0-9+/=]{5000,}"', page))
        == 2
    )
    assert "AUROC" in page
    assert "adae-edge train digits --anomalous 0" in page
    assert "adae-edge bench" in page
    assert not re.search(r'(src|href)="http', page)


def test_the_demo_replaces_its_own_folder_only(demo, tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    command = [sys.executable, "-m", "adae_edge", "demo", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "not empty" in done.stderr
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_evaluate_agrees_with_the_runtime(demo, tmp_path):
    out, _ = demo
    command = [
        sys.executable,
        "-m",
        "adae_edge",
        "evaluate",
        str(out / "digits.safetensors"),
        "--out",
        str(tmp_path / "e"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    evaluation = json.loads((tmp_path / "e" / "evaluation.json").read_text())
    assert evaluation["auroc"] == pytest.approx(
        json.loads((out / "summary.json").read_text())["auroc"], abs=1e-4
    )
    assert f"{evaluation['auroc']:.4f}" in done.stdout
    assert (tmp_path / "e" / "report.html").is_file()
