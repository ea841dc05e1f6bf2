"""Covariance matrix adaptation."""

from __future__ import annotations

import importlib.util

from optuna.samplers import BaseSampler, CmaEsSampler
from pydantic import Field

from pace_tune.errors import UnsupportedError
from pace_tune.search.samplers import samplers
from pace_tune.search.samplers.sampler import Sampler


@samplers.register("cmaes")
class Cmaes(Sampler):
    """Covariance matrix adaptation: for many trials of a few numeric domains; choices are drawn at random."""

    startup_trials: int = Field(default=10, ge=1)
    """Random proposals before the first generation."""

    def build(self, *, seed: int) -> BaseSampler:
        """Return the Optuna sampler for one proposal.

        Raises:
            UnsupportedError: The package `cmaes` is not installed.
        """
        if importlib.util.find_spec("cmaes") is None:
            raise UnsupportedError("search.sampler: 'cmaes' needs the package cmaes: pip install cmaes.")
        return CmaEsSampler(seed=seed, n_startup_trials=self.startup_trials, warn_independent_sampling=False)
