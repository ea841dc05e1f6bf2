import math
import random

import pytest

from pace_tune.results.intervals import mean_interval


def test_the_interval_is_the_textbook_one():
    # 4.303 is Student's 97.5 % quantile for 2 degrees of freedom.
    found = mean_interval([1.0, 2.0, 3.0])
    assert found.mean == 2.0
    assert found.half_width == pytest.approx(4.303 / math.sqrt(3), rel=1e-4)
    assert (found.low, found.high) == (2.0 - found.half_width, 2.0 + found.half_width)


@pytest.mark.parametrize("values", [[], [0.5]])
def test_fewer_than_two_values_leave_it_open(values):
    found = mean_interval(values)
    assert math.isnan(found.half_width)
    assert not found.low > 0
    assert not found.high < 0


@pytest.mark.parametrize("count", [2, 3, 5])
def test_it_covers_the_truth_as_often_as_it_says(count):
    draw = random.Random(count)
    covered = sum(abs((i := mean_interval([draw.gauss(0.3, 1) for _ in range(count)])).mean - 0.3) <= i.half_width for _ in range(2000))
    assert covered / 2000 == pytest.approx(0.95, abs=0.02)
