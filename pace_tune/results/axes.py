"""Where a searched value lies between the ends of its domain: what the axes of pictures are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Axis:
    """A searched setting.

    Args:
        path: Its dotted path.
        low: Lower end; of a choice, its first place.
        high: Upper end; of a choice, its last place.
        log: Whether it is searched on a logarithmic scale.
        choices: What may be chosen, for a choice.
    """

    path: str
    low: float
    high: float
    log: bool = False
    choices: tuple[Any, ...] = ()

    @classmethod
    def of(cls, path: str, distribution: optuna.distributions.BaseDistribution) -> Axis:
        """Return the axis of a distribution of Optuna's."""
        choices = tuple(getattr(distribution, "choices", ()))
        if choices:
            return cls(path, 0.0, len(choices) - 1.0, choices=choices)
        low, high, log = (getattr(distribution, name) for name in ("low", "high", "log"))
        return cls(path, float(low), float(high), log=bool(log))

    @property
    def label(self) -> str:
        """Its last part; a name keeps its section, or it would be any name."""
        section, _, field = self.path.rpartition(".")
        return section if field == "name" and section else field

    def number(self, value: Any) -> float:
        """Return a value as a number on the axis; a choice is its place among the choices."""
        return float(self.choices.index(value)) if self.choices else float(value)

    def place(self, value: Any) -> float:
        """Return where a value lies, 0 at the lower end and 1 at the upper."""
        low, high, here = (self._scaled(number) for number in (self.low, self.high, self.number(value)))
        return (here - low) / (high - low) if high > low else 0.5

    def ticks(self) -> Sequence[tuple[float, str]]:
        """Return places and what is written there."""
        if self.choices:
            return [(self.place(choice), str(choice)) for choice in self.choices]
        middle = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        return [(self.place(value), f"{value:.3g}") for value in (self.low, middle, self.high)]

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.log else value
