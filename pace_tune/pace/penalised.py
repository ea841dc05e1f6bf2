"""A task loss of one clean pass plus a weighted penalty: the shape of most controls."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from pace_tune.pace.objective import Objective, Step, Terms

PEFT_HIDES = {"peft": "peft's layers do not say how their weights change"}
"""Why a penalty on the change of weights does not reach them."""


class Penalised(Objective):
    """Task loss + lambda * penalty; without strength it is `plain`."""

    lane_fields: ClassVar[frozenset[str]] = frozenset({"lambda_"})
    renormalise_drop_path: ClassVar[bool] = False

    lambda_: float = Field(default=1e-3, ge=0, alias="lambda", description="Weight of the penalty.")

    def sum(self, step: Step, logits_KBC: Tensor, penalty_K: Tensor) -> Terms:
        """Return task loss + lambda * penalty."""
        loss_K = step.task_loss(logits_KBC)
        total_K = loss_K + step.strengths["lambda_"] * penalty_K
        return Terms(total_K, loss_K.detach(), penalty_K.detach(), logits_KBC.detach())


class HeadDecayed(Penalised):
    """A penalty beside which the head, which has no pretrained weights, is pulled to zero with a strength of its own."""

    lane_fields: ClassVar[frozenset[str]] = frozenset({"lambda_", "head_decay"})

    head_decay: float = Field(default=0.0, ge=0, description="Weight of half the head's squared norm.")
