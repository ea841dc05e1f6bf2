"""Any objective in a `LightningModule`: a mixin, so that nothing of Lightning is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from torch import Tensor

from pace_tune.integrations.objective_loss import ObjectiveLoss
from pace_tune.methods.adapted import Adapted
from pace_tune.pace.criterion import Criterion
from pace_tune.pace.objective import Objective

Batch = Any


class PaceSteps:
    """Training and validation steps of a `LightningModule` that has `adapted` and `objective`.

    A batch is ``(inputs, targets)``, ``(inputs, targets, index)``, or a mapping with ``labels`` and maybe ``index`` in it.
    Put it before `LightningModule` among the bases; the optimizer takes ``self.adapted.parameters()``.

    Attributes:
        adapted: From `pace_tune.adapt`.
        objective: E.g. ``pace_tune.Pace()``.
        criterion: The task's loss; None takes it from the targets.
        samples: Size of the training set, for objectives that remember something of every sample.
    """

    adapted: Adapted
    objective: Objective
    criterion: Criterion | None = None
    samples: int = 0

    @cached_property
    def objective_loss(self) -> ObjectiveLoss:
        """The objective on this model."""
        return ObjectiveLoss(self.adapted, self.objective, criterion=self.criterion, samples=self.samples)

    def training_step(self: Any, batch: Batch, batch_idx: int) -> Tensor:
        """Return the objective's loss, and log its parts under the names that sweeps use."""
        inputs, targets, index = unpacked(batch)
        terms = self.objective_loss(inputs, targets, step=self.global_step, index=index)
        found = {"train/loss": terms.total.detach(), "train/task_loss": terms.task_loss, "train/consistency": terms.consistency}
        self.log_dict(found, batch_size=len(targets))
        total: Tensor = terms.total
        return total

    def validation_step(self: Any, batch: Batch, batch_idx: int) -> None:
        """Log the task's loss without noise, and the accuracy where targets are classes."""
        inputs, targets, _ = unpacked(batch)
        logits = self.adapted(**inputs) if isinstance(inputs, Mapping) else self.adapted(inputs)
        found = {"val/loss": self.objective_loss.task_loss(logits, targets)}
        if targets.ndim == 1 and not targets.is_floating_point():
            found["val/accuracy"] = (logits.argmax(dim=-1) == targets).float().mean()
        self.log_dict(found, batch_size=len(targets), prog_bar=True)


def unpacked(batch: Batch) -> tuple[Tensor | dict[str, Tensor], Tensor, Tensor | None]:
    """Return inputs, targets and sample numbers of a batch."""
    if isinstance(batch, Mapping):
        inputs = dict(batch)
        return inputs, inputs.pop("labels"), inputs.pop("index", None)
    inputs, targets, *index = batch
    return inputs, targets, index[0] if index else None
