"""PACE with dropout noise on the deltas (PACE, Table 8)."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pace_tune.methods.adapted import Adapted
from pace_tune.pace.draws import NoisePlan
from pace_tune.pace.pace import Pace
from pace_tune.registry import objectives


@objectives.register("pace_drop")
class PaceDrop(Pace):
    """Consistency between views whose deltas are dropped per sample and channel, and rescaled to keep their mean.

    The paper gives no rate. Here the rate is p_l = sigma_l^2 / (1 + sigma_l^2), whose multiplier has PACE's mean 1 and
    variance sigma_l^2, so that sigma means the same and only the distribution differs.
    """

    paper: ClassVar[str] = "Ni et al. 2024 (PACE), Table 8, PACE_drop"

    def plan(self, adapted: Adapted) -> NoisePlan:
        """Return PACE's plan with Bernoulli noise."""
        return replace(super().plan(adapted), kind="dropout")
