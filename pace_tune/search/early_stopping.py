"""When a trial is given up: asynchronous successive halving that repeats, after a restart, what it decided before."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from pace_tune.search.book import Book
from pace_tune.search.entry import lane_number
from pace_tune.search.searcher import Reading


class Rung:
    """The trials that reached one rung, in order: the best first, of equal ones the earliest.

    Two arrays, so that thousands of trials take some kB, and a place among them is found without looking at all.
    """

    def __init__(self) -> None:
        self._values, self._numbers = array("d"), array("l")

    def __len__(self) -> int:
        return len(self._values)

    def place(self, number: int, value: float) -> int:
        """Return how many trials are better than one of so much, smaller being better."""
        low, high = bisect_left(self._values, value), bisect_right(self._values, value)
        return bisect_left(self._numbers, number, low, high)

    def add(self, number: int, value: float) -> None:
        """Put a trial in its place."""
        place = self.place(number, value)
        self._values.insert(place, value)
        self._numbers.insert(place, number)

    def remove(self, number: int, value: float) -> None:
        """Take a trial out."""
        place = self.place(number, value)
        del self._values[place], self._numbers[place]

    def values(self) -> dict[int, float]:
        """Return the value of each trial, smaller being better."""
        return dict(zip(self._numbers, self._values, strict=True))


class Rungs:
    """Epochs at which trials are compared; at each one the best of every `reduction` go on.

    Args:
        grace_epochs: The first rung: nobody is judged before.
        reduction: One of so many goes on. Rungs lie this factor apart.
        max_epochs: There is no rung at the end.
        sign: 1 where larger is better, -1 where smaller is.

    Example:
        >>> rungs = Rungs(grace_epochs=3, reduction=3.0, max_epochs=30, sign=1.0)
        >>> rungs.epochs
        [3, 9, 27]
        >>> [rungs.stops(number, epoch=3, value=value) for number, value in enumerate((0.9, 0.7, 0.8))]
        [False, False, True]
    """

    def __init__(self, *, grace_epochs: int, reduction: float, max_epochs: int, sign: float) -> None:
        self.reduction, self.sign = reduction, sign
        self.epochs: list[int] = []
        epoch = float(grace_epochs)
        while math.ceil(epoch) < max_epochs:
            self.epochs.append(math.ceil(epoch))
            epoch *= reduction
        self._rungs = {epoch: Rung() for epoch in self.epochs}
        self._reached: dict[int, dict[int, tuple[int, float]]] = {}
        """Open trial -> rung -> epoch and value of the trial there."""

    def load(self, number: int, curve: Mapping[int, float]) -> None:
        """Take up what a trial reported before."""
        for epoch in sorted(curve):
            self._record(number, epoch, curve[epoch])

    def stops(self, number: int, *, epoch: int, value: float) -> bool:
        """Take up a value, and say whether the trial is given up there."""
        reached = self._record(number, epoch, value)
        if reached is None:
            return False
        rung = self._rungs[reached]
        # Too few to tell: the first ones go on, and the defaults and the baseline among them are seen to their end.
        if len(rung) < self.reduction:
            return False
        # Of equal ones, which a small validation set makes many, the earlier trials go on.
        better = rung.place(number, -self.sign * value)
        # Rounded down, as in the paper (Li et al. 2020, Algorithm 2): rounded up, half of the first four would go on.
        return better >= math.floor(len(rung) / self.reduction)

    def close(self, number: int) -> None:
        """Note that a trial reports no more: it stays on its rungs."""
        self._reached.pop(number, None)

    def values(self) -> dict[int, dict[int, float]]:
        """Return the value of each trial on each rung, smaller being better."""
        return {epoch: rung.values() for epoch, rung in self._rungs.items()}

    def _record(self, number: int, epoch: int, value: float) -> int | None:
        """Write a value on the highest rung that was reached; return the rung where the trial stands on it now."""
        reached = max((rung for rung in self.epochs if rung <= epoch), default=None)
        if reached is None:
            return None
        mine, rung = self._reached.setdefault(number, {}), self._rungs[reached]
        if reached in mine:
            at, before = mine[reached]
            # A trial that does not report each epoch stands on a rung with the first value after it.
            if at != epoch:
                return None
            rung.remove(number, before)
        mine[reached] = epoch, -self.sign * value
        rung.add(number, -self.sign * value)
        return reached


def rungs_of(book: Book) -> Rungs | None:
    """Return the rungs of a study, with what its trials reported so far; None where every trial runs to its end."""
    study = book.study
    stopping = study.search.early_stopping
    if stopping.name == "none":
        return None
    rungs = Rungs(grace_epochs=study.grace_epochs, reduction=stopping.reduction, max_epochs=study.max_epochs, sign=book.sign)
    for entry in book.entries.values():
        rungs.load(entry.number, entry.curve)
        if entry.outcome is not None:
            rungs.close(entry.number)
    return rungs


class LaneScheduler(FIFOScheduler):
    """Tune's scheduler: trials in order of their arrival, judged by the rungs.

    Args:
        book: The sweep's trials.
    """

    def __init__(self, book: Book) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.book, self.rungs = book, rungs_of(book)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Note that a trial reports no more."""
        if self.rungs is not None:
            self.rungs.close(lane_number(trial.config["lane"]))

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Say whether a trial goes on."""
        stops = self._stops(lane_number(trial.config["lane"]), result)
        return str(TrialScheduler.STOP if stops else TrialScheduler.CONTINUE)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Leave the choice to Tune's own queue, which does not look through all finished trials at each step."""
        return None

    def _stops(self, number: int, result: Mapping[str, Any]) -> bool:
        report, entry = Reading(result, metric=self.book.study.metric), self.book.entries[number]
        if entry.outcome is not None:
            # Told before the driver died; a lane that was given up replays to where it was, and ends there again.
            return entry.outcome == "pruned" and report.epoch >= entry.last_epoch
        # Below its last value it was let through before.
        if self.rungs is None or report.value is None or not math.isfinite(report.value) or report.epoch < entry.last_epoch:
            return False
        # The rungs hear of a reference too; it is seen to its end.
        return self.rungs.stops(number, epoch=report.epoch, value=report.value) and number >= self.book.study.references
