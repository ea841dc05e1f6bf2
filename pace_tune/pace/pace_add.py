"""PACE with additive noise on the layer's output (PACE, Table 8)."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from pace_tune.methods.adapted import Adapted
from pace_tune.pace.draws import NoisePlan
from pace_tune.pace.pace import Pace
from pace_tune.registry import objectives


@objectives.register("pace_add")
class PaceAdd(Pace):
    """Consistency between views h = h0(x) + delta(x) + n with n ~ N(0, sigma_l^2), logits included.

    The paper gives no scale. Here sigma is in units of the layer's output and falls with depth as PACE's does; unlike a
    multiplier, the noise does not shrink with the delta, so that its term also regularises the pretrained weights' part.
    """

    paper: ClassVar[str] = "Ni et al. 2024 (PACE), Table 8, PACE_add"

    sigma: float = Field(default=0.1, ge=0, description="Standard deviation of the added noise in the first noisy block.")

    def plan(self, adapted: Adapted) -> NoisePlan:
        """Return PACE's plan with added noise."""
        return replace(super().plan(adapted), kind="added")
