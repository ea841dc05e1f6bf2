"""PACE with noise on the whole layer output, pretrained part included (PACE, Table 8)."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from pace_tune.methods.adapted import Adapted
from pace_tune.pace.draws import NoisePlan
from pace_tune.pace.pace import Pace
from pace_tune.registry import objectives


@objectives.register("pace_h")
class PaceH(Pace):
    """Consistency between views z * (h0(x) + delta(x)) with z ~ N(1, sigma_l^2): not anchored at the pretrained model."""

    paper: ClassVar[str] = "Ni et al. 2024 (PACE), Table 8, PACE_h"

    sigma: float = Field(default=0.2, ge=0, description="Standard deviation of the multiplier in the first noisy block.")

    def plan(self, adapted: Adapted) -> NoisePlan:
        """Return PACE's plan with noise on the output."""
        return replace(super().plan(adapted), kind="output")
