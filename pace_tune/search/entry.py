"""What the book of a sweep knows of one trial: all of it while it is open, some numbers once it has ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from pace_tune.search.curve import Curve

Outcome: TypeAlias = Literal["finished", "pruned", "diverged", "out_of_memory", "failed"]


class Choices(NamedTuple):
    """What was chosen for a trial."""

    point: Mapping[str, Any]
    """Of the searched paths."""
    run: Mapping[str, Any]
    """The whole configuration; empty while none was made."""


class Pages(Protocol):
    """Where what was chosen is written down."""

    def choices(self, trial_id: int) -> Choices:
        """Read what was chosen for the trial of a row."""


class Entry:
    """One trial.

    Args:
        number: Of the trial.
        trial_id: Of the database row.
        curve: Epoch -> value of the metric.
        outcome: None while it is open.
        reason: Why it ended before its end.
        value: What it is worth; for a pruned trial the last value.
        point: See `Choices`.
        run: See `Choices`.
    """

    __slots__ = ("_choices", "curve", "number", "outcome", "reason", "trial_id", "value")

    def __init__(
        self,
        number: int,
        trial_id: int,
        curve: Mapping[int, float] | None = None,
        *,
        outcome: Outcome | None = None,
        reason: str = "",
        value: float | None = None,
        point: Mapping[str, Any] | None = None,
        run: Mapping[str, Any] | None = None,
    ) -> None:
        self.number, self.trial_id, self.curve = number, trial_id, Curve(curve)
        self.outcome, self.reason, self.value = outcome, reason, value
        self._choices: Choices | Pages = Choices(point or {}, run or {})

    @property
    def lane(self) -> str:
        """Its lane."""
        return lane_name(self.number)

    @property
    def last_epoch(self) -> int:
        """The last epoch with a value."""
        return self.curve.last_epoch

    @property
    def choices(self) -> Choices:
        """What was chosen for it; read anew each time where it is not kept."""
        kept = self._choices
        return kept if isinstance(kept, Choices) else kept.choices(self.trial_id)

    @property
    def point(self) -> Mapping[str, Any]:
        """What was chosen of the searched paths."""
        return self.choices.point

    @property
    def run(self) -> Mapping[str, Any]:
        """Its whole configuration; empty while none was made."""
        return self.choices.run

    def choose(self, *, point: Mapping[str, Any], run: Mapping[str, Any]) -> None:
        """Keep what was chosen."""
        self._choices = Choices(point, run)

    def leave(self, pages: Pages) -> None:
        """Keep what was chosen no more, some kB: it is read from these pages, should anyone ask."""
        self._choices = pages

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Entry) and self._told() == other._told()

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"Entry({self.lane}, {self.outcome or 'open'}, {self.value}, {self.curve})"

    def _told(self) -> tuple[Any, ...]:
        return self.number, self.trial_id, self.curve, self.outcome, self.reason, self.value, self.choices


def lane_name(number: int) -> str:
    """Return the lane of a trial."""
    return f"t{number:04d}"


def lane_number(lane: str) -> int:
    """Return the trial of a lane."""
    return int(lane[1:])
