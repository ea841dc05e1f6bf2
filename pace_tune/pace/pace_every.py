"""PACE at every N-th step with whole batches, noise alone at the others (PACE, Figure 6)."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field

from pace_tune.errors import ConfigError
from pace_tune.pace.draws import view_of
from pace_tune.pace.objective import ConsistencyObjective, Step, Terms
from pace_tune.registry import objectives


@objectives.register("pace_every")
class PaceEvery(ConsistencyObjective):
    """PACE at steps 0, N, 2N, ... and noisy training between; N = 1 is PACE.

    `pace_lazy` is the published cheaper form with half batches.
    """

    paper: ClassVar[str] = "Ni et al. 2024 (PACE), Figure 6"

    steady: ClassVar[bool] = False
    """One view or two, by the number of the step."""

    interval: int = Field(default=2, ge=1, description="N: the term is active at steps 0, N, 2N, ...")

    def terms(self, step: Step) -> Terms:
        """Return the losses. Both views are drawn at every step, so that lanes out of step draw the same numbers."""
        if step.count_K is None:
            raise ConfigError("pace_every needs `step=`, the number of steps taken.")
        active_K = step.count_K % self.interval == 0
        draw = step.draw(views=2)
        if not bool(active_K.any()):
            logits_KBC = step.forward(view_of(draw, 0, samples=step.samples))[:, 0]
            task_loss_K = step.task_loss(logits_KBC)
            return self.combine(step, task_loss_K, torch.zeros_like(task_loss_K), logits_KBC)
        first_KBC, second_KBC = step.forward(draw, views=2).unbind(dim=1)
        distance_K = torch.where(active_K, step.distance(first_KBC, second_KBC), 0.0)
        return self.combine(step, step.task_loss(first_KBC), distance_K, first_KBC)
