"""FPA with a gradient penalty (PACE, Table 8)."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field

from pace_tune.pace.grad_penalty import GradientPenalised
from pace_tune.pace.objective import Step, Terms
from pace_tune.pace.weight_space import carrying, lane_gradients
from pace_tune.registry import objectives


@objectives.register("fpa_grad_penalty")
class FpaGradPenalty(GradientPenalised):
    """Task loss + alignment * ||f(x; theta) - f(x; theta_0)||^2 + lambda * ||gradient of the task loss||.

    The pretrained side runs under the present head, as `fpa` has it by default.
    """

    paper: ClassVar[str] = "Ni et al. 2024 (PACE), Table 8, FPA+GP"
    lane_fields: ClassVar[frozenset[str]] = frozenset({"lambda_", "radius", "alignment"})

    alignment: float = Field(default=0.5, ge=0, description="Weight of the distance to the pretrained outputs.")

    def terms(self, step: Step) -> Terms:
        """Return the losses; `consistency` is the distance to the pretrained outputs."""
        draw = step.draw()
        logits_KBC = step.forward(draw)[:, 0]
        with torch.no_grad(), step.adapted.context.without_adapters():
            reference_KBC = step.forward(draw)[:, 0]
        loss_K, distance_K = step.task_loss(logits_KBC), step.distance(logits_KBC, reference_KBC)
        grads_KP = lane_gradients(step.adapted, loss_K, keep_graph=True)
        both_K = loss_K + step.strengths["alignment"] * distance_K
        both_KP = lane_gradients(step.adapted, both_K)
        penalty_KP, norm_K = self.penalty(step, draw, grads_KP)
        total_K = carrying(step.adapted, both_K + step.strengths["lambda_"] * norm_K, grads_KP=both_KP + penalty_KP)
        return Terms(total_K, loss_K.detach(), distance_K.detach(), logits_KBC.detach())
