"""Plain fine-tuning: the task's loss and nothing else."""

from __future__ import annotations

from typing import ClassVar

from pace_tune.pace.objective import Objective, Step, Terms, plain_terms
from pace_tune.registry import objectives


@objectives.register("plain")
class Plain(Objective):
    """The task's loss, without noise or regulariser."""

    paper: ClassVar[str] = "baseline"
    renormalise_drop_path: ClassVar[bool] = False

    def terms(self, step: Step) -> Terms:
        """Return the task's loss of one clean pass."""
        draw = step.draw(renormalise=self.renormalise_drop_path)
        return plain_terms(step, step.forward(draw)[:, 0])
