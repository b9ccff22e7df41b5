"""Results are compared with those of the same alone, judged by conditions, and drawn on a page."""

import json
import os
import re
import sys
from array import array
from html import unescape
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from adae_edge.benchmarks import bench, record
from adae_edge.benchmarks.apart import Apart
from adae_edge.benchmarks.bench import BenchRequest, run_bench
from adae_edge.benchmarks.load import Load
from adae_edge.benchmarks.markdown import as_markdown
from adae_edge.benchmarks.page import Scale, as_html
from adae_edge.benchmarks.watch import Conditions
from adae_edge.errors import UsageError, WriteError
from tests.support.models import mean_model

QUIET = Conditions(2.0, 0.004, 0, 0, 0.0, 0.1, 0.0, [None, None], [None, None])


class Measured:
    """In place of processes that measure: each call takes ``ms``, one part in a hundred more."""

    ms = 1.0
    runs = 2000

    @classmethod
    def measure(cls, apart, measuring, jobs):
        random = np.random.default_rng(len(cls.__name__))
        times = array("d", (cls.ms * random.uniform(1, 1.01, cls.runs) / 1e3).tolist())
        load = Load(times, array("d", np.cumsum(times).tolist()), wall_s=sum(times))
        if "stream" in measuring.__name__:
            load.queue = array("q", [1, 2, 3] * 10)
            stages = {"grab": 0.1, "decode": 0.7, "convert": 0.05, "inference": 0.05, "sink": 0.0}
            told = {"ages_s": times, "first_s": 0.1, "size": (64, 48), "ended": ""}
            told |= {"stages_ms": stages | {"rest": 0.1}}
        else:
            told = {}
        told |= {
            "energy": [],
            "load": load,
            "conditions": QUIET,
            "peak_memory_mb": 50.0,
            "rate": None,
        }
        if jobs[0].rate is not None:
            tried = [{"frames_per_s": 30.0, "ms": 2.0}, {"frames_per_s": 45.0, "ms": None}]
            told |= {"rate": 30.0, "tried": tried, "held": 30.0}
        return [told for _ in jobs]


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.setattr(Apart, "measure", lambda *of: Measured.measure(*of))
    monkeypatch.setattr(Measured, "ms", 1.0)
    monkeypatch.setattr(sys, "argv", ["adae-edge", "bench", "m.onnx"])
    path = tmp_path / "<b>m.onnx"
    path.write_bytes(mean_model(3))
    return path


def measured(model, **options):
    sizes = {} if "source" in options else {"sizes": ["64x48"], "batches": [1, 4]}
    return run_bench(BenchRequest(model, **(sizes | options)))


@pytest.fixture
def old(model, tmp_path):
    path = tmp_path / "old.json"
    measured(model, json_file=path)
    return path


def test_the_same_again_shows_no_difference_and_slower_is_told(model, old, monkeypatch, capsys):
    same = measured(model, compare=old).result["compared"]
    assert [row["says"] for row in same["ratios"]] == ["no difference that this run can show"] * 2
    assert same["machines_differ_in"] == []
    monkeypatch.setattr(Measured, "ms", 1.5)
    slower = measured(model, compare=old).result["compared"]["ratios"]
    assert slower[0]["p50"]["low"] < 1.5 < slower[0]["p50"]["high"] < 1.51
    assert re.fullmatch(r"1\.(50|49)\d times as long", slower[0]["says"])
    assert "p50 over that of old.json\n" in capsys.readouterr().out


def test_another_machine_is_told(model, old, capsys):
    result = json.loads(old.read_text())
    result["machine"]["cpu"] = "another one"
    old.write_text(json.dumps(result))
    assert measured(model, compare=old).result["compared"]["machines_differ_in"] == ["cpu"]
    assert "p50 over that of old.json, on another machine: cpu differ" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda result: result.pop("schema"), "is without a schema"),
        (lambda result: result.update(schema=7), "is of schema 7, and .* with those of 1"),
        (lambda result: result.pop("measurements"), "is no whole result"),
        (lambda result: result["measurements"][0].update(parts_p50_ms=[0, 1]), "no whole result"),
        (lambda result: result["measurements"][0].pop("parts_p50_ms"), "is no whole result"),
        (lambda result: result["model"].update(graph="0"), "is of another model: give --force"),
        (lambda result: result["measurements"][0].update(parts_p50_ms=[]), "is no whole result"),
        (lambda result: result["measurements"][0].update(parts_p50_ms=[1e400]), "no whole result"),
        (lambda result: result["measurements"][0].update(width=[64]), "is no whole result"),
        (lambda result: result.update(machine=[]), "is no whole result"),
        (lambda result: result["measurements"][0].update(streams=0), "is no whole result"),
        (lambda result: result["measurements"][0].update(verdicts=[1]), "is no whole result"),
        (
            lambda result: result["measurements"][0].update(parts_p50_ms=[1.0] * 10**6),
            "is no whole result",
        ),
        (lambda result: result["measurements"].pop(), "has no batch of 4 under the same load"),
        (lambda result: result["measurements"][0].update(streams=2), "has no batch of 1 under the"),
        (lambda result: result["measurements"][0].update(rate=30), "has no batch of 1 under the"),
        (
            lambda result: result["measurements"][1].update(width=8),
            "has no 64x48 in batches of 4: ",
        ),
        (lambda result: result.update(source="a.mp4"), "is of a.mp4: give --force"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_measured(
    model, old, monkeypatch, change, sentence
):
    result = json.loads(old.read_text())
    change(result)
    old.write_text(json.dumps(result))
    monkeypatch.setattr(Apart, "measure", lambda *of: pytest.fail("the measuring began"))
    with pytest.raises(UsageError, match=sentence):
        measured(model, compare=old)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"{", b"[" * 100_000])
def test_other_files_are_no_results(model, tmp_path, content):
    (tmp_path / "other.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"other\.json is no result of bench --json"):
        measured(model, compare=tmp_path / "other.json")
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(UsageError, match=r"pipe\.json cannot be read: it is no file"):
        measured(model, compare=tmp_path / "pipe.json")
    (tmp_path / "pipe.json").unlink()
    with pytest.raises(UsageError, match=r"nowhere\.json cannot be read"):
        measured(model, compare=tmp_path / "nowhere.json")


def test_all_threads_of_two_machines_are_compared_however_many_they_are(model, old):
    result = json.loads(old.read_text())
    result["machine"]["usable_cpus"] = 64
    for row in result["measurements"]:
        row["threads"] = 64
    old.write_text(json.dumps(result))
    found = measured(model, compare=old).result["compared"]
    assert found["machines_differ_in"] == ["usable_cpus"]
    assert [row["to"] for row in found["ratios"]] == ["64x48", "64x48 in batches of 4"]


def test_another_model_is_compared_by_frames_of_the_same_size(model, old, tmp_path, capsys):
    result = json.loads(old.read_text())
    result["model"]["graph"] = "another"
    slower = dict(result["measurements"][0], width=640, parts_p50_ms=[9.0] * 10)
    result["measurements"].append(slower)
    old.write_text(json.dumps(result))
    ratios = measured(model, compare=old, force=True).result["compared"]["ratios"]
    assert [row["to"] for row in ratios] == ["64x48", "64x48 in batches of 4"]
    assert ratios[0]["p50"]["ratio"] == pytest.approx(1)
    measured(model, compare=old, force=True, sizes=["8x8"], batches=[1])
    assert "| 8x8 to 64x48 |" in capsys.readouterr().out


def test_a_comparison_that_finds_nothing_fails_and_keeps_what_was_measured(model, tmp_path):
    old, source = tmp_path / "old.json", "synthetic://?frames=9"
    measured(model, source=source, json_file=old)
    result = json.loads(old.read_text())
    result["measurements"][0]["width"] = 8  # known of a source only when its frames come
    old.write_text(json.dumps(result))
    outcome = measured(model, source=source, compare=old)
    assert outcome.failed == ["old.json has nothing of what was measured now"]
    assert len(outcome.result["measurements"]) == 1


def test_another_load_is_refused_even_if_forced(model, old, monkeypatch):
    monkeypatch.setattr(Apart, "measure", lambda *of: pytest.fail("the measuring began"))
    with pytest.raises(UsageError, match="has no batch of 2 under the same load"):
        measured(model, compare=old, force=True, batches=[2])


def test_an_old_run_that_was_disturbed_or_too_short_is_told(model, old):
    result = json.loads(old.read_text())
    verdict = {"name": "disturbed", "because": "50%", "do": "wait"}
    result["measurements"][0]["verdicts"].append(verdict)
    result["measurements"][1]["parts_p50_ms"] = [0.5] * 3
    old.write_text(json.dumps(result))
    told = [row["says"] for row in measured(model, compare=old).result["compared"]["ratios"]]
    assert told[0] == "no difference that this run can show; the old run was disturbed"
    assert told[1] == "too few calls to tell"


def test_a_file_that_cannot_be_written_costs_no_other(model, tmp_path, monkeypatch, capsys):
    write = bench.write_atomically

    def full(path, data):
        if path.suffix == ".json":
            raise WriteError(f"cannot write {path}: No space left on device")
        write(path, data)

    monkeypatch.setattr(bench, "write_atomically", full)
    files = {"json_file": tmp_path / "b.json", "markdown_file": tmp_path / "b.md"}
    outcome = measured(model, **files)
    assert outcome.failed == [f"cannot write {tmp_path / 'b.json'}: No space left on device"]
    assert (tmp_path / "b.md").read_text() == capsys.readouterr().out


def test_other_sizes_are_compared_if_that_is_forced(model, old):
    found = measured(model, compare=old, force=True, sizes=["8x8"], batches=[4]).result
    assert [row["width"] for row in found["compared"]["ratios"]] == [8]
    with pytest.raises(UsageError, match="--force goes with --compare"):
        measured(model, force=True)


def test_conditions_fail_the_command_and_say_why(model):
    assert measured(model, fail_if=["p50_ms > 2", "frames_per_s < 100"]).failed == []
    failed = measured(model, fail_if=["p50_ms > 0.5", "p999_ms > 9", "peak_memory_mb >= 50"]).failed
    assert len(failed) == 6
    assert re.fullmatch(r"64x48: p50_ms > 0\.5, it is 1\.0\d+", failed[0])
    assert failed[1] == "64x48: p999_ms > 9 cannot be judged by so few calls"
    assert failed[5] == "64x48 in batches of 4: peak_memory_mb >= 50, it is 50"


@pytest.mark.parametrize("name", ["p98_ms", "queue_max", "held", "age_p50_ms", "__class__"])
def test_a_figure_that_this_run_does_not_have_is_refused_with_those_that_it_has(model, name):
    with pytest.raises(UsageError, match=r"there is no figure|something else"):
        measured(model, fail_if=[f"{name} > 3"])


def test_streams_and_rates_have_figures_of_their_own(model):
    stream = measured(model, source="synthetic://?frames=9", fail_if=["age_p50_ms > 0.5"])
    assert len(stream.failed) == 1
    (row,) = stream.result["measurements"]
    assert [verdict["name"] for verdict in row["verdicts"]] == ["decode-bound"]
    strict = measured(model, source="synthetic://?frames=9", strict=True)
    assert strict.failed == []  # it is no disturbance
    looked = measured(
        model, source="synthetic://?frames=9", rate="max:p99<20ms", fail_if=["held < 60"]
    )
    assert looked.failed == ["64x48: held < 60, it is 30"]


class Tags(HTMLParser):
    """The tags of a page, and the attributes by which it would load something."""

    def __init__(self):
        super().__init__()
        self.tags, self.loads = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.loads += [name for name, _ in attributes if name in ("src", "href", "xlink:href")]


def test_the_page_has_every_chart_and_loads_nothing(model, tmp_path):
    page = tmp_path / "b.html"
    measured(
        model, source="synthetic://?frames=9", rate="max:p99<20ms", html_file=page, compare=None
    )
    text = page.read_text()
    tags = Tags()
    tags.feed(text)
    assert tags.loads == []
    assert not {"script", "link", "img", "iframe", "object"} & set(tags.tags)
    assert "<b>m.onnx" not in text
    assert "&lt;b&gt;m.onnx" in text
    drawings = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    titles = [ElementTree.fromstring(each)[0].text for each in drawings]
    assert titles[0] == "share of the calls that took at most so long"
    assert len(titles) == len(set(titles)) == 6
    assert "decode 0.700 ms, 70%" in text


def test_the_page_shows_what_is_wrong_and_the_comparison(model, old):
    result = measured(model, compare=old).result
    assert "nothing disturbed these runs" in as_html(result)
    verdict = {"name": "disturbed", "because": "50% & more", "do": "wait"}
    result["measurements"][0]["verdicts"].append(verdict)
    page = as_html(result)
    assert '<p class="wrong"><b>disturbed</b> 64x48: 50% &amp; more; wait</p>' in page
    assert "nothing disturbed" not in page
    assert "<td>no difference that this run can show</td>" in page


def test_the_page_and_the_table_tell_alike_what_no_chart_shows(model):
    result = measured(model, source="synthetic://?frames=9", rate="30").result
    (row,) = result["measurements"]
    energy = {"meter": "RAPL <0>", "watts": 6.0, "idle_watts": 2.0, "joules_per_frame": 0.2}
    row["energy"] = [energy]
    result |= {"stopped": True, "ended_early": "a.mp4 ended after 9 frames", "build_s": 41.5}
    for text in (as_html(result), as_markdown(result)):
        told = unescape(text)
        assert (
            "30 frames/s due: 3 in the queue at most; age when the score is known: p50 1." in told
        )
        assert "200.000 mJ a frame beyond idling by RAPL <0>: 6 W, idle 2 W" in told
        assert "engine built in 41.5 s" in told
        assert "a signal stopped it" in told
        assert "a.mp4 ended after 9 frames" in told


def test_the_page_follows_the_readers_light_and_dark(model):
    page = as_html(measured(model).result)
    named = set(re.findall(r"(--[a-z]+):", page.split("@media")[0]))
    dark = page[page.index("prefers-color-scheme: dark") : page.index("body {")]
    assert set(re.findall(r"(--[a-z]+):", dark)) == named == set(re.findall(r"var\((.*?)\)", page))


def test_one_value_alone_can_be_drawn():
    for scale in (Scale(3, 3, 0, 100), Scale(3, 3, 0, 100, logarithmic=True), Scale(0, 1, 100, 0)):
        assert 0 <= scale(scale.low) <= 100
        assert len(scale.ticks()) < 12
    assert Scale(0.1, 30, 0, 100, logarithmic=True).ticks() == [0.1, 0.2, 0.5, 1, 2, 5, 10, 20]
    assert Scale(0, 50, 0, 100).ticks() == [0, 10, 20, 30, 40, 50]


def test_a_password_in_a_command_is_not_written_down(monkeypatch):
    urls = ["rtsp://me:s3cret@host/a/b", "synthetic://?frames=9", "/home/me/m.onnx"]
    monkeypatch.setattr(sys, "argv", ["adae-edge", "bench", *urls])
    assert record.command().endswith(" rtsp://***@host/a/b 'synthetic://?frames=9' m.onnx")
