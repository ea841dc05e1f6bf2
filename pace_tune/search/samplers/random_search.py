"""Random search."""

from __future__ import annotations

from optuna.samplers import BaseSampler, RandomSampler

from pace_tune.search.samplers import samplers
from pace_tune.search.samplers.sampler import Sampler


@samplers.register("random")
class RandomSearch(Sampler):
    """Every point by itself, at random: the baseline that any other search has to beat."""

    def build(self, *, seed: int) -> BaseSampler:
        """Return the Optuna sampler for one proposal."""
        return RandomSampler(seed=seed)
