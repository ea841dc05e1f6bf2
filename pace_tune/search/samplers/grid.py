"""Every point of the grid."""

from __future__ import annotations

from optuna.samplers import BaseSampler, RandomSampler

from pace_tune.search.samplers import samplers
from pace_tune.search.samplers.sampler import Sampler


@samplers.register("grid")
class Grid(Sampler):
    """Every point of the full grid once, in the order of the study file.

    The points are put into the sweep's queue when it starts (see `pace_tune.search.proposals`); what is drawn here is only
    what comes after the last of them.
    """

    def build(self, *, seed: int) -> BaseSampler:
        """Return the Optuna sampler for one proposal."""
        return RandomSampler(seed=seed)
