"""What a task asks of the logits: its loss, and how far two sets of logits are apart."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor
from torch.nn import functional as F


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
