"""Rank correlation over trials, with an interval: of two quantities, or of what is left of them once a third is taken out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

RESAMPLES = 2000
FEWEST = 8
"""Below so many points the interval is too narrow by far, and is left open."""


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation with its bootstrap interval.

    Args:
        rho: From -1 to 1; NaN where it is not defined.
        low: Lower end of the 95 % percentile interval over resampled points; NaN where there are too few.
        high: Upper end.
        count: How many points.
    """

    rho: float
    low: float
    high: float
    count: int

    @property
    def sure(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        # Of two points it is +1 or -1 whatever they are: without an interval it says nothing.
        return "" if math.isnan(self.rho) or math.isnan(self.low) else f"{self.rho:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


def rank_correlation(
    x: Sequence[float], y: Sequence[float], *, given: Sequence[float] | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> Correlation:
    """Return Spearman's correlation of x and y, or their partial correlation given a third quantity; points with a NaN are left out.

    The partial form is (r_xy - r_xz r_yz) / sqrt((1 - r_xz^2)(1 - r_yz^2)) of the three rank correlations.

    Example:
        >>> rank_correlation([1, 2, 3, 4], [1, 8, 27, 64]).rho
        1.0
    """
    import numpy as np

    columns = np.array([x, y, *([given] if given is not None else [])], dtype=np.float64)
    columns = columns[:, np.isfinite(columns).all(axis=0)]
    count = columns.shape[1]
    rho = float(_correlations(columns[:, None, :])[0]) if count > 1 else math.nan
    if count < FEWEST or math.isnan(rho):
        return Correlation(rho, math.nan, math.nan, count)
    drawn = np.random.default_rng(seed).integers(count, size=(resamples, count))
    # A resample of few points may be constant in one quantity: it has no correlation.
    found = _correlations(columns[:, drawn])
    found = found[np.isfinite(found)]
    low, high = np.quantile(found, (0.025, 0.975)) if len(found) else (math.nan, math.nan)
    return Correlation(rho, float(low), float(high), count)


def _correlations(columns: Floats) -> Floats:
    """Return the correlation of the first two columns in each resample; columns is (2 or 3, resamples, points)."""
    import numpy as np
    from scipy.stats import rankdata

    ranks = rankdata(columns, axis=-1)
    centred = ranks - ranks.mean(axis=-1, keepdims=True)

    def pearson(a: int, b: int) -> Any:
        norms = np.sqrt((centred[a] ** 2).sum(axis=-1) * (centred[b] ** 2).sum(axis=-1))
        return (centred[a] * centred[b]).sum(axis=-1) / norms

    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = pearson(0, 1)
        if len(columns) == 3:
            with_x, with_y = pearson(0, 2), pearson(1, 2)
            found = (found - with_x * with_y) / np.sqrt((1 - with_x**2) * (1 - with_y**2))
    return np.clip(found, -1.0, 1.0)
