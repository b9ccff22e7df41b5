"""The threshold: it keeps the promised rate of false positives, or says why it cannot."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adae_edge.calibration import calibrate, lowest_fpr
from adae_edge.contract import QUANTILES, Contract
from adae_edge.errors import UsageError

DRAWS = {
    "normal": lambda random, shape: np.abs(random.normal(10, 3, shape)),
    "exponential": lambda random, shape: random.exponential(5, shape),
    "heavy tail": lambda random, shape: random.pareto(1.1, shape) + 1,
    "uniform": lambda random, shape: random.uniform(1, 2, shape),
    "two kinds of normals": lambda random, shape: random.normal(np.where(random.random(shape) < 0.95, 5, 50), 1) + 10,
    "ties": lambda random, shape: random.poisson(5, shape),
}


def scores(count, seed=0):
    return np.random.default_rng(seed).uniform(1, 2, count).astype(np.float32)


@pytest.mark.parametrize(("normals", "fpr"), [(19, 0.05), (99, 0.01), (150, 0.01), (300, 0.05), (40, 0.2)])
@pytest.mark.parametrize("distribution", DRAWS)
def test_promised_rate_holds_on_fresh_draws(distribution, normals, fpr):
    random = np.random.default_rng(0)
    rates = []
    for _ in range(400):
        known = DRAWS[distribution](random, normals).astype(np.float32)
        fresh = DRAWS[distribution](random, 500).astype(np.float32)
        rates.append((fresh > calibrate(known, fpr).threshold).mean())
    promised = math.floor(fpr * (normals + 1) + 1e-9) / (normals + 1)
    margin = 4 * np.std(rates) / math.sqrt(len(rates))
    assert margin < 0.25 * fpr
    assert np.mean(rates) <= promised + margin
    if distribution != "ties":
        assert np.mean(rates) >= 0.97 * promised - margin


@pytest.mark.parametrize(("normals", "fpr", "above"), [(99, 0.01, 0), (199, 0.01, 1), (300, 0.05, 14), (9, 0.95, 8)])
def test_threshold_lies_just_above_one_score(normals, fpr, above):
    known = scores(normals)
    threshold = calibrate(known, fpr).threshold
    assert (known > threshold).sum() == above
    rests_on = np.sort(known)[-1 - above]
    assert rests_on <= threshold <= rests_on * 1.001


def test_calibration_does_not_depend_on_the_order_and_leaves_the_scores_alone():
    known = scores(120)
    before = known.copy()
    assert calibrate(known[::-1].copy()) == calibrate(known)
    np.testing.assert_array_equal(known, before)


@pytest.mark.parametrize(("normals", "fpr"), [(98, 0.01), (1, 0.4), (10, 0.05), (998, 0.001)])
def test_too_few_normals_are_refused_with_the_number_that_would_do(normals, fpr):
    with pytest.raises(UsageError) as refused:
        calibrate(scores(normals), fpr)
    sentence = str(refused.value)
    assert sentence.startswith(f"{normals} calibration normals can promise a false-positive rate of ")
    assert f"not {fpr:g}: give {math.ceil(1 / fpr) - 1} or more, or a higher rate" in sentence


@settings(max_examples=100, deadline=None, database=None)
@given(st.integers(3, 3000))
def test_the_number_that_would_do_does(needed):
    """49 among others, whose 1 / (1 / 49) is not 49 in floating point."""
    with pytest.raises(UsageError) as refused:
        calibrate(scores(1), 1 / needed)
    enough = int(str(refused.value).split("give ")[1].split()[0])
    assert enough == needed - 1
    assert calibrate(scores(enough), 1 / needed).normals == enough
    with pytest.raises(UsageError, match=f"give {enough} or more"):
        calibrate(scores(enough - 1), 1 / needed)


@pytest.mark.parametrize(("normals", "expected"), [(1, 1 / 2), (9, 1 / 10), (98, 1 / 99), (99, 0.01), (5000, 0.01)])
def test_default_rate_is_one_percent_or_the_lowest_possible(normals, expected):
    chosen = calibrate(scores(normals))
    assert chosen.target_fpr == pytest.approx(expected)
    assert chosen.normals == normals
    assert chosen == calibrate(scores(normals), chosen.target_fpr)
    assert lowest_fpr(normals) <= chosen.target_fpr


@pytest.mark.parametrize("fpr", [0.0, 1.0, -0.01, 1.5, math.nan, math.inf])
def test_a_rate_that_is_none_is_refused(fpr):
    with pytest.raises(UsageError, match=r"^a false-positive rate lies between 0 and 1, and .* does not$"):
        calibrate(scores(100), fpr)


@pytest.mark.parametrize("fpr", [5e-324, 1e-320, 1e-200])
def test_a_rate_that_nobody_can_promise_is_refused(fpr):
    with pytest.raises(UsageError, match="at the lowest"):
        calibrate(scores(100), fpr)


@pytest.mark.parametrize("normals", [1, 10, 999])
def test_a_rate_next_to_one_takes_the_lowest_score(normals):
    known = scores(normals)
    assert calibrate(known, math.nextafter(1, 0)).threshold == pytest.approx(known.min(), rel=1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_score_that_is_not_finite_is_refused(value):
    known = scores(200)
    known[17] = value
    with pytest.raises(UsageError, match="every one must be a finite number"):
        calibrate(known)


@pytest.mark.parametrize("fpr", [None, 0.5])
def test_no_scores_are_refused(fpr):
    with pytest.raises(UsageError, match="needs scores of normals"):
        calibrate(np.empty(0, np.float32), fpr)


@pytest.mark.parametrize("value", [0.0, 1.0, 123.456, 1e-30])
def test_equal_scores_are_all_normal(value):
    known = np.full(150, value, np.float32)
    chosen = calibrate(known)
    assert not (known > chosen.threshold).any()
    assert chosen.threshold <= np.float32(value) * 1.001
    assert set(chosen.quantiles) == {float(np.float32(value))}


def test_ties_at_the_threshold_are_normal():
    """The rank asks for 10 scores above; 40 are equal there, so none is."""
    known = np.array([1.0] * 159 + [2.0] * 40, np.float32)
    assert (known > calibrate(known, 0.05).threshold).sum() == 0


def test_quantiles_are_the_scores_at_each_percent():
    chosen = calibrate(np.arange(101, dtype=np.float32)[::-1])
    assert chosen.quantiles == pytest.approx(range(101))


@settings(max_examples=100, deadline=None, database=None)
@given(st.lists(st.floats(0, 2.0**96, width=32), min_size=1, max_size=300))
def test_every_calibration_fits_in_a_contract(contract, known):
    chosen = calibrate(np.array(known, np.float32))
    assert len(chosen.quantiles) == QUANTILES
    written = dataclasses.replace(contract, calibration=chosen)
    assert Contract.from_json(written.to_json()) == written
