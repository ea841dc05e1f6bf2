"""How many lanes a worker trains together, where the study leaves it to the worker: found by measurement in its first epochs."""

from __future__ import annotations

EPOCHS = 2
"""Of each number of lanes; the faster one counts: what is made once is paid in the first."""
GAIN = 0.95
"""Twice the lanes have to bring the time of a lane's epoch below this share of what it was."""
MEMORY_SHARE = 0.45
"""Above it twice the lanes would not fit."""
MOST = 32


class LaneLimit:
    """Doubles the lanes as long as each one gets cheaper by it and memory lasts, then stays.

    It measures with real trials, whose results do not depend on it: lanes equal runs alone.

    Args:
        most: Never more.

    Example:
        >>> limit = LaneLimit(8)
        >>> for seconds in (1.0, 1.0, 1.2, 1.2, 2.4, 2.4):  # of 1, 1, 2, 2, 4 and 4 lanes: four are no cheaper than two
        ...     limit.observe(limit.lanes, seconds)
        >>> limit.lanes
        2
    """

    def __init__(self, most: int = MOST) -> None:
        self.lanes, self.most = 1, most
        self.settled = most == 1
        self._before: float | None = None
        self._times: list[float] = []

    def observe(self, lanes: int, seconds: float, *, memory_share: float = 0.0) -> None:
        """Take in what an epoch of so many lanes took, and the share of the device's memory in use at its peak.

        An epoch of fewer lanes than there might be says nothing about their number.
        """
        if self.settled or lanes != self.lanes:
            return
        self._times.append(seconds / lanes)
        if len(self._times) < EPOCHS:
            return
        each = min(self._times)
        self._times.clear()
        if self._before is not None and each > GAIN * self._before:
            self.lanes, self.settled = self.lanes // 2, True
        elif memory_share > MEMORY_SHARE or 2 * self.lanes > self.most:
            self.settled = True
        else:
            self._before, self.lanes = each, 2 * self.lanes
