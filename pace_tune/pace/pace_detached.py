"""PACE with one differentiated view: the second runs without gradient and lambda counts twice."""

from __future__ import annotations

from typing import ClassVar

import torch

from pace_tune.pace.draws import view_of
from pace_tune.pace.objective import ConsistencyObjective, Step, Terms
from pace_tune.registry import objectives


@objectives.register("pace_detached")
class PaceDetached(ConsistencyObjective):
    """PACE's expected gradient at about three quarters of its cost.

    E||f1 - f2||^2 is symmetric in the views, so each contributes half of its gradient; 2 * lambda through one view has
    the same mean.
    """

    paper: ClassVar[str] = "derived from Ni et al. 2024 (PACE), eq. 12"

    def terms(self, step: Step) -> Terms:
        """Return the losses; `consistency` is the plain distance and `total` carries it twice."""
        both = step.draw(views=2)
        with torch.no_grad():
            second_KBC = step.forward(view_of(both, 1, samples=step.samples))[:, 0]
        first_KBC = step.forward(view_of(both, 0, samples=step.samples))[:, 0]
        task_loss_K, distance_K = step.task_loss(first_KBC), step.distance(first_KBC, second_KBC)
        doubled = self.combine(step, task_loss_K, 2 * distance_K, first_KBC)
        return Terms(doubled.total, doubled.task_loss, distance_K.detach(), doubled.logits)
