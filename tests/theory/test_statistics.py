"""Rules that can say all three things, and intervals that cover."""

import math

import numpy as np
import pytest
from scipy import stats

from pace_tune.theory.statistics import Interval, at_least, joint_intervals, mean_interval, positive, rank_correlation, slope, within


def interval(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high, 5)


OPEN = Interval(0.3, -math.inf, math.inf, 2)


@pytest.mark.parametrize(
    ("effect", "ruling"),
    [
        (interval(0.2, 0.4), "holds"),
        (interval(-0.4, -0.2), "does not hold"),
        (interval(-0.1, 0.04), "does not hold"),  # no effect of the size of interest
        (interval(0.01, 0.04), "does not hold"),  # certain, but too small to matter
        (interval(-0.1, 0.3), "cannot tell"),
        (OPEN, "cannot tell"),
    ],
)
def test_positive(effect: Interval, ruling: str):
    assert positive(effect, interest=0.05) == ruling


@pytest.mark.parametrize(
    ("effect", "ruling"),
    [(interval(1, 2), "holds"), (interval(0, 0.5), "does not hold"), (interval(0.5, 2), "cannot tell"), (OPEN, "cannot tell")],
)
def test_at_least(effect: Interval, ruling: str):
    assert at_least(effect, threshold=0.9) == ruling


@pytest.mark.parametrize(
    ("effect", "ruling"),
    [
        (interval(0.97, 1.02), "holds"),
        (interval(1.2, 1.3), "does not hold"),
        (interval(0.2, 0.9), "does not hold"),
        (interval(0.9, 1.0), "cannot tell"),
        (OPEN, "cannot tell"),
    ],
)
def test_within(effect: Interval, ruling: str):
    assert within(effect, low=0.95, high=1.05) == ruling


def test_mean_interval_is_students():
    values = [0.1, 0.3, 0.2, 0.4, 0.1]
    expected = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    found = mean_interval(values)
    assert (found.low, found.high) == pytest.approx(expected)
    assert all(joint.high > found.high for joint in joint_intervals([values] * 20))
    assert mean_interval(values[:2]).open
    assert mean_interval([]).open


def test_rank_correlation_is_spearmans_and_its_interval_covers():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        x = rng.normal(size=25)
        found = rank_correlation(x, rng.normal(size=25))
        covered += found.low <= 0 <= found.high
    assert 0.91 < covered / 300 < 0.985
    y = x + 0.5 * rng.normal(size=25)
    assert rank_correlation(x, y).value == pytest.approx(stats.spearmanr(x, y).statistic)


def test_a_correlation_that_a_third_column_makes_vanishes_given_it():
    rng = np.random.default_rng(1)
    loss = rng.normal(size=200)
    x, y = loss + 0.3 * rng.normal(size=200), loss + 0.3 * rng.normal(size=200)
    assert rank_correlation(x, y).low > 0.5
    given = rank_correlation(x, y, given=[loss])
    assert given.low < 0.1
    assert given.high > -0.1


@pytest.mark.parametrize("columns", [([1.0] * 20, list(range(20))), (list(range(5)), list(range(5)))])
def test_too_little_to_rank_is_open(columns):
    assert rank_correlation(*columns).open


def test_a_column_that_is_the_given_one_is_open():
    x = list(range(20))
    assert rank_correlation(x, x[::-1], given=[x]).open


def test_slope_is_least_squares():
    rng = np.random.default_rng(2)
    x, z = rng.normal(size=40), rng.normal(size=40)
    y = 0.7 * x - 2 * z + 0.1 * rng.normal(size=40)
    found = slope(y, [x, z])
    assert found.low < 0.7 < found.high
    assert found.value == pytest.approx(0.7, abs=0.05)
    alone = slope(y, [x])
    expected = stats.linregress(x, y)
    assert alone.value == pytest.approx(expected.slope)
    assert alone.high - alone.low == pytest.approx(2 * stats.t.ppf(0.975, 38) * expected.stderr)
    assert slope(y, [x, 2 * x]).open
    assert slope(y[:5], [x[:5]]).open
