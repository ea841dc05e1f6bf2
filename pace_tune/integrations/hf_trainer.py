"""Any objective in the `Trainer` of transformers, on a model that carries adapters of peft."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer

from pace_tune.errors import UnsupportedError
from pace_tune.integrations.objective_loss import ObjectiveLoss
from pace_tune.methods.carried import Carried
from pace_tune.pace.criterion import Criterion
from pace_tune.pace.objective import Objective

INDEX = "index"
"""Column with the number of each training sample, for objectives that remember them (`pace_fast`)."""


class PaceTrainer(Trainer):
    """`transformers.Trainer` with an objective of ours in the place of the model's loss.

    Evaluation reports the task's own loss, without noise. Everything else, saving included, is the Trainer's.

    Args:
        model: A `peft.PeftModel`.
        args: The Trainer's arguments.
        objective: E.g. ``pace_tune.Pace(sigma=1.0, lambda_=0.5)``.
        criterion: The task's loss; None takes it from the labels: classes, numbers, or tokens.
        options: The Trainer's other arguments.

    Raises:
        UnsupportedError: The model carries no adapters, or several devices share one process.

    Example:
        ``PaceTrainer(peft_model, args, objective=Pace(), train_dataset=data).train()``
    """

    loss_is_scaled_for_ga = False
    _signature_columns: Any

    def __init__(
        self, model: nn.Module, args: Any = None, *, objective: Objective, criterion: Criterion | None = None, **options: Any
    ) -> None:
        self.adapted = Carried(model)
        super().__init__(model, args, **options)
        if self.args.n_gpu > 1:
            raise UnsupportedError("PaceTrainer runs one process a device: start it with `torchrun` or `accelerate launch`.")
        self.model_accepts_loss_kwargs = False
        samples = len(self.train_dataset) if isinstance(self.train_dataset, Sized) else 0
        self.objective_loss = ObjectiveLoss(self.adapted, objective, criterion=criterion, samples=samples)

    def compute_loss(
        self, model: nn.Module, inputs: Mapping[str, Any], return_outputs: bool = False, num_items_in_batch: Tensor | int | None = None
    ) -> Any:
        """Return the objective's loss of a training batch, the task's loss of an evaluation batch."""
        inputs = dict(inputs)
        labels, index = inputs.pop("labels"), inputs.pop(INDEX, None)
        # Through the wrapped model, so that gradients of several processes meet.
        self.adapted.model = model
        if not torch.is_grad_enabled():
            logits = self.adapted(**inputs)
            loss = self.objective_loss.task_loss(logits, labels)
        else:
            terms = self.objective_loss(inputs, labels, step=self.state.global_step, index=index)
            loss, logits = terms.total, terms.logits
        return (loss, {"loss": loss, "logits": logits}) if return_outputs else loss

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        columns: list[str] = self._signature_columns or []
        self._signature_columns = [*columns, *([] if INDEX in columns else [INDEX])]
