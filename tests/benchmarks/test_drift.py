"""The benchmark of drift, on scores that are made up."""

import numpy as np
import pytest

from adae_edge.benchmarks import drift
from adae_edge.calibration import calibrate
from adae_edge.light import Light, with_light


@pytest.fixture
def pool():
    """Normals whose scores move by two deviations when they darken, and not when they brighten."""
    random = np.random.default_rng(0)
    scores = {
        "as they are": random.normal(10, 2, 3000),
        "anomalous": random.normal(25, 2, 50),
        "0.9": random.normal(14, 2, 3000),
        "1.1": random.normal(10, 2, 3000),
    }
    lights = {
        what: np.column_stack(
            [random.normal(mean, 5, len(scores[what])), [0.0] * len(scores[what])]
        )
        for what, mean in (("as they are", 100), ("anomalous", 100), ("0.9", 90), ("1.1", 110))
    }
    calibration = with_light(
        calibrate(random.normal(10, 2, 2000).astype(np.float32)),
        [Light(grey, 0.0) for grey in random.normal(100, 5, 2000)],
    )
    higher = calibrate(random.normal(12, 2, 2000).astype(np.float32))
    return drift.Pool("made up", calibration, higher, scores, lights)


def test_what_moves_the_scores_is_told_and_what_does_not_is_not(pool, monkeypatch):
    monkeypatch.setattr(drift, "LONG", 5000)
    measured = drift.measure(pool, streams=2, trials=4)
    assert measured["false"] == dict.fromkeys(drift.WATCHERS, 0)
    assert measured["told"]["0.9"] == dict.fromkeys(drift.WATCHERS, 4)
    assert measured["told"]["1.1"] == {
        "drift": 4,
        "scores alone": 0,
        "mean score": 0,
        "mean grey level": 4,
    }
    assert measured["frames"]["0.9"]["drift"] < 250
    assert measured["frames"]["1.1"]["scores alone"] is None
    assert measured["distance"] < 0.06
    assert measured["distance_as_trained"] > 0.3
    page = drift.as_markdown({"command": "c", "streams": 2, "trials": 4, "sets": {"s": measured}})
    assert "| s | 2000 | 3000 |" in page
