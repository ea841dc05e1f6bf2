"""PACE_fast: one pass a step, consistency with the logits of the epoch before (PACE, appendix C)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from pace_tune.errors import ConfigError, UnsupportedError
from pace_tune.pace.objective import ConsistencyObjective, Step, Terms
from pace_tune.registry import objectives


@objectives.register("pace_fast")
class PaceFast(ConsistencyObjective):
    """Task loss + lambda * ||f - f of the last epoch||^2; memory of one logit vector per training sample."""

    paper: ClassVar[str] = "Ni et al. 2024 (PACE), appendix C"
    refused: ClassVar[Mapping[str, str]] = {
        "token": "it remembers a logit vector a sample, and a language model has one a token: use pace_lazy"
    }

    def memory(self, *, samples: int, classes: int, sites: int = 0) -> dict[str, Tensor]:
        """Return zeros (samples, classes): in the first epoch the term is ||f||^2, as published."""
        return {"logits": torch.zeros(samples, classes)}

    def terms(self, step: Step) -> Terms:
        """Return the losses, and put this step's logits in the memory."""
        if step.index_KB is None or "logits" not in step.memory:
            raise ConfigError("pace_fast needs `index=` and `memory=objective.memory(samples=..., classes=...)`.")
        logits_KBC = step.forward(step.draw())[:, 0]
        if logits_KBC.ndim > 3:
            raise UnsupportedError(f"objective 'pace_fast' is not defined on language models: {self.refused['token']}.")
        lane_K1 = torch.arange(len(logits_KBC), device=logits_KBC.device)[:, None]
        remembered = step.memory["logits"]
        before_KBC = remembered[lane_K1, step.index_KB].to(logits_KBC.dtype)
        remembered[lane_K1, step.index_KB] = logits_KBC.detach().to(remembered.dtype)
        return self.combine(step, step.task_loss(logits_KBC), step.distance(logits_KBC, before_KBC), logits_KBC)
