"""Noise without consistency: what part of PACE's gain is the noise alone (PACE, Table 8)."""

from __future__ import annotations

from typing import ClassVar

from pace_tune.pace.objective import NoisyObjective, Step, Terms, plain_terms
from pace_tune.registry import objectives


@objectives.register("noise")
class Noise(NoisyObjective):
    """The task's loss of one noisy pass, without a consistency term."""

    paper: ClassVar[str] = "Ni et al. 2024 (PACE), Table 8"

    def terms(self, step: Step) -> Terms:
        """Return the task's loss of one noisy pass."""
        return plain_terms(step, step.forward(step.draw())[:, 0])
