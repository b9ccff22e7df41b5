"""No verdict where the calibration does not hold: in rows, alarms, metrics, pictures and tables."""

import csv
import json
import sqlite3
import urllib.request
from dataclasses import replace

import jinja2
import numpy as np
import pytest
from rich.console import Console

from adae_edge.acquisition import Acquisition
from adae_edge.calibration import calibrate
from adae_edge.errors import FrameError, UsageError
from adae_edge.formats import modelfile
from adae_edge.formats.inspection import describe
from adae_edge.runtime import Frame, Scored, Scorer, Stream, open_sink
from adae_edge.runtime import calibrate as calibrating
from adae_edge.runtime.alarm import Alarm
from adae_edge.runtime.drawing import COLORS, annotated
from adae_edge.runtime.drift import WINDOW, Drift
from adae_edge.runtime.sinks.mqtt import _entities
from adae_edge.runtime.sinks.table import LiveTable
from tests.support.models import slice_model
from tests.support.streams import Kept, Listed

HERE = Acquisition("SIEMENS", "Skyra", 3.0, "GR SP 3D", 2300.0, 2.98, 900.0, 9.0, (1.0, 0.9, 0.9))
THERE = replace(HERE, manufacturer="Philips", model="Ingenia", field_strength=1.5)
SILENT = replace(HERE, field_strength=None, sequence=None)


def a_slice(number, value, acquisition=HERE, source="a/1.2"):
    pixels = np.full((6, 8, 1), value, np.float32)
    return Frame(source, number, 1.7e9, pixels, 0.0, 1.0, acquisition=acquisition)


@pytest.fixture(scope="module")
def scorer():
    """A model that was calibrated in one place, and scores a slice by its mean: 100 and more."""
    with Scorer(modelfile.check(slice_model([HERE]))) as opened:
        yield opened


def run(scorer, frames, *sinks, **more):
    stream = Stream(scorer, Listed(*frames), sinks, **more)
    stream.run()
    return stream


def test_only_what_the_calibration_covers_and_what_is_not_told_has_a_verdict(scorer):
    kept = Kept()
    frames = [
        *(a_slice(number, 99.0 + 2 * number) for number in (0, 1)),
        *(a_slice(number, 99.0 + 2 * number, THERE, "b/1.2") for number in (0, 1)),
        *(a_slice(number, 99.0 + 2 * number, SILENT, "c/1.2") for number in (0, 1)),
        *(a_slice(number, 99.0 + 2 * number, None, "d.nii") for number in (0, 1)),
    ]
    stream = run(scorer, frames, kept)
    assert [scored.verdict for scored in kept.results] == [
        *("normal", "anomalous"),
        *("uncalibrated",) * 4,
        *("normal", "anomalous"),
    ]
    assert [scored.score for scored in kept.results] == [99.0, 101.0] * 4
    assert [scored.wants for scored in kept.results] == ["", "", *["calibrate"] * 4, "", ""]
    metrics = stream.metrics
    assert (metrics.anomalous, metrics.uncalibrated, metrics.origin_unknown) == (2, 4, 2)
    assert "8 frames scored, 2 anomalous (above 100.0000), 4 uncalibrated; " in stream.summary
    assert "; nothing is known of the scanner that 2 of them come from" in stream.summary
    assert [(event.kind, event.detail) for event in kept.events] == [
        (
            "note",
            "b/1.2 comes from where this model was not calibrated (Philips Ingenia, 1.5 T, "
            "GR SP 3D, TR 2300 ms, TE 2.98 ms, TI 900 ms, flip angle 9 degrees, 1 x 0.9 x 0.9 mm),"
            " which differs in manufacturer, model and field strength: its slices get scores and "
            "no verdict until adae-edge calibrate with series from there",
        ),
        (
            "note",
            "c/1.2 does not say its field strength and sequence, so no calibration holds for it: "
            "its slices get scores and no verdict",
        ),
    ]


def test_a_model_that_no_series_calibrated_gives_series_no_verdict_and_volumes_one():
    with Scorer(modelfile.check(slice_model())) as scorer:
        kept = Kept()
        series = run(scorer, [a_slice(0, 101.0), a_slice(1, 101.0)], kept)
        volumes = run(scorer, [a_slice(0, 101.0, None)], kept)
    assert [scored.verdict for scored in kept.results] == ["uncalibrated"] * 2 + ["anomalous"]
    assert series.summary.startswith("2 frames scored, 2 uncalibrated; ")
    assert volumes.summary.startswith("1 frames scored, 1 anomalous (above 100.0000); ")
    assert volumes.summary.endswith("; nothing is known of the scanner that they come from")
    (event,) = kept.events
    assert "which differs" not in event.detail


def test_inspect_tells_where_a_model_was_calibrated():
    told = describe(modelfile.check(slice_model([HERE, THERE]))).splitlines()
    assert f"calibrated {HERE}; {THERE}" in told
    told = describe(modelfile.check(slice_model())).splitlines()
    assert any(line.startswith("calibrated by volumes, which do not tell") for line in told)


def test_a_threshold_for_one_run_makes_no_verdict(scorer):
    kept = Kept()
    run(scorer, [a_slice(0, 99.0, THERE)], kept, threshold=50.0)
    assert kept.results[0].verdict == "uncalibrated"


def test_rows_say_uncalibrated(scorer, tmp_path):
    names = "rows.jsonl", "rows.csv", "rows.db"
    opened = [open_sink(str(tmp_path / name)) for name in names]
    run(scorer, [a_slice(0, 150.0), a_slice(1, 150.0, THERE, "b/1.2")], *opened)
    for sink in opened:
        sink.close()
    rows = [json.loads(line) for line in (tmp_path / names[0]).read_text().splitlines()]
    frames = [row for row in rows if "event" not in row]
    assert [row["verdict"] for row in frames] == ["anomalous", "uncalibrated"]
    assert [row["wants"] for row in frames] == [None, "calibrate"]
    assert [row["boxes"] is None for row in frames] == [False, True]
    with (tmp_path / names[1]).open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if not row["event"]]
    assert [row["verdict"] for row in rows] == ["anomalous", "uncalibrated"]
    with sqlite3.connect(tmp_path / names[2]) as database:
        rows = database.execute("SELECT verdict, boxes IS NULL FROM frames").fetchall()
    assert rows == [("anomalous", 0), ("uncalibrated", 1)]


def test_no_alarm_and_no_drift_comes_of_them(scorer):
    there = [a_slice(number, 150.0, THERE) for number in range(WINDOW + 40)]
    kept = Kept()
    drift = Drift(calibrate(np.linspace(1, 100, 300, dtype=np.float32)))
    stream = run(scorer, there, kept, watchers=[Alarm("1/3"), drift])
    assert {event.kind for event in kept.events} == {"note"}
    assert {(scored.alarm, scored.drift) for scored in kept.results} == {(False, None)}
    assert stream.metrics.uncalibrated == len(there)


def test_an_alarm_stays_as_it_is_while_they_pass(scorer):
    bad, other = a_slice(0, 150.0), a_slice(0, 50.0, THERE)
    kept = Kept()
    run(scorer, [bad, bad, *[other] * 9], kept, watchers=[Alarm("2/3")])
    assert [scored.alarm for scored in kept.results] == [False, *[True] * 10]
    assert [event.kind for event in kept.events] == ["alarm", "note"]


def test_metrics_count_them_apart(scorer):
    with open_sink("prometheus:127.0.0.1:0") as sink:
        frames = [a_slice(0, 150.0), *(a_slice(number, 150.0, THERE) for number in (1, 2))]
        run(scorer, frames, sink)
        with urllib.request.urlopen(f"http://127.0.0.1:{sink.port}/metrics", timeout=30) as answer:
            text = answer.read().decode()
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    assert values['adae_edge_frames_total{source="a/1.2"}'] == "3.0"
    assert values['adae_edge_anomalous_frames_total{source="a/1.2"}'] == "1.0"
    assert values['adae_edge_uncalibrated_frames_total{source="a/1.2"}'] == "2.0"
    assert values['adae_edge_score_threshold_ratio_count{source="a/1.2"}'] == "1.0"


@pytest.mark.parametrize(
    ("verdict", "state"), [("anomalous", "ON"), ("normal", "OFF"), ("uncalibrated", "None")]
)
def test_home_assistant_shows_neither_state(verdict, state):
    (template,) = (
        entity["value_template"]
        for topic, entity in _entities("belt").items()
        if "binary_sensor" in topic
    )
    row = {"value_json": {"verdict": verdict}}
    assert jinja2.Environment(autoescape=True).from_string(template).render(row) == state


def test_no_picture_is_saved_and_a_video_is_grey_without_boxes(scorer, tmp_path):
    frames = [a_slice(0, 150.0, THERE)]
    kept = Kept("pixels", "map", "boxes")
    with open_sink(f"pictures:{tmp_path}/odd") as sink:
        run(scorer, frames, sink, kept)
    assert not list((tmp_path / "odd").rglob("*.jpg"))
    (scored,) = kept.results
    assert (scored.boxes, scored.map_threshold) == (None, None)
    assert scored.anomaly_map.shape == (6, 8)
    assert tuple(annotated(scored)[0, 0]) == COLORS["uncalibrated"]


def test_the_terminal_and_its_table_show_them(scorer, capsys):
    frames = [a_slice(0, 150.0), a_slice(1, 150.0, THERE)]
    with open_sink("terminal") as sink:
        run(scorer, frames, sink)
    assert " 150.0000  uncalibrated  a/1.2 1" in capsys.readouterr().out

    console = Console(width=120, record=True, force_terminal=True)
    table = LiveTable(console)
    table.take(Scored(frames[0], 150.0, 100.0), "", shown=False)
    console.print(table._shown(0.0))
    assert "uncalibrated" not in console.export_text()
    table.take(Scored(frames[1], 150.0, 100.0, calibrated=False), "", shown=False)
    console.print(table._shown(0.0))
    heading, row = console.export_text().splitlines()[:2]
    assert heading.split()[:4] == ["source", "frames", "anomalous", "uncalibrated"]
    assert row.split()[1:4] == ["2", "1", "1"]


def recalibrated(path, monkeypatch, *sources):
    """What becomes of a model by these sources of slices, as ``calibrate`` has them."""
    opened = iter(sources)
    monkeypatch.setattr(calibrating, "open_normals", lambda *_: Listed(*next(opened)))
    return calibrating.recalibrate(
        path, [f"source{place}" for place in range(len(sources))], fpr=0.1
    )


def people(count, acquisition, source):
    """Ten slices each of so many people."""
    return [
        replace(
            a_slice(number, 50.0 + number, acquisition, f"{source}/{person}"),
            about={"person": f"{source} {person}"},
        )
        for person in range(count)
        for number in range(10)
    ]


def test_a_calibration_keeps_how_its_series_were_acquired_and_counts_people(tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    path.write_bytes(slice_model([THERE]))
    near = replace(HERE, repetition_time=2310.0)
    first, again = people(3, HERE, "a"), people(2, near, "b")
    done = recalibrated(path, monkeypatch, first, again, first)
    assert (done.people, done.contract.calibration.normals) == (5, 80)
    assert done.contract.acquisitions == (HERE,)
    with Scorer(path) as scorer:
        kept = Kept()
        run(scorer, [a_slice(0, 40.0), a_slice(0, 40.0, THERE)], kept)
    assert [scored.verdict for scored in kept.results] == ["normal", "uncalibrated"]

    volumes = [a_slice(number, 50.0, None, f"{number % 4}.nii") for number in range(40)]
    done = recalibrated(path, monkeypatch, volumes)
    assert (done.people, done.contract.acquisitions) == (4, ())


def test_series_that_tell_no_person_count_as_one(tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    path.write_bytes(slice_model())
    nameless = [a_slice(number, 50.0, source=f"a/{number}") for number in range(40)]
    assert recalibrated(path, monkeypatch, nameless).people == 1


def test_a_series_that_does_not_say_its_scanner_calibrates_nothing(tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    path.write_bytes(slice_model([HERE]))
    before = path.read_bytes()
    with pytest.raises(FrameError) as refused:
        recalibrated(path, monkeypatch, people(4, SILENT, "a"))
    assert str(refused.value) == (
        "a/0 does not say its field strength and sequence, so no other series can be told to come "
        "from there: the model would stay uncalibrated for it"
    )
    assert path.read_bytes() == before


def test_series_of_more_scanners_than_a_contract_keeps_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    path.write_bytes(slice_model([HERE]))
    many = [a_slice(0, 50.0, replace(HERE, model=f"M{number}")) for number in range(21)]
    with pytest.raises(UsageError, match="acquired in 21 ways, by scanner"):
        recalibrated(path, monkeypatch, many * 2)
    done = recalibrated(path, monkeypatch, many[1:] * 2)
    assert len(done.contract.acquisitions) == 20
    with Scorer(path) as scorer:
        assert scorer.contract == done.contract
