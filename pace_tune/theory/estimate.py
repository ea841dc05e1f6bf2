"""A number measured with chance in it, and how sure it is."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """A mean of independent draws with its standard error.

    Args:
        value: The mean.
        error: Standard deviation of the mean; 0 where nothing was drawn.
        count: How many draws.
    """

    value: float
    error: float = 0.0
    count: int = 1

    @classmethod
    def of(cls, draws_N: Tensor) -> Estimate:
        """Return the mean of independent draws."""
        count = len(draws_N)
        error = float(draws_N.std()) / count**0.5 if count > 1 else float("nan")
        return cls(float(draws_N.mean()), error, count)

    def plus(self, number: float) -> Estimate:
        """Return the estimate of the sum with a number known exactly."""
        return Estimate(self.value + number, self.error, self.count)

    def per(self, number: float) -> Estimate:
        """Return the estimate of the ratio to a number known exactly; NaN where that is zero."""
        if number == 0:
            return Estimate(float("nan"), float("nan"), self.count)
        return Estimate(self.value / number, self.error / abs(number), self.count)

    def agrees(self, number: float, *, errors: float = 4.0) -> bool:
        """Say whether a number lies within so many standard errors."""
        return abs(self.value - number) <= errors * self.error

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {self.error:.2g}"
