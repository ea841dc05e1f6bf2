"""What is proposed first, and how a point of a study's space is drawn."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna

from pace_tune.search.samplers.sampler import DRAWN, WaySampler
from pace_tune.search.warm_start import warm_points
from pace_tune.study.domains import ChoiceDomain, DigitsDomain, Domain, IntDomain
from pace_tune.study.study_config import Study


@dataclass(frozen=True)
class FirstPoint:
    """A point to try before the sampler has its say."""

    point: Mapping[str, Any]
    """Some or all of the searched paths."""
    override: Mapping[str, Any] = field(default_factory=dict)
    """Values that the study does not search, set for this trial alone."""


def first_points(study: Study) -> Iterator[FirstPoint]:
    """Yield what a sweep tries first: defaults, the same without PACE, the warm start, other sweeps' best, and a grid's points.

    Where the study fixes an objective there is no choice to make for the second; it is the same run with that one value
    changed, and the fields of the objective are not drawn for it.
    """
    points = [FirstPoint(point) for point in study.first_points()]
    name = study.run({}).objective.name
    if study.search.baseline and "objective.name" not in study.space and name != "plain":
        override = {"objective.name": "plain"}
        active = study.active(override)
        points.insert(1, FirstPoint({path: value for path, value in study.defaults().items() if path in active}, override))
    tried = [point.point for point in points if not point.override]
    points += [FirstPoint(point) for point in warm_points(study) if point not in tried]
    yield from points
    if study.search.sampler == "grid":
        tried += [point.point for point in points if not point.override]
        yield from (FirstPoint(point) for point in itertools.islice(study.holes.grid(), study.search.trials) if point not in tried)


def draw(trial: optuna.Trial, *, study: Study, override: Mapping[str, Any]) -> dict[str, Any]:
    """Return the point of a trial: what it was given, then what the sampler proposes for the rest.

    What was drawn before is not drawn again, so that a trial whose driver died half-way is completed, as it would have been then.
    """
    before = set(trial.params)
    point = {**override, **trial.user_attrs.get(DRAWN, {})}
    for path, domain in study.space.items():
        # Names come before the fields that depend on them, so what is active is known when its turn comes.
        if path not in point and path in study.active(point):
            if path in before:
                _pass_over(trial, path)
            point[path] = _way(trial, path, domain) if isinstance(domain, DigitsDomain) else _suggest(trial, path, domain)
    return point


def seed_of(seed: int, *, number: int) -> int:
    """Return the seed of one trial's proposal."""
    return random.Random(f"{seed}/{number}").getrandbits(31)


def _pass_over(trial: optuna.Trial, path: str) -> None:
    """Have the sampler draw once more what is there already, or what comes next would be drawn with its random numbers."""
    frozen = trial.storage.get_trial(trial._trial_id)
    if path not in frozen.system_attrs.get("fixed_params", {}) and path not in trial.relative_params:
        trial.study.sampler.sample_independent(trial.study, frozen, path, trial.distributions[path])


def _way(trial: optuna.Trial, path: str, domain: DigitsDomain) -> str:
    """Return a way through a supernet. Optuna has no distribution for it, so it is kept as the trial's own value."""
    sampler = trial.study.sampler
    assert isinstance(sampler, WaySampler)  # the study was checked
    enqueued = trial.storage.get_trial(trial._trial_id).system_attrs
    given = enqueued.get("fixed_params", {}).get(path)
    way = given if domain.contains(given) else sampler.way(trial, path=path, domain=domain)
    trial.set_user_attr(DRAWN, {**trial.user_attrs.get(DRAWN, {}), path: way})
    return way


def _suggest(trial: optuna.Trial, path: str, domain: Domain) -> Any:
    if isinstance(domain, ChoiceDomain):
        return trial.suggest_categorical(path, domain.choices)
    if isinstance(domain, IntDomain):
        return trial.suggest_int(path, domain.low, domain.high, step=domain.step, log=domain.log)
    assert not isinstance(domain, DigitsDomain)
    return trial.suggest_float(path, domain.low, domain.high, log=domain.log)
