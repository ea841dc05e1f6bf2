"""The recipes next to a winner, what they do differently, and whether they can be told apart at all."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pace_tune.results.intervals import Interval, mean_interval
from pace_tune.results.sweep_data import Sweep, Trial
from pace_tune.study.study_config import Study
from pace_tune.study.sweep_folder import STUDY_FILE

NORMAL_95 = 1.96
MOST_EXAMPLES = 20_000
FEWEST_VALUES = 8
"""Distinct accuracies from which the number of examples is read off."""


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A recipe next to the winner.

    Args:
        sweep: The sweep that tried it.
        lane: The trial's name.
        value: Its selection metric.
        behind: How much worse than the winner, positive where it is.
        differs: What it has otherwise: dotted path -> (the winner's, its own).
        verdict: ``worse``, ``better`` or ``cannot tell``: how it stands to the winner.
        basis: What the verdict rests on.
    """

    sweep: str
    lane: str
    value: float
    behind: float
    differs: Mapping[str, tuple[Any, Any]]
    verdict: str
    basis: str

    def as_row(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _Tried:
    """A trial that ran every epoch, with its resolved run: the seed apart from the recipe."""

    sweep: Sweep
    trial: Trial
    seed: int
    recipe: Mapping[str, Any]

    @property
    def value(self) -> float:
        return self.trial.value or 0.0


def neighbours(sweeps: Sequence[Sweep], *, count: int = 5) -> list[Neighbour]:
    """Return the recipes next to the winner over sweeps of one task and metric, best first.

    Where winner and neighbour ran with the same two seeds or more, they are told apart by the paired difference over them;
    otherwise only by the sampling error of the validation accuracy, where it can be known, and never by less than that.
    """
    tried = _tried(sweeps)
    if not tried:
        return []
    winner, *others = tried
    found: dict[tuple[Any, ...], _Tried] = {}
    for other in others:
        if other.recipe != winner.recipe:
            found.setdefault(tuple(sorted((key, repr(value)) for key, value in other.recipe.items())), other)
    examples = examples_behind(_accuracies(sweeps)) if sweeps[0].metric.endswith("accuracy") else None
    return [_neighbour(winner, other, tried, examples) for other in list(found.values())[:count]]


def examples_behind(accuracies: Iterable[float]) -> int | None:
    """Return how many examples accuracies are shares of: the smallest number that all of them are whole multiples of 1 over.

    Example:
        >>> examples_behind([k / 200 for k in (3, 17, 50, 77, 101, 120, 133, 151, 199)])
        200
    """
    values = sorted({round(value, 7) for value in accuracies if 0 < value < 1})
    if len(values) < FEWEST_VALUES:
        return None
    # Single precision leaves an error of some 6e-8 in each share.
    whole = (n for n in range(2, MOST_EXAMPLES + 1) if all(abs(value * n - round(value * n)) < 2e-7 * n + 1e-9 for value in values))
    return next(whole, None)


def _tried(sweeps: Sequence[Sweep]) -> list[_Tried]:
    """Return what ran every epoch, best first."""
    found = []
    for sweep in sweeps:
        study = Study.load(sweep.folder / STUDY_FILE)
        for trial in sweep.ranked:
            recipe = study.run(trial.point).flat()
            seed = int(recipe.pop("seed", 0))
            found.append(_Tried(sweep, trial, seed, recipe))
    sign = -1.0 if sweeps and sweeps[0].higher_is_better else 1.0
    return sorted(found, key=lambda one: (sign * one.value, one.trial.metrics.get("val/loss", math.inf), one.trial.number))


def _neighbour(winner: _Tried, other: _Tried, tried: Sequence[_Tried], examples: int | None) -> Neighbour:
    sign = 1.0 if winner.sweep.higher_is_better else -1.0
    ours, theirs = ({one.seed: one.value for one in reversed(tried) if one.recipe == recipe} for recipe in (winner.recipe, other.recipe))
    both = sorted(set(ours) & set(theirs))
    if len(both) > 1:
        difference = mean_interval([sign * (theirs[seed] - ours[seed]) for seed in both])
        verdict, basis = _verdict(difference), f"paired over {len(both)} seeds: {difference.mean:+.4f} ± {difference.half_width:.4f}"
    else:
        verdict, basis = _by_examples(winner.value, other.value, examples)
    # A field that only one objective has is worth a word where it was searched; its default follows from the objective's name.
    both_have = set(winner.recipe) & set(other.recipe)
    searched = {*winner.trial.chosen, *other.trial.chosen}
    keys = [key for key in dict.fromkeys((*winner.recipe, *other.recipe)) if key in both_have or key in searched]
    differs = {key: (winner.recipe.get(key), other.recipe.get(key)) for key in keys if winner.recipe.get(key) != other.recipe.get(key)}
    behind = sign * (winner.value - other.value)
    return Neighbour(
        sweep=other.sweep.name, lane=other.trial.lane, value=other.value, behind=behind, differs=differs, verdict=verdict, basis=basis
    )


def _verdict(difference: Interval) -> str:
    return "better" if difference.low > 0 else "worse" if difference.high < 0 else "cannot tell"


def _by_examples(winner: float, other: float, examples: int | None) -> tuple[str, str]:
    if examples is None:
        return "cannot tell", "one seed each"
    error = math.sqrt(sum(max(value * (1 - value), 1 / examples) for value in (winner, other)) / examples)
    beyond = abs(winner - other) > NORMAL_95 * error
    noise = f"one seed each; {examples} validation examples leave ± {NORMAL_95 * error:.4f}"
    return ("worse" if beyond else "cannot tell"), noise


def _accuracies(sweeps: Iterable[Sweep]) -> list[float]:
    return [
        float(report["metrics"][sweep.metric])
        for sweep in sweeps
        for trial in sweep.trials
        for report in trial.reports
        if sweep.metric in report["metrics"]
    ]
