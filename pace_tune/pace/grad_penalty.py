"""Gradient penalty: task loss + lambda * ||gradient|| (PACE, Table 8; Zhao et al., ICML 2022)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from pace_tune.methods.context import Draw
from pace_tune.pace.objective import Objective, Step, Terms
from pace_tune.pace.weight_space import carrying, lane_gradients, moved, uphill
from pace_tune.registry import objectives


class GradientPenalised(Objective):
    """An objective with lambda * ||dL/d(theta)||_2, by one more pass at theta + r * g / ||g||.

    The gradient of ||g|| is H g / ||g||, here (g(theta + r g / ||g||) - g(theta)) / r; Zhao et al. (eq. 9) use the same
    difference. theta are the trainable parameters, L the task loss.
    """

    sums_over_parts: ClassVar[bool] = False
    lane_fields: ClassVar[frozenset[str]] = frozenset({"lambda_", "radius"})

    lambda_: float = Field(default=0.02, ge=0, alias="lambda", description="Weight of the gradient's norm.")
    radius: float = Field(default=0.05, gt=0, description="r: how far the second gradient is taken.")

    def penalty(self, step: Step, draw: Draw, grads_KP: Tensor) -> tuple[Tensor, Tensor]:
        """Return lambda times the gradient of ||g||, (K, P), and ||g||, (K,)."""
        radius_K = step.strengths["radius"]
        with moved(step.adapted, uphill(grads_KP, radius_K=radius_K)):
            there_KP = lane_gradients(step.adapted, step.task_loss(step.forward(draw)[:, 0]))
        scale_K1 = (step.strengths["lambda_"] / radius_K)[:, None]
        return scale_K1 * (there_KP - grads_KP), grads_KP.norm(dim=1)


@objectives.register("grad_penalty")
class GradPenalty(GradientPenalised):
    """Task loss + lambda * ||gradient of the task loss||."""

    paper: ClassVar[str] = "Zhao et al. 2022; Ni et al. 2024 (PACE), Table 8, GP"
    renormalise_drop_path: ClassVar[bool] = False

    def terms(self, step: Step) -> Terms:
        """Return the losses; `consistency` is the gradient's norm."""
        draw = step.draw(renormalise=self.renormalise_drop_path)
        logits_KBC = step.forward(draw)[:, 0]
        loss_K = step.task_loss(logits_KBC)
        grads_KP = lane_gradients(step.adapted, loss_K)
        penalty_KP, norm_K = self.penalty(step, draw, grads_KP)
        total_K = loss_K + step.strengths["lambda_"] * norm_K
        return Terms(carrying(step.adapted, total_K, grads_KP=grads_KP + penalty_KP), loss_K.detach(), norm_K, logits_KBC.detach())
