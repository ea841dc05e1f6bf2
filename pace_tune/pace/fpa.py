"""FPA: stay close to the pretrained model's outputs, without noise (PACE, eq. 5)."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field

from pace_tune.pace.objective import Objective, Step, Terms
from pace_tune.registry import objectives


@objectives.register("fpa")
class Fpa(Objective):
    """Task loss + lambda * ||f(x; theta) - f(x; theta_0)||^2, the alignment that PACE is compared with.

    The paper does not say which head the pretrained side uses for new classes: ``kept`` runs the frozen backbone under
    the present head (no gradient through it), ``zero`` has no head, so that the term is ||f||^2.
    """

    paper: ClassVar[str] = "Ni et al. 2024 (PACE), eq. 5"
    lane_fields: ClassVar[frozenset[str]] = frozenset({"lambda_"})

    lambda_: float = Field(default=0.5, ge=0, alias="lambda", description="Weight of the alignment term, which sums over logits.")
    head: Literal["kept", "zero"] = Field(default="kept", description="Head of the pretrained reference.")

    def terms(self, step: Step) -> Terms:
        """Return the losses of one clean pass; the reference sees the same DropPath masks."""
        draw = step.draw()
        logits_KBC = step.forward(draw)[:, 0]
        with torch.no_grad(), step.adapted.context.without_adapters():
            reference_KBC = step.forward(draw)[:, 0] if self.head == "kept" else torch.zeros_like(logits_KBC)
        task_loss_K, distance_K = step.task_loss(logits_KBC), step.distance(logits_KBC, reference_KBC)
        total_K = task_loss_K + step.strengths["lambda_"] * distance_K
        return Terms(total_K, task_loss_K.detach(), distance_K.detach(), logits_KBC.detach())
