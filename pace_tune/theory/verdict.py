"""What `verify` answers: a claim, the ruling on it, and what the ruling rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pace_tune.theory.statistics import Interval, Ruling


@dataclass(frozen=True)
class Verdict:
    """One row.

    Attributes:
        claim: Its name, e.g. ``thm2/jacobian_norm/pace-plain``; stable, for tags.
        says: The claim in a sentence.
        verdict: The ruling.
        number: The effect.
        interval: Its 95 % interval; infinite where there are too few runs.
        count: Seeds, runs or draws that it comes from.
        rule: When it holds and when it does not.
        plot: Name of the figure that shows it, without ending.
    """

    claim: str
    says: str
    verdict: Ruling
    number: float
    interval: tuple[float, float]
    count: int
    rule: str
    plot: str

    @classmethod
    def of(cls, claim: str, says: str, effect: Interval, ruling: Ruling, *, rule: str, plot: str) -> Verdict:
        """Return the row of an effect."""
        return cls(claim, says, ruling, effect.value, (effect.low, effect.high), effect.count, rule, plot)

    def as_row(self) -> dict[str, Any]:
        """Return plain values."""
        low, high = self.interval
        row = {"claim": self.claim, "says": self.says, "verdict": self.verdict, "number": self.number, "low": low, "high": high}
        return {**row, "count": self.count, "rule": self.rule, "plot": self.plot}

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.verdict:14} {self.claim:44} {self.number:9.4g} [{low:.4g}, {high:.4g}]  n={self.count}"
