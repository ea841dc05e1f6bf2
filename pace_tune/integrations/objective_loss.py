"""An objective inside somebody else's training loop: what it needs beside a batch is kept here."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pace_tune.errors import ConfigError
from pace_tune.methods.adapted import Adapted
from pace_tune.pace.criterion import CRITERIA, Criterion
from pace_tune.pace.objective import Objective, Terms


class ObjectiveLoss:
    """Computes an objective's losses batch by batch.

    Args:
        adapted: The model.
        objective: What to compute.
        criterion: The task's loss; None takes it from the targets: classes, numbers, or tokens with -100 where nothing is scored.
        samples: Size of the training set, for objectives that remember something of every sample.
        generator: Source of the noise; None takes torch's global one.
    """

    def __init__(
        self,
        adapted: Adapted,
        objective: Objective,
        *,
        criterion: Criterion | None = None,
        samples: int = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        self.adapted, self.objective, self.criterion, self.generator = adapted, objective, criterion, generator
        classes = _outputs(adapted)
        self.memory = objective.memory(samples=samples, classes=classes, sites=len(adapted.sites))

    def __call__(self, inputs: Tensor | Mapping[str, Tensor], targets: Tensor, *, step: int, index: Tensor | None = None) -> Terms:
        """Return the losses of one batch.

        Args:
            step: Optimizer steps taken so far.
            index: Which training samples these are, for objectives that remember them.

        Raises:
            ConfigError: The objective needs `index` and the batch has none.
        """
        if "logits" in self.memory and index is None:
            raise ConfigError(f"objective {self.objective.name!r} remembers every sample: its batches need their numbers, `index`.")
        # The frozen model's dropout is off, as in the engine: its masks would differ between the views of a sample.
        self.adapted.eval()
        self.memory = {key: value.to(targets.device) for key, value in self.memory.items()}
        return self.objective(
            self.adapted,
            inputs,
            targets,
            step=step,
            index=index,
            memory=self.memory,
            generator=self.generator,
            criterion=self.criterion or criterion_for(targets),
        )

    def task_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the task's loss of outputs without noise: what is reported on a validation set."""
        criterion = self.criterion or criterion_for(targets)
        return criterion.task_loss(logits[None], targets[None])[0]


def criterion_for(targets: Tensor) -> Criterion:
    """Return the loss that targets ask for by their shape and type."""
    if targets.ndim > 1:
        return CRITERIA["token"]
    return CRITERIA["value" if targets.is_floating_point() else "class"]


def _outputs(adapted: Adapted) -> int:
    head = adapted.layout.head
    return int(head.linear.out_features) if head is not None else 0
