"""What a search algorithm is: a component that makes an Optuna sampler."""

from __future__ import annotations

from abc import abstractmethod

from optuna.samplers import BaseSampler

from pace_tune.component import Component


class Sampler(Component):
    """Proposes points of a search space.

    A sampler is made anew for every proposal, with a seed of its own: what a trial is offered depends on the seed of the study,
    the trial's number and what the study knows, and not on whether the process was started again in between.
    """

    @abstractmethod
    def build(self, *, seed: int) -> BaseSampler:
        """Return the Optuna sampler for one proposal."""
