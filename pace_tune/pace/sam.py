"""SAM: the gradient at the worst point of a small ball (Foret et al., ICLR 2021)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from pace_tune.pace.objective import Objective, Step, Terms
from pace_tune.pace.weight_space import carrying, lane_gradients, moved, uphill
from pace_tune.registry import objectives


@objectives.register("sam")
class Sam(Objective):
    """Descends along the task loss's gradient at theta + rho * g / ||g||, g its gradient at theta (eq. 2 there).

    theta are the trainable parameters, head included; both passes see the same DropPath masks. The paper of PACE gives
    no rho; 0.05 is the SAM authors' default. In micro-batches each has its own ascent, as in m-sharpness.
    """

    paper: ClassVar[str] = "Foret et al. 2021 (SAM); Ni et al. 2024 (PACE), Table 8"
    sums_over_parts: ClassVar[bool] = False
    lane_fields: ClassVar[frozenset[str]] = frozenset({"rho"})
    renormalise_drop_path: ClassVar[bool] = False

    rho: float = Field(default=0.05, ge=0, description="Radius of the ball, L2 norm over everything that trains.")

    def terms(self, step: Step) -> Terms:
        """Return the loss at theta, with SAM's gradient; `consistency` is by how much the loss rises."""
        draw = step.draw(renormalise=self.renormalise_drop_path)
        logits_KBC = step.forward(draw)[:, 0]
        loss_K = step.task_loss(logits_KBC)
        shift_KP = uphill(lane_gradients(step.adapted, loss_K), radius_K=step.strengths["rho"])
        with moved(step.adapted, shift_KP):
            worst_K = step.task_loss(step.forward(draw)[:, 0])
            grads_KP = lane_gradients(step.adapted, worst_K)
        total_K = carrying(step.adapted, worst_K, grads_KP=grads_KP)
        return Terms(total_K, loss_K.detach(), (worst_K - loss_K).detach(), logits_KBC.detach())
