"""The threshold: it keeps the promised rate of false positives, or says why it cannot."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom

from adae_edge.calibration import calibrate, lowest_fpr, normals_needed, threshold_rank
from adae_edge.contract import QUANTILES, Contract
from adae_edge.errors import UsageError

DRAWS = {
    "normal": lambda random, shape: np.abs(random.normal(10, 3, shape)),
    "exponential": lambda random, shape: random.exponential(5, shape),
    "heavy tail": lambda random, shape: random.pareto(1.1, shape) + 1,
    "uniform": lambda random, shape: random.uniform(1, 2, shape),
    "two kinds of normals": lambda random, shape: (
        random.normal(np.where(random.random(shape) < 0.95, 5, 50), 1) + 10
    ),
    "ties": lambda random, shape: random.poisson(5, shape),
}


def scores(count, seed=0):
    return np.random.default_rng(seed).uniform(1, 2, count).astype(np.float32)


def with_confidence(draw, fpr):
    return calibrate(draw, fpr).threshold


def on_average(draw, fpr):
    """What schema 1 promised: split conformal prediction, which bounds the mean over draws."""
    return np.sort(draw)[-math.floor(fpr * (len(draw) + 1) + 1e-9)]


@pytest.mark.parametrize(
    ("normals", "fpr"), [(59, 0.05), (299, 0.01), (150, 0.05), (1000, 0.05), (40, 0.2)]
)
@pytest.mark.parametrize("distribution", DRAWS)
def test_the_rate_is_kept_in_the_promised_part_of_all_draws(distribution, normals, fpr):
    random = np.random.default_rng(0)
    population = np.sort(DRAWS[distribution](random, 10**6).astype(np.float32))
    known = random.choice(population, (1500, normals))

    def kept(choose):
        thresholds = [choose(draw, fpr) for draw in known]
        return np.mean(
            len(population) - np.searchsorted(population, thresholds, side="right") <= fpr * 10**6
        )

    margin = 4 * math.sqrt(0.95 * 0.05 / len(known))
    assert kept(with_confidence) >= 0.95 - margin
    if distribution != "ties":  # without them the bound is as sharp as a whole rank can be
        rank = threshold_rank(normals, fpr, 0.95)
        assert kept(with_confidence) == pytest.approx(binom.sf(rank - 1, normals, fpr), abs=margin)
        assert kept(on_average) < 0.95 - 2 * margin


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99, 0.999999])
def test_rank_is_the_largest_that_scipy_allows(confidence):
    random = np.random.default_rng(0)
    for count, fpr in zip(
        (10 ** random.uniform(0, 4, 300)).astype(int),
        10 ** random.uniform(-4, -0.01, 300),
        strict=True,
    ):
        below = binom.cdf(np.arange(count), count, fpr)
        assert threshold_rank(int(count), fpr, confidence) == (below <= 1 - confidence).sum()


@pytest.mark.parametrize("fpr", [1e-5, 0.001, 0.01, 0.5, 0.99])
def test_rank_among_a_million(fpr):
    rank = threshold_rank(10**6, fpr, 0.95)
    assert binom.sf(rank - 1, 10**6, fpr) >= 0.95 > binom.sf(rank, 10**6, fpr)
    assert beta.cdf(fpr, rank, 10**6 - rank + 1) >= 0.95 > beta.cdf(fpr, rank + 1, 10**6 - rank)


@pytest.mark.parametrize(
    ("normals", "fpr", "above"), [(299, 0.01, 0), (1000, 0.01, 4), (300, 0.05, 8), (4, 0.95, 2)]
)
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


@pytest.mark.parametrize(
    ("normals", "fpr", "lowest", "needed"),
    [
        (298, 0.01, 0.0101, 299),
        (292, 0.01, 0.0103, 299),
        (10, 0.05, 0.259, 59),
        (998, 0.001, 0.003, 2995),
    ],
)
def test_too_few_normals_are_refused_with_the_number_that_would_do(normals, fpr, lowest, needed):
    with pytest.raises(UsageError) as refused:
        calibrate(scores(normals), fpr)
    assert str(refused.value) == (
        f"{normals} calibration normals can promise a false-positive rate of {lowest:.3g} at the "
        "lowest "
        f"with 95 % confidence, not {fpr:g}: give {needed} or more, or a higher rate"
    )
    assert calibrate(scores(needed), fpr).normals == needed
    told = calibrate(scores(normals), lowest)  # the rate that is told is one that can be had
    assert f"at most {lowest:g} " in told.promise


@settings(max_examples=100, deadline=None, database=None)
@given(st.floats(1e-3, 0.9), st.floats(0.01, 0.9999))
def test_the_number_that_would_do_does_and_one_less_does_not(fpr, confidence):
    needed = int(normals_needed(fpr, confidence))
    assert calibrate(scores(needed), fpr, confidence).normals == needed
    if needed > 1:
        with pytest.raises(UsageError, match=f"give {needed} or more"):
            calibrate(scores(needed - 1), fpr, confidence)


@settings(max_examples=100, deadline=None, database=None)
@given(st.integers(1, 10**6), st.floats(0.01, 0.9999))
def test_the_lowest_rate_can_be_promised_and_nothing_below_it(normals, confidence):
    lowest = lowest_fpr(normals, confidence)
    assert threshold_rank(normals, lowest, confidence) >= 1
    assert threshold_rank(normals, lowest * (1 - 1e-6), confidence) == 0


@pytest.mark.parametrize(
    ("normals", "expected"), [(1, 0.95), (9, 0.28313), (298, 0.010003), (299, 0.01), (5000, 0.01)]
)
def test_default_rate_is_one_percent_or_the_lowest_possible(normals, expected):
    chosen = calibrate(scores(normals))
    assert chosen.target_fpr == pytest.approx(expected, rel=1e-4)
    assert (chosen.normals, chosen.confidence) == (normals, 0.95)
    assert chosen == calibrate(scores(normals), chosen.target_fpr)


def test_more_confidence_takes_a_higher_threshold_or_more_normals():
    thresholds = [
        calibrate(scores(1000), 0.05, confidence).threshold
        for confidence in (0.5, 0.9, 0.95, 0.999)
    ]
    assert thresholds == sorted(set(thresholds))
    with pytest.raises(UsageError, match=r"with 99\.9 % confidence, not 0\.01: give 688 or more"):
        calibrate(scores(600), 0.01, 0.999)
    assert (
        calibrate(scores(600), 0.01, 0.99).promise
        == "false-positive rate at most 0.01 with 99 % confidence"
    )


@pytest.mark.parametrize("confidence", [0.0, 1.0, -0.5, 95, math.nan, math.inf])
def test_a_confidence_that_is_none_is_refused(confidence):
    with pytest.raises(UsageError, match=r"^a confidence lies between 0 and 1, and .* does not$"):
        calibrate(scores(1000), 0.01, confidence)


@pytest.mark.parametrize("confidence", [5e-324, math.nextafter(1, 0)])
def test_a_confidence_next_to_the_ends_gives_a_threshold(confidence):
    known = scores(5000)
    assert known.min() <= calibrate(known, 0.05, confidence).threshold <= known.max() * 1.001
    assert 0 < calibrate(known[:1], None, confidence).target_fpr < 1


@pytest.mark.parametrize("fpr", [0.0, 1.0, -0.01, 1.5, math.nan, math.inf])
def test_a_rate_that_is_none_is_refused(fpr):
    with pytest.raises(
        UsageError, match=r"^a false-positive rate lies between 0 and 1, and .* does not$"
    ):
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
    """The rank allows 4 scores above; 40 are equal there, so none is."""
    known = np.array([1.0] * 159 + [2.0] * 40, np.float32)
    assert threshold_rank(199, 0.05, 0.95) == 5
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
