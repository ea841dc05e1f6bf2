"""PACE: consistency between noisy views of a sample (Ni, Zhang, Koniusz, NeurIPS 2024, eq. 12)."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from pace_tune.pace.objective import ConsistencyObjective, Step, Terms
from pace_tune.registry import objectives


@objectives.register("pace")
class Pace(ConsistencyObjective):
    """Task loss + lambda * ||f1 - f2||^2 between two views with independent noise; gradient through both.

    Example:
        >>> from pace_tune import Pace
        >>> objective = Pace(sigma=1.2, lambda_=1.0)
    """

    paper: ClassVar[str] = "Ni et al. 2024 (PACE), eq. 12"

    views: int = Field(default=2, ge=2, description="Noisy views per sample; the term is the mean over their pairs.")

    def terms(self, step: Step) -> Terms:
        """Return cross-entropy of the first view and the mean distance over pairs of views."""
        logits_KVBC = step.forward(step.draw(views=self.views), views=self.views)
        first_KBC = logits_KVBC[:, 0]
        return self.combine(step, step.task_loss(first_KBC), self._pairs(step, logits_KVBC), first_KBC)

    def _pairs(self, step: Step, logits_KVBC: Tensor) -> Tensor:
        views = range(self.views)
        pairs = [step.distance(logits_KVBC[:, i], logits_KVBC[:, j]) for i in views for j in views if i < j]
        return torch.stack(pairs).mean(dim=0)
