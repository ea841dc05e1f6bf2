"""Where a sweep stands, counted as it goes: nobody has to look through all of its trials for it."""

from __future__ import annotations

import math
from collections.abc import Iterable

from pace_tune.search.entry import Entry


class Tally:
    """Counts of trials and epochs, the best trial, and the ends of all curves.

    Args:
        sign: 1 where larger values are better, else -1.
        entries: The trials that are there at the start.

    Example:
        >>> tally = Tally(sign=1.0, entries=[Entry(0, 1, {1: 0.5}, outcome="finished", value=0.5), Entry(1, 2)])
        >>> tally.counts, tally.best.lane, tally.epochs
        ({'finished': 1, 'open': 1}, 't0000', 1)
    """

    def __init__(self, *, sign: float, entries: Iterable[Entry] = ()) -> None:
        self.sign = sign
        self.open: dict[int, Entry] = {}
        """By number."""
        self.best: Entry | None = None
        """The best finished trial; the best pruned one only where none was finished. Of equal ones the first that was proposed."""
        self.equals = 0
        """How many others ended like the best one and are worth as much."""
        self.epochs = self.closed_epochs = 0
        """Of all trials, and of those that ended."""
        self._low, self._high = math.inf, -math.inf
        self._closed: dict[str, int] = {}
        for entry in entries:
            self.opened(entry)
            for value in entry.curve.values():
                self._stretch(value)
            self.epochs += entry.last_epoch
            if entry.outcome is not None:
                self.closed(entry)

    @property
    def counts(self) -> dict[str, int]:
        """How many trials ended in each way, and how many are open."""
        opened = len(self.open)
        return {**self._closed, **({"open": opened} if opened else {})}

    @property
    def ended(self) -> int:
        """How many trials ended."""
        # The display asks from a thread of its own: the dictionary may grow meanwhile.
        return sum(dict(self._closed).values())

    @property
    def ends(self) -> tuple[float, float]:
        """The smallest and the largest value of all curves; zeros where there is none."""
        return (self._low, self._high) if self._low <= self._high else (0.0, 0.0)

    def opened(self, entry: Entry) -> None:
        """Count a new trial."""
        self.open[entry.number] = entry

    def reported(self, epochs: int, value: float) -> None:
        """Count so many more epochs, with the value of the last."""
        self._stretch(value)
        self.epochs += epochs

    def closed(self, entry: Entry) -> None:
        """Count a trial's end."""
        self.open.pop(entry.number, None)
        self.closed_epochs += entry.last_epoch
        self._closed[str(entry.outcome)] = self._closed.get(str(entry.outcome), 0) + 1
        if self._counts(entry):
            self._compare(entry)

    def _compare(self, entry: Entry) -> None:
        best = self.best
        if best is not None and self._worth(entry) == self._worth(best):
            self.equals += 1
        elif best is None or self._worth(entry) > self._worth(best):
            self.equals = 0
        if best is None or self._rank(entry) > self._rank(best):
            self.best = entry

    def _worth(self, entry: Entry) -> tuple[bool, float]:
        return entry.outcome == "finished", self.sign * (entry.value or 0.0)

    def _counts(self, entry: Entry) -> bool:
        return entry.value is not None and entry.outcome in ("finished", "pruned")

    def _rank(self, entry: Entry) -> tuple[bool, float, int]:
        return *self._worth(entry), -entry.number

    def _stretch(self, value: float) -> None:
        self._low, self._high = min(self._low, value), max(self._high, value)
