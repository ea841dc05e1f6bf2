"""How much of the differences between trials each setting explains."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pace_tune.results.sweep_data import Sweep, Trial, open_study

if TYPE_CHECKING:
    import optuna

FEWEST = 8
"""Trials below which a forest explains noise."""
TREES = 64
"""Of the forest, Optuna's own number."""


@dataclass(frozen=True)
class Importance:
    """The importance of settings within a group of trials.

    Args:
        group: ``all`` or an objective.
        count: How many trials.
        shares: Dotted path -> share of the variance, largest first.
    """

    group: str
    count: int
    shares: Mapping[str, float]


def importances(sweep: Sweep, *, seed: int = 0) -> list[Importance]:
    """Return Optuna's fANOVA importances over the trials that ran every epoch.

    Over all of them only settings that every trial has can be judged; what belongs to an objective, such as sigma and
    lambda, is judged among the trials of that objective.
    """
    groups: dict[str, list[Trial]] = {"all": list(sweep.ranked)}
    objectives = sorted({trial.objective for trial in sweep.ranked})
    if len(objectives) > 1:
        groups |= {name: [trial for trial in sweep.ranked if trial.objective == name] for name in objectives}
    found = (_importance(sweep, group, trials, seed=seed) for group, trials in groups.items())
    return [one for one in found if one is not None]


def _importance(sweep: Sweep, group: str, trials: Iterable[Trial], *, seed: int) -> Importance | None:
    numbers = [trial.number for trial in trials]
    shares = importances_of(sweep, numbers, seed=seed) if len(numbers) >= FEWEST else {}
    return Importance(group, len(numbers), shares) if shares else None


def importances_of(sweep: Sweep, numbers: Sequence[int], *, seed: int = 0, trees: int = TREES) -> Mapping[str, float]:
    """Return each setting's share of the variance over some trials, largest first; a number that is there twice counts twice."""
    import optuna

    study = _copy(sweep, numbers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=trees, seed=seed)
        shares: Mapping[str, float] = optuna.importance.get_param_importances(study, evaluator=evaluator)
    # What is the same in every trial of the group explains nothing.
    return {path: share for path, share in shares.items() if share > 0}


def _copy(sweep: Sweep, numbers: Sequence[int]) -> optuna.Study:
    """Return a study in memory that holds only some trials."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    copy = optuna.create_study(direction="maximize" if sweep.higher_is_better else "minimize")
    proposed = {trial.number: trial for trial in open_study(sweep.folder).get_trials(deepcopy=False)}
    copy.add_trials([proposed[number] for number in numbers])
    return copy
