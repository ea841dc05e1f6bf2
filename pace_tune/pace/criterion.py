"""What a task asks of the logits: its loss, and how far two sets of logits are apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor
from torch.nn import functional as F

IGNORED = -100
"""The target of a token that is not scored."""


class Criterion(Protocol):
    """Per-lane losses, each averaged over the batch."""

    def task_loss(self, logits_KBC: Tensor, targets_KB: Tensor) -> Tensor:
        """Return the task's loss of every lane, (K,)."""
        ...

    def distance(self, first_KBC: Tensor, second_KBC: Tensor, targets_KB: Tensor) -> Tensor:
        """Return the squared distance between two views' outputs, (K,)."""
        ...


class Classification:
    """Cross-entropy, and the squared L2 distance summed over logits, averaged over the batch (PACE, eq. 12)."""

    def task_loss(self, logits_KBC: Tensor, targets_KB: Tensor) -> Tensor:
        """Return mean cross-entropy, (K,)."""
        return F.cross_entropy(logits_KBC.mT, targets_KB, reduction="none").mean(dim=1)

    def distance(self, first_KBC: Tensor, second_KBC: Tensor, targets_KB: Tensor) -> Tensor:
        """Return mean over the batch of the sum over logits of (f1 - f2)^2, (K,)."""
        return (first_KBC - second_KBC).square().sum(dim=-1).mean(dim=-1)


class Regression(Classification):
    """Squared error of one output; the distance is that of classification with a single logit."""

    def task_loss(self, logits_KBC: Tensor, targets_KB: Tensor) -> Tensor:
        """Return the mean squared error, (K,)."""
        return (logits_KBC[..., 0] - targets_KB).square().mean(dim=1)


class NextToken:
    """Causal language modelling of answers: prompt and padding count for nothing.

    Both terms are means over a sample's answer tokens, then over the batch, so that a long answer weighs as much as a
    short one. The published description leaves the reduction of its consistency term over B x T x V logits open; here a
    token's term is the sum over the vocabulary, so that a sample is to classification what a token is here.
    """

    def task_loss(self, logits_KBTV: Tensor, targets_KBT: Tensor) -> Tensor:
        """Return the mean over the batch of each sample's mean cross-entropy per answer token, (K,)."""
        mask_KBT, next_KBT = answer_mask(targets_KBT, length=logits_KBTV.shape[2])
        loss = F.cross_entropy(logits_KBTV[:, :, :-1].flatten(0, 2).float(), next_KBT.flatten(), ignore_index=IGNORED, reduction="none")
        return _answer_mean(loss.view(next_KBT.shape), mask_KBT)

    def distance(self, first_KBTV: Tensor, second_KBTV: Tensor, targets_KBT: Tensor) -> Tensor:
        """Return the mean over the batch and answer tokens of the sum over the vocabulary of (f1 - f2)^2, (K,)."""
        mask_KBT, _ = answer_mask(targets_KBT, length=first_KBTV.shape[2])
        difference_KBT = (first_KBTV[:, :, :-1] - second_KBTV[:, :, :-1]).float().square().sum(dim=-1)
        return _answer_mean(difference_KBT, mask_KBT)


CRITERIA: Mapping[str, Criterion] = {"class": Classification(), "value": Regression(), "token": NextToken()}
"""By what a task's target is."""


def answer_mask(targets: Tensor, *, length: int) -> tuple[Tensor, Tensor]:
    """Return which positions predict an answer token, and the tokens that they predict, (..., length - 1) both.

    Args:
        targets: (..., T) token ids in place, -100 where nothing is scored; what lies behind `length` is padding.
        length: Positions that the model was run on.
    """
    next_tokens = targets[..., 1:length]
    return next_tokens != IGNORED, next_tokens


def answers_only(logits: Tensor, targets: Tensor) -> Tensor:
    """Return logits_KNTV with zeros where no answer token is predicted; logits of other tasks as they are."""
    if targets.ndim == 1:
        return logits
    mask, _ = answer_mask(targets, length=logits.shape[2])
    return logits * F.pad(mask, (0, 1)).unsqueeze(-1)


def _answer_mean(value_KBT: Tensor, mask_KBT: Tensor) -> Tensor:
    return ((value_KBT * mask_KBT).sum(dim=-1) / mask_KBT.sum(dim=-1).clamp_min(1)).mean(dim=-1)
