"""Drift: what is told of it and when, what is not taken for it, and that it ends."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy.stats import chisquare, ks_2samp

from adae_edge.calibration import calibrate
from adae_edge.contract import Region
from adae_edge.formats import modelfile
from adae_edge.light import Light, light_of, with_light
from adae_edge.runtime import Scorer, Stream
from adae_edge.runtime.calibrate import recalibrate
from adae_edge.runtime.drift import LOOK, WINDOW, Drift, Reference
from adae_edge.runtime.frame import Scored
from tests.support.models import mean_model, run
from tests.support.streams import Counted, Kept, Steps, frame


def calibrated(normals):
    return calibrate(np.asarray(normals, np.float32))


def of_scores(normals):
    calibration = calibrated(normals)
    return Reference(calibration.quantiles, calibration.normals)


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


def lit(normals, greys, whites):
    known = calibrated(normals)
    return with_light(known, list(map(Light, greys, whites)))


def watch_light(drift, greys, whites):
    """The events of frames whose scores stay as they are."""
    scores = drawn(len(greys), 30)
    told = []
    for number, (score, *light) in enumerate(zip(scores, greys, whites, strict=True)):
        result, events = drift.watch(
            Scored(frame(number), score, 20.0, opened="camera:0", light=tuple(light))
        )
        told += events
    return told, result


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
    few, many = of_scores(drawn(60)), of_scores(drawn(5000))
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
    reference = of_scores(normals)
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


def test_light_drifts_where_scores_do_not():
    none = np.zeros(1000)
    drift = Drift(lit(drawn(1000), drawn(1000, 31, 100, 10), none))
    assert drift.wants_light
    told, result = watch_light(drift, drawn(5000, 32, 100, 10), np.zeros(5000))
    assert told == []
    assert result.light_drift < 0.1
    told, result = watch_light(drift, drawn(500, 33, 90, 10), np.zeros(500))
    (begun,) = told
    assert "camera:0 has drifted: the median of its last 480 grey levels is 9" in begun.detail
    assert result.light_drift > 0.1 > result.drift
    told, _ = watch_light(drift, drawn(1000, 34, 100, 10), np.zeros(1000))
    assert "camera:0 has no drift of its grey levels any more" in told[0].detail
    whites = np.abs(drawn(500, 35, 0.03, 0.02))  # a highlight appears
    told, _ = watch_light(drift, drawn(500, 36, 100, 10), whites)
    assert "480 shares of white pixels is 0.0" in told[0].detail


def test_what_is_white_now_and_then_is_compared_like_the_rest():
    random = np.random.default_rng(37)
    normals = random.permutation([*np.zeros(600), *random.uniform(0, 0.1, 400)])
    drift = Drift(lit(drawn(1000), drawn(1000, 38, 100, 10), normals))
    same = random.choice(normals, 20_000)
    assert watch_light(drift, drawn(20_000, 39, 100, 10), same)[0] == []
    told, _ = watch_light(drift, drawn(500, 40, 100, 10), random.uniform(0, 0.1, 500))
    assert len(told) == 1


def test_of_a_model_that_does_not_know_its_light_only_scores_are_watched():
    drift = Drift(calibrated(drawn(1000)))
    assert not drift.wants_light
    told, result = watch_light(drift, np.full(500, 255.0), np.ones(500))
    assert (told, result.light_drift) == ([], None)


def test_light_is_measured_of_what_the_model_looks_at():
    pixels = np.full((300, 400, 1), 50, np.uint8)
    pixels[:, 200:] = 255
    assert light_of(pixels, None) == pytest.approx((152.5, 0.5), rel=0.04)
    assert light_of(pixels, Region(0, 0, 200, 300)) == (50.0, 0.0)
    assert light_of(pixels[:1, :1], None) == (50.0, 0.0)
    colours = np.repeat(pixels, 3, axis=2)
    assert light_of(colours, None) == light_of(pixels, None)


def test_a_darker_lamp_is_told_of_a_model_that_was_calibrated_on_the_device(tmp_path):
    random = np.random.default_rng(41)
    pictures = random.normal(120, 6, (WINDOW, 1, 1)) + random.normal(0, 3, (WINDOW, 20, 20))
    for folder, factor in (("normal", 1.0), ("darker", 0.9)):
        (tmp_path / folder).mkdir()
        for number, pixels in enumerate((pictures * factor).astype(np.uint8)):
            Image.fromarray(pixels).save(tmp_path / folder / f"{number:03}.png")
    (tmp_path / "m.onnx").write_bytes(mean_model(1))
    recalibrate(tmp_path / "m.onnx", str(tmp_path / "normal"), 0.05)
    rows = tmp_path / "rows.jsonl"
    for folder, count in (("normal", 0), ("darker", 2)):  # of scores, which are means, and greys
        rows.unlink(missing_ok=True)
        run("score", "m.onnx", folder, "--drift", "--to", "rows.jsonl", cwd=tmp_path)
        assert rows.read_text().count('"event": "drift"') == count
    assert "grey levels" in rows.read_text()
