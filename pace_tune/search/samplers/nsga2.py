"""A genetic algorithm."""

from __future__ import annotations

from optuna.samplers import BaseSampler, NSGAIISampler
from pydantic import Field

from pace_tune.search.samplers import samplers
from pace_tune.search.samplers.sampler import Sampler


@samplers.register("nsga2")
class Nsga2(Sampler):
    """A genetic algorithm: for several goals at once, or for spaces of choices with very many trials."""

    population: int = Field(default=20, ge=2)
    """Trials of a generation."""

    def build(self, *, seed: int) -> BaseSampler:
        """Return the Optuna sampler for one proposal."""
        return NSGAIISampler(seed=seed, population_size=self.population)
