"""A trial's learning curve in a few bytes: of a sweep of thousands of trials every one is kept."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, MutableMapping


class Curve(MutableMapping[int, float]):
    """Epoch -> value, in the order of the epochs; a third of what a dictionary takes.

    Args:
        values: What it begins with.

    Example:
        >>> curve = Curve({3: 0.5, 1: 0.25})
        >>> list(curve.items()), curve.last_epoch
        ([(1, 0.25), (3, 0.5)], 3)
    """

    __slots__ = ("_epochs", "_values")

    def __init__(self, values: Mapping[int, float] | None = None) -> None:
        epochs = sorted(values or {})
        self._epochs = array("l", epochs)
        self._values = array("d", [values[epoch] for epoch in epochs] if values else [])

    @property
    def last_epoch(self) -> int:
        """The last epoch with a value; 0 where there is none."""
        return self._epochs[-1] if self._epochs else 0

    def __getitem__(self, epoch: int) -> float:
        return self._values[self._place(epoch)]

    def __setitem__(self, epoch: int, value: float) -> None:
        place = bisect_left(self._epochs, epoch)
        if place < len(self._epochs) and self._epochs[place] == epoch:
            self._values[place] = value
        else:
            # The value first: another thread that sees the epoch reads it.
            self._values.insert(place, value)
            self._epochs.insert(place, epoch)

    def __delitem__(self, epoch: int) -> None:
        place = self._place(epoch)
        del self._epochs[place], self._values[place]

    def __iter__(self) -> Iterator[int]:
        return iter(self._epochs)

    def __len__(self) -> int:
        return len(self._epochs)

    def __repr__(self) -> str:
        return f"Curve({dict(self)})"

    def _place(self, epoch: int) -> int:
        place = bisect_left(self._epochs, epoch)
        if place == len(self._epochs) or self._epochs[place] != epoch:
            raise KeyError(epoch)
        return place
