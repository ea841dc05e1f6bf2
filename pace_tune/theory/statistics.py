"""Intervals and rules. Every rule can say "holds", "does not hold" and "cannot tell".

A claim names an effect and the smallest size of it that is of interest. With the effect's 95 % interval: the claim *does not
hold* where the interval excludes every effect of that size, *holds* where it excludes zero, else the runs *cannot tell*. The
first rule comes first: an effect that is certain but too small to matter is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Ruling = Literal["holds", "does not hold", "cannot tell"]
Floats = NDArray[np.float64]
LEVEL = 0.95
FEWEST_SEEDS = 3
FEWEST_RUNS = 10


@dataclass(frozen=True)
class Interval:
    """An effect with its two-sided interval; `low` and `high` are infinite where there are too few values for one."""

    value: float
    low: float
    high: float
    count: int

    @property
    def open(self) -> bool:
        """Whether nothing is known about the effect's size."""
        return math.isinf(self.low) or math.isnan(self.value)

    def exp(self) -> Interval:
        """Return the interval of a ratio from that of its logarithm."""
        return Interval(float(np.exp(self.value)), float(np.exp(self.low)), float(np.exp(self.high)), self.count)

    def clipped(self, largest: float) -> Interval:
        """Return the interval inside [-largest, largest], where no effect can lie outside; an open one stays open."""
        if self.open:
            return self
        return Interval(self.value, max(self.low, -largest), min(self.high, largest), self.count)

    def __neg__(self) -> Interval:
        """Return the interval of the opposite effect."""
        return Interval(-self.value, -self.high, -self.low, self.count)


def mean_interval(values: Sequence[float]) -> Interval:
    """Return the mean of roughly normal values with its Student interval, open below `FEWEST_SEEDS` values."""
    return joint_intervals([values])[0]


def joint_intervals(groups: Sequence[Sequence[float]]) -> list[Interval]:
    """Return the mean of each group with intervals that cover all means at once with 95 % (Bonferroni).

    The groups are taken to have one variance, which they estimate together: a few seeds each would say little alone.
    """
    freedom = sum(max(0, len(group) - 1) for group in groups)
    squares = sum(float(np.var(group)) * len(group) for group in groups if len(group))
    found = []
    for group in groups:
        center, half = float(np.mean(group)) if len(group) else math.nan, math.inf
        if len(group) >= FEWEST_SEEDS:
            quantile = float(stats.t.ppf(1 - (1 - LEVEL) / (2 * len(groups)), freedom))
            half = quantile * math.sqrt(squares / freedom / len(group))
        found.append(Interval(center, center - half, center + half, len(group)))
    return found


def rank_correlation(x: Sequence[float], y: Sequence[float], *, given: Sequence[Sequence[float]] = ()) -> Interval:
    """Return Spearman's correlation, or the partial one given other columns, with its interval.

    Ranks are freed of the ranks of `given` by least squares. The interval is Fisher's with the variance
    (1 + r^2 / 2) / (n - 3 - columns) of Bonett and Wright (2000).
    """
    count, columns = len(x), len(given)
    if count < FEWEST_RUNS + columns or len(set(x)) < 3 or len(set(y)) < 3:
        return Interval(math.nan, -math.inf, math.inf, count)
    ranks = [stats.rankdata(column) for column in (x, y, *given)]
    design = np.column_stack([np.ones(count), *ranks[2:]])
    left, right = (rank - design @ np.linalg.lstsq(design, rank, rcond=None)[0] for rank in ranks[:2])
    scale = float(np.linalg.norm(left) * np.linalg.norm(right))
    if scale < 1e-9 * count:
        return Interval(math.nan, -math.inf, math.inf, count)
    r = float(np.clip(left @ right / scale, -0.999999, 0.999999))
    half = float(stats.norm.ppf((1 + LEVEL) / 2)) * math.sqrt((1 + r * r / 2) / (count - 3 - columns))
    return Interval(r, math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half), count)


def slope(y: Sequence[float], columns: Sequence[Sequence[float]]) -> Interval:
    """Return the first column's coefficient in the least-squares fit of y on all columns and a constant."""
    count, parameters = len(y), len(columns) + 1
    if count < max(FEWEST_RUNS, parameters + 3):
        return Interval(math.nan, -math.inf, math.inf, count)
    design = np.column_stack([*columns, np.ones(count)])
    found, _, rank, _ = np.linalg.lstsq(design, np.asarray(y), rcond=None)
    if rank < parameters:
        return Interval(math.nan, -math.inf, math.inf, count)
    rest = np.asarray(y) - design @ found
    freedom = count - parameters
    variance = float(rest @ rest) / freedom * float(np.linalg.inv(design.T @ design)[0, 0])
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * math.sqrt(variance)
    return Interval(float(found[0]), float(found[0]) - half, float(found[0]) + half, count)


def positive(effect: Interval, *, interest: float) -> Ruling:
    """Rule on "the effect is positive" where `interest` is the smallest size that matters."""
    if effect.open:
        return "cannot tell"
    if effect.high < interest:
        return "does not hold"
    return "holds" if effect.low > 0 else "cannot tell"


def at_least(effect: Interval, *, threshold: float) -> Ruling:
    """Rule on "the effect is at least `threshold`": the whole interval lies on one side of it."""
    if effect.open:
        return "cannot tell"
    if effect.high < threshold:
        return "does not hold"
    return "holds" if effect.low >= threshold else "cannot tell"


def within(effect: Interval, *, low: float, high: float) -> Ruling:
    """Rule on "the effect lies in the range": the whole interval does, or none of it."""
    if effect.open:
        return "cannot tell"
    if effect.high < low or effect.low > high:
        return "does not hold"
    return "holds" if low <= effect.low and effect.high <= high else "cannot tell"
