"""What a search algorithm is: a component that makes an Optuna sampler."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol, runtime_checkable

import optuna
from optuna.samplers import BaseSampler

from pace_tune.component import Component
from pace_tune.study.domains import DigitsDomain

DRAWN = "drawn"
"""Attribute of a trial with what was drawn for it and has no distribution of Optuna's: path -> value."""


@runtime_checkable
class WaySampler(Protocol):
    """An Optuna sampler that also proposes ways through a supernet, for which Optuna has no distribution."""

    def way(self, trial: optuna.Trial, *, path: str, domain: DigitsDomain) -> str:
        """Return a way for a trial, from the values of those before it."""


class Sampler(Component):
    """Proposes points of a search space.

    A sampler is made anew for every proposal, with a seed of its own: what a trial is offered depends on the seed of the study,
    the trial's number and what the study knows, and not on whether the process was started again in between.
    """

    @abstractmethod
    def build(self, *, seed: int) -> BaseSampler:
        """Return the Optuna sampler for one proposal."""
