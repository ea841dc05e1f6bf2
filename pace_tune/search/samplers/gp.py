"""Gaussian processes."""

from __future__ import annotations

from optuna.samplers import BaseSampler, GPSampler
from pydantic import Field

from pace_tune.search.samplers import samplers
from pace_tune.search.samplers.sampler import Sampler


@samplers.register("gp")
class Gp(Sampler):
    """A Gaussian process: the best of a few numeric domains with up to a few hundred trials; loads torch in the driver."""

    startup_trials: int = Field(default=10, ge=1)
    """Random proposals before the first model."""

    def build(self, *, seed: int) -> BaseSampler:
        """Return the Optuna sampler for one proposal."""
        return GPSampler(seed=seed, n_startup_trials=self.startup_trials)
