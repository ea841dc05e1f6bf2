"""Mean and interval of a few repeated scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev


@dataclass(frozen=True)
class Interval:
    """A mean with its two-sided Student interval.

    Args:
        mean: Arithmetic mean of the values.
        half_width: Half the interval's width; NaN where fewer than two values leave it open.
        count: How many values.
    """

    mean: float
    half_width: float
    count: int

    @property
    def low(self) -> float:
        """Lower end."""
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        """Upper end."""
        return self.mean + self.half_width

    def __str__(self) -> str:
        return f"{self.mean:.4f}" if math.isnan(self.half_width) else f"{self.mean:.4f} ± {self.half_width:.4f}"


def paired_p_value(differences: Sequence[float]) -> float | None:
    """Return the two-sided p-value of the paired t-test, below 5 % where the interval excludes 0; None for fewer than two differences.

    Example:
        >>> round(paired_p_value([0.01, 0.03, 0.02]), 3)
        0.074
    """
    from scipy.stats import t

    count = len(differences)
    if count < 2:
        return None
    mean, error = fmean(differences), stdev(differences) / math.sqrt(count)
    if error == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * t.sf(abs(mean) / error, count - 1))


def mean_interval(values: Sequence[float], *, level: float = 0.95) -> Interval:
    """Return the mean of independent, roughly normal values with its Student interval.

    Example:
        >>> str(mean_interval([0.90, 0.92, 0.94]))
        '0.9200 ± 0.0497'
    """
    from scipy.stats import t

    count = len(values)
    if count < 2:
        return Interval(values[0] if count else math.nan, math.nan, count)
    quantile = float(t.ppf(0.5 + level / 2, count - 1))
    return Interval(fmean(values), quantile * stdev(values) / math.sqrt(count), count)
