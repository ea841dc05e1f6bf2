"""Scores of predictions, for all lanes at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from pace_tune.errors import UnknownNameError
from pace_tune.methods.adapted import Adapted
from pace_tune.pace.criterion import Criterion
from pace_tune.training.data import ResidentData

Score = Callable[[Tensor, Tensor], Tensor]


def accuracy(logits_KNC: Tensor, targets: Tensor) -> Tensor:
    """Return the share of samples whose largest logit is the target's, (K,)."""
    return (logits_KNC.argmax(dim=-1) == targets).float().mean(dim=-1)


SCORES: Mapping[str, Score] = {"accuracy": accuracy}


def score(metric: str, logits_KNC: Tensor, targets: Tensor) -> Tensor:
    """Return a metric of every lane, (K,). Targets are (N,), the same in every lane, or (K, N).

    Raises:
        UnknownNameError: No such metric.
    """
    if metric not in SCORES:
        raise UnknownNameError("metric", metric, SCORES)
    return SCORES[metric](logits_KNC, targets)


@torch.no_grad()
def predict(adapted: Adapted, data: ResidentData, *, batch_size: int = 256, limit: int | None = None) -> Tensor:
    """Return logits_KNC of the first `limit` samples (default all), without noise or DropPath, in float32 or better.

    Args:
        batch_size: Rows per pass, all lanes together.
    """
    count = len(data) if limit is None else min(limit, len(data))
    per_pass = max(1, batch_size // adapted.lanes)
    parts = []
    for start in range(0, count, per_pass):
        rows = slice(start, min(start + per_pass, count))
        logits = adapted(**data.shared_batch(rows, lanes=adapted.lanes))
        parts.append(logits.reshape(adapted.lanes, rows.stop - rows.start, *logits.shape[1:]))
    logits_KNC = torch.cat(parts, dim=1)
    return logits_KNC.float() if logits_KNC.dtype in (torch.bfloat16, torch.float16) else logits_KNC


def evaluate(adapted: Adapted, data: ResidentData, *, criterion: Criterion, metric: str, limit: int | None = None) -> dict[str, Tensor]:
    """Return ``{"loss": (K,), <metric>: (K,)}`` of every lane on a split."""
    logits_KNC = predict(adapted, data, limit=limit)
    targets_N = data.targets[: logits_KNC.shape[1]]
    targets_KN = targets_N.expand(adapted.lanes, *targets_N.shape)
    return {"loss": criterion.task_loss(logits_KNC, targets_KN), metric: score(metric, logits_KNC, targets_N)}
