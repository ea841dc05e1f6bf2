import math
import random

import pytest
from scipy.stats import pearsonr, rankdata, spearmanr

from pace_tune.results.rank_correlation import rank_correlation


def planted(draw, count, rho):
    """Pairs whose ranks go together about as strongly as rho says."""
    xs = [draw.gauss(0, 1) for _ in range(count)]
    return xs, [rho * x + math.sqrt(1 - rho**2) * draw.gauss(0, 1) for x in xs]


def test_it_is_the_textbook_one_ties_included():
    x, y = [1, 2, 2, 3, 5, 8, 9, 9], [2, 1, 4, 4, 3, 9, 7, 8]
    assert rank_correlation(x, y).rho == pytest.approx(spearmanr(x, y).statistic)


def test_the_partial_one_is_that_of_the_residuals_of_the_ranks():
    draw = random.Random(0)
    z = [draw.gauss(0, 1) for _ in range(40)]
    x, y = ([value + draw.gauss(0, 1) for value in z] for _ in range(2))
    ranks = [rankdata(one) - 20.5 for one in (x, y, z)]
    left = [one - ranks[2] * (one @ ranks[2]) / (ranks[2] @ ranks[2]) for one in ranks[:2]]
    assert rank_correlation(x, y, given=z).rho == pytest.approx(pearsonr(*left).statistic)


@pytest.mark.parametrize(("count", "rho"), [(12, 0.0), (24, 0.0), (24, 0.6)])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(count, rho):
    draw = random.Random(count)
    # Spearman's correlation of a normal pair.
    truth = 6 / math.pi * math.asin(rho / 2)
    found = [rank_correlation(*planted(draw, count, rho), resamples=300, seed=i) for i in range(300)]
    assert sum(one.low <= truth <= one.high for one in found) / 300 == pytest.approx(0.95, abs=0.05)


def test_what_cannot_be_said_is_left_open():
    few = rank_correlation([1, 2, 3], [3, 2, 1])
    assert (few.rho, few.count, few.sure, str(few)) == (-1.0, 3, False, "")
    constant = rank_correlation([1] * 9, list(range(9)))
    assert math.isnan(constant.rho)
    assert str(constant) == ""
    gaps = rank_correlation([1, 2, math.nan, 4], [1, 2, 3, math.inf])
    assert gaps.count == 2


def test_the_same_points_give_the_same_interval():
    points = planted(random.Random(1), 20, 0.5)
    assert rank_correlation(*points) == rank_correlation(*points)
