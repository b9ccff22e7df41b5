"""Drift: what is told of it and when, what is not taken for it, and that it ends."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy.stats import chisquare, ks_2samp

from adae_edge.calibration import calibrate
from adae_edge.formats import modelfile
from adae_edge.runtime import Scorer, Stream
from adae_edge.runtime.drift import LOOK, WINDOW, Drift, Reference
from adae_edge.runtime.frame import Scored
from tests.support.models import mean_model, run
from tests.support.streams import Counted, Kept, Steps, frame


def calibrated(normals):
    return calibrate(np.asarray(normals, np.float32))


def drawn(count, seed=0, mean=10.0, spread=2.0):
    return np.random.default_rng(seed).normal(mean, spread, count)


def watch(drift, scores, first=0, opened="camera:0"):
    """What is told of these scores: events by the frame's number, and the last PSI."""
    told, psi = {}, None
    for number, score in enumerate(scores, first):
        result, events = drift.watch(Scored(frame(number), float(score), 20.0, opened=opened))
        psi = result.drift
        for event in events:
            told[number] = event
    return told, psi


def test_a_drift_is_told_once_and_so_is_its_end():
    drift = Drift(calibrated(drawn(2000)))
    assert watch(drift, drawn(1000, 1)) == ({}, pytest.approx(0.02, abs=0.03))
    told, psi = watch(drift, drawn(1500, 2, mean=11.0), first=1000)
    (number, begun), *more = told.items()
    assert not more
    assert number <= 1500
    assert psi > 0.15
    assert (begun.kind, begun.over, begun.source, begun.opened) == (
        *("drift", False, "camera:0", "camera:0"),
    )
    assert begun.frames == WINDOW
    assert "camera:0 has drifted: the median of its last 480 scores is 10." in begun.detail
    assert "and was 9.9" in begun.detail
    told, psi = watch(drift, drawn(1500, 3), first=2500)
    ((number, over),) = told.items()
    assert number <= 2500 + WINDOW + LOOK
    assert over.over
    assert "camera:0 has no drift any more: it lasted" in over.detail
    assert psi < 0.1


@pytest.mark.parametrize("change", [{"mean": 9.0}, {"spread": 3.5}, {"spread": 1.0}, {"mean": 99}])
def test_every_change_of_the_distribution_is_a_drift(change):
    told, _ = watch(Drift(calibrated(drawn(1000))), drawn(500, 4, **change))
    assert len(told) == 1


def test_scores_of_the_same_distribution_are_none_even_if_many_looks_are_taken():
    told, _ = watch(Drift(calibrated(drawn(1000))), drawn(100_000, 5))
    assert told == {}


def test_some_anomalies_are_no_drift():
    scores = drawn(20_000, 6)
    anomalous = np.random.default_rng(7).random(len(scores)) < 0.05
    told, _ = watch(Drift(calibrated(drawn(1000))), np.where(anomalous, 40.0, scores))
    assert told == {}


def test_few_normals_say_less():
    few, many = Reference(calibrated(drawn(60))), Reference(calibrated(drawn(5000)))
    assert few.limits(0.0)[0] > 2 * many.limits(0.0)[0]
    assert few.limits(0.0)[1] > 5 * many.limits(0.0)[1]


def test_frames_that_are_alike_count_for_less():
    random = np.random.default_rng(8)
    steps = random.normal(0, 1, 20_000)
    alike = np.empty(len(steps))
    alike[0] = 0
    for place in range(1, len(steps)):  # of one distribution, each like the one before
        alike[place] = 0.95 * alike[place - 1] + np.sqrt(1 - 0.95**2) * steps[place]
    drift = Drift(calibrated(drawn(1000)))
    assert watch(drift, 10 + 2 * alike)[0] == {}
    assert len(watch(Drift(calibrated(drawn(1000))), 30 + 2 * alike[:1000])[0]) == 1
    assert watch(Drift(calibrated(drawn(1000))), np.full(2000, 30.0))[0] == {}  # one frame


def test_the_statistics_are_those_of_scipy():
    normals, scores = drawn(4000), drawn(WINDOW, 9, mean=10.7)
    reference = Reference(calibrated(normals))
    places = np.searchsorted(reference.edges, scores, "left")
    ks, psi = reference.distances(np.bincount(places, minlength=len(reference.edges) + 1).tolist())
    assert ks == pytest.approx(ks_2samp(normals, scores).statistic, abs=0.012)
    tenths = np.quantile(normals, np.arange(1, 10) / 10)
    counts = np.bincount(np.searchsorted(tenths, scores), minlength=10)
    assert psi == pytest.approx(chisquare(counts).statistic / WINDOW, rel=0.35)


def test_normals_with_equal_scores_have_their_distribution():
    grades = np.random.default_rng(10).choice([1.0, 2.0, 5.0], 3000, p=[0.5, 0.3, 0.2])
    again = np.random.default_rng(11).permutation(grades)
    told, psi = watch(Drift(calibrated(grades)), again)
    assert (told, psi < 0.05) == ({}, True)
    other = np.random.default_rng(12).choice([1.0, 2.0, 5.0], 500, p=[0.2, 0.3, 0.5])
    assert len(watch(Drift(calibrated(grades)), other)[0]) == 1
    assert watch(Drift(calibrated(np.full(200, 3.0))), np.full(1000, 3.0))[0] == {}


def test_sources_drift_by_themselves():
    drift = Drift(calibrated(drawn(1000)))
    assert watch(drift, drawn(300, 1), opened="a")[1] is None
    assert len(watch(drift, drawn(600, 2, mean=14), opened="b")[0]) == 1
    told, psi = watch(drift, drawn(300, 3), opened="a")
    assert (told, psi < 0.1) == ({}, True)


def test_another_calibration_begins_anew():
    drift = Drift(calibrated(drawn(1000)))
    watch(drift, drawn(600, 2, mean=14))
    (over,) = drift.recalibrate(calibrated(drawn(1000, 3, mean=14)))
    assert (over.kind, over.over, over.source) == ("drift", True, "camera:0")
    assert watch(drift, drawn(2000, 4, mean=14))[0] == {}
    assert drift.recalibrate(calibrated(drawn(1000))) == []


def darkening(tmp_path, values):
    """A model of grey frames whose score is their value, calibrated on noise around 60."""
    file = modelfile.check(mean_model(1))
    calibration = calibrated(np.clip(drawn(1000, 1, 60, 9).round(), 0, 255))
    contract = replace(file.contract, calibration=calibration)
    (tmp_path / "m.onnx").write_bytes(modelfile.with_contract(file.data, contract))
    return np.clip(values.round(), 0, 255).astype(int).tolist()


def test_a_stream_tells_drift_and_a_model_that_is_loaded_again_ends_it(tmp_path):
    values = darkening(tmp_path, drawn(520, 2, 50, 9))
    camera = Steps(*(frame(number, value) for number, value in enumerate(values)), live=True)

    class Watching(Counted):
        def write(self, result):
            super().write(result)
            if len(self.results) != 500:
                camera.go_on()

        def event(self, event):
            super().event(event)
            if event.kind == "model":
                camera.go_on()

    with Scorer(tmp_path / "m.onnx", threads=1) as scorer:
        watchers = [Drift(scorer.contract.calibration)]
        stream = Stream(scorer, camera, watchers=watchers)
        stream.add(sink := Watching({500: stream.reload}))
        camera.go_on()
        metrics = stream.run()
    assert [(event.kind, event.over) for event in sink.events] == [
        ("drift", False),
        ("model", False),
        ("drift", True),
    ]
    drifts = [result.drift for result in sink.results]
    assert drifts[WINDOW - 2] is None
    assert drifts[WINDOW - 1] > 0.2
    assert drifts[-1] is None
    assert metrics.drift == {}  # what the other calibration said does not stay


def test_the_command_tells_drift_of_a_folder(tmp_path):
    values = darkening(tmp_path, drawn(WINDOW, 2, 48, 9))
    (tmp_path / "frames").mkdir()
    for number, value in enumerate(values):
        Image.new("L", (8, 6), value).save(tmp_path / "frames" / f"{number:03}.png")
    done = run("score", "m.onnx", "frames", "--drift", "--to", "s.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (told,) = [line for line in done.stderr.splitlines() if "drift" in line]
    assert told.startswith("adae-edge: frames has drifted: the median of its last 480 scores is 4")
    done = run("score", "m.onnx", "frames", "--to", "t.jsonl", cwd=tmp_path)
    assert "drift" not in done.stderr


def test_kept_results_have_no_drift_where_nobody_watches(tmp_path):
    values = darkening(tmp_path, drawn(10, 2, 48, 9))
    camera = [frame(number, value) for number, value in enumerate(values)]
    with Scorer(tmp_path / "m.onnx", threads=1) as scorer:
        Stream(scorer, iter(camera), [kept := Kept()]).run()
    assert {(result.drift, result.alarm) for result in kept.results} == {(None, None)}
