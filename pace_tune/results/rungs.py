"""Was early stopping right? How the order of trials at each epoch agrees with their order at the end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pace_tune.errors import PaceTuneError
from pace_tune.results.rank_correlation import Correlation, rank_correlation
from pace_tune.results.sweep_data import Sweep, Trial
from pace_tune.study.study_config import Study
from pace_tune.study.sweep_folder import STUDY_FILE


@dataclass(frozen=True)
class Rung:
    """An epoch at which trials were compared.

    Args:
        epoch: The epoch.
        agreement: Rank correlation of the values there with the values at the end, over trials that ran every epoch.
        winner_place: The final winner's place there, from 1, among all that were alive.
        alive: How many trials reported there.
        stopped: How many were given up there.
    """

    epoch: int
    agreement: Correlation
    winner_place: int | None
    alive: int
    stopped: int


def rung_epochs(sweep: Sweep) -> list[int]:
    """Return the epochs at which early stopping judges; none where every trial runs to its end."""
    try:
        study = Study.load(sweep.folder / STUDY_FILE)
        stopping = study.search.early_stopping
        epochs, epoch, reduction = study.max_epochs, float(study.grace_epochs), stopping.reduction
    except PaceTuneError:
        return []  # a study of another version, or of a plugin that is not here
    found: list[int] = []
    while stopping.name != "none" and math.ceil(epoch) < epochs:
        found.append(math.ceil(epoch))
        epoch *= reduction
    return found


def rungs_of(sweep: Sweep, epochs: Sequence[int]) -> list[Rung]:
    """Return what is known of the trials at some epochs."""
    return [_rung(sweep, epoch) for epoch in epochs]


def spared_at(sweep: Sweep, rungs: Sequence[Rung]) -> Rung | None:
    """Return the first rung at which the winner would most likely have been given up if it were no reference.

    It is held against all that came there in the end, as a trial that came last would be.
    """
    if not rungs or not sweep.ranked:
        return None
    study = Study.load(sweep.folder / STUDY_FILE)
    go_on = {rung.epoch: math.floor(rung.alive / study.search.early_stopping.reduction) for rung in rungs}
    judged = (rung for rung in rungs if rung.winner_place and 0 < go_on[rung.epoch] < rung.winner_place)
    return next(judged, None) if sweep.ranked[0].number < study.references else None


def agreement(sweep: Sweep, epoch: int, *, resamples: int = 0) -> Correlation:
    """Return the rank correlation of values at an epoch with those at the end."""
    pairs = [(value, trial.value or 0.0) for trial in sweep.ranked if (value := value_at(trial, sweep.metric, epoch)) is not None]
    early, final = ([pair[side] for pair in pairs] for side in (0, 1))
    return rank_correlation(early, final, resamples=resamples)


def value_at(trial: Trial, metric: str, epoch: int) -> float | None:
    """Return a trial's metric in an epoch, None where it was not reported."""
    found = next((report["metrics"].get(metric) for report in trial.reports if report["epoch"] == epoch), None)
    return float(found) if found is not None and math.isfinite(found) else None


def _rung(sweep: Sweep, epoch: int) -> Rung:
    sign = 1 if sweep.higher_is_better else -1
    there = {trial.number: sign * value for trial in sweep.trials if (value := value_at(trial, sweep.metric, epoch)) is not None}
    winner = there.get(sweep.ranked[0].number) if sweep.ranked else None
    place = None if winner is None else 1 + sum(value > winner for value in there.values())
    stopped = sum(trial.state == "pruned" and trial.epoch == epoch for trial in sweep.trials)
    return Rung(epoch, agreement(sweep, epoch, resamples=1000), place, len(there), stopped)
