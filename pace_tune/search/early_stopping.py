"""When a trial is given up: asynchronous successive halving that repeats, after a restart, what it decided before."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from pace_tune.search.book import Book, curves, lane_number
from pace_tune.search.searcher import Reading, StudySearcher


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
        >>> [rungs.stops(lane, epoch=3, value=value) for lane, value in (("a", 0.9), ("b", 0.7), ("c", 0.8))]
        [False, False, True]
    """

    def __init__(self, *, grace_epochs: int, reduction: float, max_epochs: int, sign: float) -> None:
        self.reduction, self.sign = reduction, sign
        self.epochs: list[int] = []
        epoch = float(grace_epochs)
        while math.ceil(epoch) < max_epochs:
            self.epochs.append(math.ceil(epoch))
            epoch *= reduction
        self._values: dict[int, dict[str, float]] = {rung: {} for rung in self.epochs}
        self._reached: dict[tuple[int, str], int] = {}
        """(rung, lane) -> epoch of the value there."""

    def load(self, lane: str, curve: Mapping[int, float]) -> None:
        """Take up what a lane reported before."""
        for epoch in sorted(curve):
            self._record(lane, epoch, curve[epoch])

    def stops(self, lane: str, *, epoch: int, value: float) -> bool:
        """Take up a value, and say whether the lane is given up there."""
        rung = self._record(lane, epoch, value)
        if rung is None:
            return False
        values = self._values[rung]
        # Too few to tell: the first ones go on, and the defaults and the baseline among them are seen to their end.
        if len(values) < self.reduction:
            return False
        # Of equal ones, which a small validation set makes many, the earlier trials go on.
        better = sum((other, lane) > (values[lane], other_lane) for other_lane, other in values.items())
        # Rounded down, as in the paper (Li et al. 2020, Algorithm 2): rounded up, half of the first four would go on.
        return better >= math.floor(len(values) / self.reduction)

    def _record(self, lane: str, epoch: int, value: float) -> int | None:
        """Write a value on the highest rung that was reached; return the rung where the lane stands on it now."""
        reached = [rung for rung in self.epochs if rung <= epoch]
        if not reached:
            return None
        rung = reached[-1]
        # A lane that does not report each epoch stands on a rung with the first value after it.
        if self._reached.setdefault((rung, lane), epoch) != epoch:
            return None
        self._values[rung][lane] = self.sign * value
        return rung


def rungs_of(book: Book) -> Rungs | None:
    """Return the rungs of a study, with what its trials reported so far; None where every trial runs to its end."""
    study = book.study
    stopping = study.search.early_stopping
    if stopping.name == "none":
        return None
    rungs = Rungs(grace_epochs=study.grace_epochs, reduction=stopping.reduction, max_epochs=study.max_epochs, sign=book.sign)
    for lane, curve in curves(book.entries):
        rungs.load(lane, curve)
    return rungs


class LaneScheduler(FIFOScheduler):
    """Tune's scheduler: trials in order of their arrival, judged by the rungs.

    Args:
        book: The sweep's trials.
        searcher: Told which trials Tune has.
    """

    def __init__(self, book: Book, searcher: StudySearcher) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.book, self.searcher = book, searcher
        self.rungs = rungs_of(book)

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Note a trial, be it new or read from a snapshot."""
        self.searcher.know(trial.trial_id, lane_number(trial.config["lane"]), open_=not trial.is_finished())

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
        return self.rungs.stops(entry.lane, epoch=report.epoch, value=report.value) and not self.book.is_reference(number)
