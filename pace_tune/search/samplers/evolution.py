"""Evolution: the search of supernet methods (GLoRA, NOAH), and of any space of choices."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from pydantic import Field

from pace_tune.search.samplers import samplers
from pace_tune.search.samplers.sampler import DRAWN, Sampler
from pace_tune.study.domains import DIGITS, DigitsDomain

TRIES = 100
"""How often a child that was there before is made again."""


class EvolutionSampler(BaseSampler):
    """Random trials at first; then children of the best so far, either one of them mutated or two of them crossed.

    Args:
        seed: Of one proposal.
        population: Random trials at the start.
        parents: How many of the best have children.
        mutation: Chance of each value to be drawn anew in a mutated child.
    """

    def __init__(self, *, seed: int, population: int, parents: int, mutation: float) -> None:
        self.population, self.parents, self.mutation, self._seed = population, parents, mutation, seed
        self._random = RandomSampler(seed=seed)
        self._space = IntersectionSearchSpace()

    def way(self, trial: optuna.Trial, *, path: str, domain: DigitsDomain) -> str:
        """Return a way through a supernet that no trial has taken."""
        rng = random.Random(f"{self._seed}/{path}")
        taken = {way for other in trial.study.get_trials(deepcopy=False) if isinstance(way := _way_of(other, path), str)}
        best = [way for parent in self._best(trial.study) if domain.contains(way := _way_of(parent, path))]
        ways = (self._child(best, domain.sizes, rng) if best else _random_way(domain.sizes, rng) for _ in range(TRIES))
        return next((way for way in ways if way not in taken), domain.middle())

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return what all finished trials have in common."""
        return {name: dist for name, dist in self._space.calculate(study).items() if not dist.single()}

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: Mapping[str, BaseDistribution]) -> dict[str, Any]:
        """Return what a child has of its parents; what is mutated is left out, and drawn by itself."""
        best, rng = self._best(study), random.Random(self._seed)
        if not best:
            return {}
        first, second = rng.choice(best), rng.choice(best)
        if rng.random() < 0.5:
            return {name: first.params[name] for name in search_space if rng.random() >= self.mutation}
        return {name: rng.choice((first, second)).params[name] for name in search_space}

    def sample_independent(self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution) -> Any:
        """Return a random value."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def _best(self, study: optuna.Study) -> list[FrozenTrial]:
        """Return the parents; none while the first population is not complete."""
        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len(study.get_trials(deepcopy=False)) <= self.population or not finished:
            return []
        sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
        return sorted(finished, key=lambda trial: (sign * (trial.value or 0.0), trial.number))[: self.parents]

    def _child(self, best: Sequence[str], sizes: Sequence[int], rng: random.Random) -> str:
        first, second = rng.choice(best), rng.choice(best)
        if rng.random() < 0.5:
            return "".join(rng.choice(pair) for pair in zip(first, second, strict=True))
        fresh = _random_way(sizes, rng)
        return "".join(new if rng.random() < self.mutation else old for old, new in zip(first, fresh, strict=True))


@samplers.register("evolution")
class Evolution(Sampler):
    """Children of the best trials: for ways through a supernet, and for spaces of many choices."""

    population: int = Field(default=50, ge=1)
    """Random trials before the first children."""
    parents: int = Field(default=10, ge=1)
    """How many of the best trials have children."""
    mutation: float = Field(default=0.2, gt=0, le=1)
    """Chance of each value to be drawn anew in a mutated child."""

    def build(self, *, seed: int) -> BaseSampler:
        """Return the Optuna sampler for one proposal."""
        return EvolutionSampler(seed=seed, population=self.population, parents=self.parents, mutation=self.mutation)


def _way_of(trial: FrozenTrial, path: str) -> Any:
    return trial.user_attrs.get(DRAWN, {}).get(path)


def _random_way(sizes: Sequence[int], rng: random.Random) -> str:
    return "".join(DIGITS[rng.randrange(size)] for size in sizes)
