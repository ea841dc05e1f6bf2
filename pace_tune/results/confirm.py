"""Is the winner really better? Retrain it on train+val with several seeds, beside the same recipe with another objective.

This is the one place where the test split is scored, once per seed, after everything is chosen.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pace_tune.errors import require
from pace_tune.results.best import BestRun
from pace_tune.results.intervals import Interval, mean_interval, paired_p_value
from pace_tune.results.local_runs import Ended, Place, train_runs
from pace_tune.study.run_config import RunConfig

Report = Mapping[str, Any]
AGAINST = ("plain", "noise")
"""What a winner is compared with: without PACE, and with its noise alone, which may be what helped."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One retrained run: its recipe (named by the objective), seed, end state, and test score where it has one."""

    recipe: str
    seed: int
    state: str
    reason: str = ""
    value: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    """Every test score by its name; of a task with several test sets also those of each."""
    lane: str = ""
    """Its folder in the storage: the checkpoint, and what it said of each test example."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The winner against one other recipe, seed by seed.

    Args:
        winner: The winner's recipe.
        other: What it is compared with.
        difference: Winner minus other over the seeds that both finished; positive is better, also where a lower score is.
        verdict: ``better`` or ``worse`` where the 95 % interval excludes 0, otherwise ``cannot tell``.
        p_value: Of the paired t-test that says the same; None where one seed leaves it open.
    """

    winner: str
    other: str
    difference: Interval
    verdict: str
    p_value: float | None = None


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """What `confirm` found: every score, the mean of each recipe, and the winner against each of the others.

    Args:
        trial: The trial of the sweep that was its winner then.
        own_settings: Recipe -> trial, of those that are not the winner's with another objective, but a trial's with all its settings.
    """

    sweep: str
    task: str
    metric: str
    scores: tuple[Score, ...]
    means: Mapping[str, Interval]
    comparisons: tuple[Comparison, ...]
    trial: str = ""
    own_settings: Mapping[str, str] = field(default_factory=dict)

    def as_mapping(self) -> dict[str, Any]:
        """Return plain values for JSON; an interval that one seed leaves open is null."""
        return json.loads(json.dumps(asdict(self)), parse_constant=lambda _: None)  # type: ignore[no-any-return]


def confirm(
    best: BestRun,
    *,
    storage: str | Path,
    seeds: int = 3,
    objectives: Sequence[str] = AGAINST,
    processes: int = 1,
    threads: int | None = None,
    on_report: Callable[[Report], None] | None = None,
) -> Confirmation:
    """Retrain a winner and its recipe with other objectives, and score the test split once per seed.

    All runs train together on this machine, on train+val. Called again after an interruption it goes on where it stopped.

    Args:
        best: The winner, as `find_best` returns it.
        storage: Folder for the runs' checkpoints.
        seeds: How many seeds, from 0.
        objectives: What to compare with. Where the winner's own is among them, also the best run of the sweep with another one.
        processes: How many share the runs.
        threads: Torch threads of a single process; None leaves the choice to torch.
        on_report: Called with each report, for progress.

    Raises:
        ConfigError: `seeds` is below 1, or there is no such objective.
    """
    require(seeds >= 1, "seeds >= 1", seeds=seeds)
    runs = [_Run(recipe, seed, config) for recipe, config in recipes_of(best, objectives).items() for seed in range(seeds)]
    place = Place(storage=str(storage), split="test", processes=processes, threads=threads)
    ends = train_runs({run.lane: run.mapping for run in runs}, place=place, on_report=on_report or (lambda _: None))
    name = best.metric.rpartition("/")[2]
    found = summarise(best, [_score(run, end=ends[run.lane], metric=name) for run in runs])
    return replace(found, own_settings=own_settings(best, objectives))


def recipes_of(best: BestRun, objectives: Sequence[str]) -> dict[str, RunConfig]:
    """Return the recipes to retrain by the name of their objective, the winner first, all set to train on train+val."""
    retrain = {"data.train_on": "train+val", "measure.every_epochs": 0}
    winner = RunConfig.model_validate(best.config).with_values(retrain)
    recipes = {winner.objective.name: winner}
    for name in objectives:
        recipes.setdefault(name, winner.with_values({"objective.name": name}))
    for name in own_settings(best, objectives):
        recipes.setdefault(name, RunConfig.model_validate(best.rival).with_values(retrain))
    return recipes


def own_settings(best: BestRun, objectives: Sequence[str]) -> dict[str, str]:
    """Return recipe -> trial of the run that stands beside a winner with its own settings; {} where none does."""
    winner = str(best.config["objective"]["name"])
    if winner not in objectives or best.rival is None:
        return {}
    rival = str(best.rival["objective"]["name"])
    return {} if rival in objectives else {rival: best.rival_lane}


def summarise(best: BestRun, scores: Sequence[Score]) -> Confirmation:
    """Return means, paired differences and verdicts of scores; the recipe of the first score is the winner."""
    values: dict[str, dict[int, float]] = {}
    for score in scores:
        found = values.setdefault(score.recipe, {})
        if score.value is not None:
            found[score.seed] = score.value
    winner, *others = values
    return Confirmation(
        sweep=best.sweep,
        task=best.data,
        metric=f"test/{best.metric.rpartition('/')[2]}",
        scores=tuple(scores),
        means={recipe: mean_interval(list(found.values())) for recipe, found in values.items()},
        comparisons=tuple(_compare(values, winner, other, higher_is_better=best.higher_is_better) for other in others),
        trial=best.lane,
    )


def _compare(values: Mapping[str, Mapping[int, float]], winner: str, other: str, *, higher_is_better: bool) -> Comparison:
    sign = 1.0 if higher_is_better else -1.0
    both = [seed for seed in values[winner] if seed in values[other]]
    differences = [sign * (values[winner][seed] - values[other][seed]) for seed in both]
    difference = mean_interval(differences)
    # One seed leaves the ends NaN, and no comparison with NaN holds.
    verdict = "better" if difference.low > 0 else "worse" if difference.high < 0 else "cannot tell"
    return Comparison(winner=winner, other=other, difference=difference, verdict=verdict, p_value=paired_p_value(differences))


def _score(run: _Run, *, end: Ended, metric: str) -> Score:
    state, reason = str(end.report["state"]), str(end.report.get("reason", ""))
    value = None if end.scores is None else float(end.scores[metric])
    scores = dict(end.scores or {})
    return Score(recipe=run.recipe, seed=run.seed, state=state, reason=reason, value=value, scores=scores, lane=run.lane)


def run_name(lane: str) -> str:
    """Return what people call a run by its folder's name.

    Example:
        >>> run_name("pace-49dc0df0-s1")
        'pace, seed 1'
    """
    return re.sub(r"-[0-9a-f]{8}-s(\d+)$", r", seed \1", lane)


class _Run:
    """One recipe with one seed."""

    def __init__(self, recipe: str, seed: int, config: RunConfig) -> None:
        self.recipe, self.seed = recipe, seed
        self.mapping = config.with_values({"seed": seed}).as_mapping()
        # The recipe is part of the name: another winner must not go on from this one's checkpoints.
        digest = hashlib.sha256(json.dumps(self.mapping, sort_keys=True).encode()).hexdigest()
        self.lane = f"{recipe}-{digest[:8]}-s{seed}"
