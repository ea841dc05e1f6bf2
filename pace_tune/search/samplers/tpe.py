"""Tree-structured Parzen estimators."""

from __future__ import annotations

from optuna.samplers import BaseSampler, TPESampler
from pydantic import Field

from pace_tune.search.samplers import samplers
from pace_tune.search.samplers.sampler import Sampler


@samplers.register("tpe")
class Tpe(Sampler):
    """Tree-structured Parzen estimators: good on mixed and conditional spaces, cheap at any number of trials."""

    startup_trials: int = Field(default=10, ge=1)
    """Random proposals before the first model."""
    candidates: int = Field(default=24, ge=1)
    """Points that the model compares for each proposal."""

    def build(self, *, seed: int) -> BaseSampler:
        """Return the Optuna sampler for one proposal."""
        return TPESampler(
            seed=seed,
            n_startup_trials=self.startup_trials,
            n_ei_candidates=self.candidates,
            multivariate=True,
            # Fields that count only under some names: a model for each group of fields that come together.
            group=True,
            # Trials that still run count as bad ones, so that lanes that start together do not get the same point.
            constant_liar=True,
        )
