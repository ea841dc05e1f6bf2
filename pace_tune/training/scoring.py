"""Scores of predictions, for all lanes at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from pace_tune.errors import UnknownNameError
from pace_tune.methods.adapted import Adapted
from pace_tune.pace.criterion import Criterion, answer_mask, answers_only
from pace_tune.training.data import ResidentData

Score = Callable[[Tensor, Tensor], Tensor]
Seen = Callable[[Tensor, Tensor], None]
"""Takes logits (K, N, C) and targets (N,)."""


def accuracy(logits_KNC: Tensor, targets: Tensor) -> Tensor:
    """Return the share of samples whose largest logit is the target's, (K,)."""
    return (logits_KNC.argmax(dim=-1) == targets).float().mean(dim=-1)


def masked_accuracy(logits_KNC: Tensor, targets: Tensor) -> Tensor:
    """Return the accuracy where only classes that occur among the targets may be said, (K,).

    For test sets that hold a part of the classes, e.g. 200 of ImageNet's 1,000.
    """
    absent_C = torch.ones(logits_KNC.shape[-1], dtype=torch.bool, device=logits_KNC.device)
    absent_C[targets.flatten()] = False
    return accuracy(logits_KNC.masked_fill(absent_C, -torch.inf), targets)


def matthews(logits_KNC: Tensor, targets: Tensor) -> Tensor:
    """Return Matthews' correlation coefficient, (K,); Gorodkin's form for more than two classes, 0 where undefined."""
    table_KCC = _confusion(logits_KNC, targets)
    said_KC, true_KC = table_KCC.sum(dim=1), table_KCC.sum(dim=2)
    right_K, count_K = table_KCC.diagonal(dim1=1, dim2=2).sum(dim=1), said_KC.sum(dim=1)
    covariance_K = right_K * count_K - (said_KC * true_KC).sum(dim=1)
    spread_K = (count_K.square() - said_KC.square().sum(dim=1)) * (count_K.square() - true_KC.square().sum(dim=1))
    return _ratio(covariance_K, spread_K.sqrt())


def f1(logits_KNC: Tensor, targets: Tensor) -> Tensor:
    """Return the F1 score of class 1, (K,); 0 where it is neither said nor true."""
    table_KCC = _confusion(logits_KNC, targets)
    return _ratio(2 * table_KCC[:, 1, 1], table_KCC[:, 1].sum(dim=1) + table_KCC[:, :, 1].sum(dim=1))


def pearson(logits_KNC: Tensor, targets: Tensor) -> Tensor:
    """Return Pearson's correlation of the single output with the targets, (K,); 0 where one of them is constant."""
    said_KN = logits_KNC[..., 0].double()
    true_KN = targets.double().expand_as(said_KN)
    said_KN, true_KN = said_KN - said_KN.mean(dim=1, keepdim=True), true_KN - true_KN.mean(dim=1, keepdim=True)
    return _ratio((said_KN * true_KN).sum(dim=1), said_KN.norm(dim=1) * true_KN.norm(dim=1))


def token_accuracy(logits_KNTV: Tensor, targets: Tensor) -> Tensor:
    """Return the share of answer tokens that are the likeliest next ones, each sample counting alike, (K,)."""
    mask, next_tokens = answer_mask(targets, length=logits_KNTV.shape[2])
    right_KNT = (logits_KNTV[:, :, :-1].argmax(dim=-1) == next_tokens) & mask
    return (right_KNT.sum(dim=-1) / mask.sum(dim=-1).clamp_min(1)).mean(dim=-1)


SCORES: Mapping[str, Score] = {
    "accuracy": accuracy,
    "masked_accuracy": masked_accuracy,
    "matthews": matthews,
    "f1": f1,
    "pearson": pearson,
    "token_accuracy": token_accuracy,
}


def score(metric: str, logits_KNC: Tensor, targets: Tensor) -> Tensor:
    """Return a metric of every lane, (K,). Targets are (N,), the same in every lane, or (K, N).

    Raises:
        UnknownNameError: No such metric.
    """
    if metric not in SCORES:
        raise UnknownNameError("metric", metric, SCORES)
    return SCORES[metric](logits_KNC, targets).float()


@torch.no_grad()
def predict(adapted: Adapted, data: ResidentData, *, batch_size: int = 256, limit: int | None = None) -> Tensor:
    """Return logits_KNC of the first `limit` samples (default all), without noise or DropPath, in float32 or better.

    Of a language model they are zero where no answer token is predicted, and padded to the longest batch.

    Args:
        batch_size: Rows per pass, all lanes together.
    """
    count = len(data) if limit is None else min(limit, len(data))
    per_pass = max(1, batch_size // adapted.lanes)
    parts = []
    for start in range(0, count, per_pass):
        rows = slice(start, min(start + per_pass, count))
        logits = adapted(**data.shared_batch(rows, lanes=adapted.lanes))
        parts.append(answers_only(logits.reshape(adapted.lanes, rows.stop - rows.start, *logits.shape[1:]), data.targets[rows]))
    logits_KNC = _joined(parts)
    return logits_KNC.float() if logits_KNC.dtype in (torch.bfloat16, torch.float16) else logits_KNC


def evaluate(
    adapted: Adapted,
    data: ResidentData,
    *,
    criterion: Criterion,
    metrics: Sequence[str],
    limit: int | None = None,
    see: Seen | None = None,
) -> dict[str, Tensor]:
    """Return ``{"loss": (K,), <metric>: (K,), ...}`` of every lane on a split.

    Args:
        see: Is given the logits and targets that were scored.
    """
    logits_KNC = predict(adapted, data, limit=limit)
    targets_N = data.targets[: logits_KNC.shape[1]]
    if see is not None:
        see(logits_KNC, targets_N)
    return judged(logits_KNC, targets_N, criterion=criterion, metrics=metrics)


def judged(logits_KNC: Tensor, targets_N: Tensor, *, criterion: Criterion, metrics: Sequence[str]) -> dict[str, Tensor]:
    """Return ``{"loss": (K,), <metric>: (K,), ...}`` of every lane's logits."""
    if logits_KNC.dtype in (torch.bfloat16, torch.float16):
        logits_KNC = logits_KNC.float()
    targets_KN = targets_N.expand(len(logits_KNC), *targets_N.shape)
    loss_K = criterion.task_loss(logits_KNC, targets_KN)
    return {"loss": loss_K, **{metric: score(metric, logits_KNC, targets_N) for metric in metrics}}


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate along the samples; outputs of shorter batches get zeros at their end."""
    if parts[0].ndim < 4:
        return torch.cat(tuple(parts), dim=1)
    longest = max(part.shape[2] for part in parts)
    return torch.cat([F.pad(part, (0, 0, 0, longest - part.shape[2])) for part in parts], dim=1)


def _confusion(logits_KNC: Tensor, targets: Tensor) -> Tensor:
    """Return how often each class was true (first axis) and said (second), (K, C, C), in float64: counts get multiplied."""
    classes = logits_KNC.shape[-1]
    said_KNC = F.one_hot(logits_KNC.argmax(dim=-1), classes).double()
    true_KNC = F.one_hot(targets, classes).double().expand_as(said_KNC)
    return true_KNC.mT @ said_KNC


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    return torch.where(below > 0, above / below.clamp_min(1e-30), 0.0)
