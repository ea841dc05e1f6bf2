"""l1: an absolute penalty on the change of the weights (PACE, Table 8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from pace_tune.pace.objective import Step, Terms
from pace_tune.pace.penalised import PEFT_HIDES, Penalised
from pace_tune.registry import objectives


@objectives.register("l1")
class L1(Penalised):
    """Task loss + lambda * ||theta - theta_0||_1 over the effective weights, dW and db, not their factors.

    The paper does not say what is penalised; the head has no pretrained weights and is left alone.
    """

    paper: ClassVar[str] = "Ni et al. 2024 (PACE), Table 8, l1"
    refused: ClassVar[Mapping[str, str]] = PEFT_HIDES

    lambda_: float = Field(default=1e-5, ge=0, alias="lambda", description="Weight of the sum of absolute changes.")

    def terms(self, step: Step) -> Terms:
        """Return the losses of one clean pass."""
        logits_KBC = step.forward(step.draw(renormalise=self.renormalise_drop_path))[:, 0]
        changes = step.adapted.changes()
        penalty_K = sum((part.flatten(1).abs().sum(dim=1) for part in changes), logits_KBC.new_zeros(len(logits_KBC)))
        return self.sum(step, logits_KBC, penalty_K)
