"""PACE_lazy with half batches: consistency at every N-th step only (PACE, appendix C)."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field

from pace_tune.errors import ConfigError
from pace_tune.pace.objective import ConsistencyObjective, Step, Terms, paired_inputs
from pace_tune.registry import objectives


@objectives.register("pace_lazy")
class PaceLazy(ConsistencyObjective):
    """Noisy training; every N-th step runs half of the batch twice and adds the consistency term.

    A step costs one pass of B rows either way, so lanes at different steps of the cycle share a population.
    """

    paper: ClassVar[str] = "Ni et al. 2024 (PACE), appendix C"

    interval: int = Field(default=2, ge=1, description="N: the term is active at steps 0, N, 2N, ...")

    def terms(self, step: Step) -> Terms:
        """Return the losses: of the half batch and its pairs on active lanes, of the whole batch on the others."""
        if step.count_K is None:
            raise ConfigError("pace_lazy needs `step=`, the number of steps taken.")
        half = step.samples // 2
        if half == 0:
            raise ConfigError("`batch_size >= 2` must hold for pace_lazy, but got a batch of 1.")
        active_K = step.count_K % self.interval == 0
        draw = step.draw(paired_K=active_K)
        logits_KBC = step.forward(draw, inputs=paired_inputs(step.inputs, active_K))[:, 0]
        first_KBC, second_KBC = logits_KBC[:, :half], logits_KBC[:, half : 2 * half]
        half_targets = step.targets_KB[:, :half]
        on_half_K = step.criterion.task_loss(first_KBC, half_targets)
        task_loss_K = torch.where(active_K, on_half_K, step.task_loss(logits_KBC))
        distance_K = step.criterion.distance(first_KBC, second_KBC, half_targets)
        return self.combine(step, task_loss_K, torch.where(active_K, distance_K, 0.0), first_KBC)
