"""Learning rates over a run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pace_tune.study.run_config import OptimConfig


def learning_rates(optim: OptimConfig, *, epoch: int, steps: int) -> list[float]:
    """Return the learning rate of each step of an epoch (numbered from 0).

    ``cosine``: linear warm-up from `warmup_lr`, step by step, then one half cosine from `lr` to `min_lr`.
    ``cosine_published``: what the released code does with timm's scheduler, stepped once an epoch after the epoch, so
    that epochs 0 and 1 both run at `warmup_lr`; the warm-up is not a prefix, the cosine goes on at t = warmup_epochs.
    ``linear``: the same warm-up, then straight down to `min_lr`: the schedule of LoRA's GLUE runs.
    ``constant``: warm-up, then `lr`.
    """
    if optim.schedule == "cosine_published":
        return [_published(optim, epoch)] * steps
    return [_standard(optim, epoch + (step + 1) / steps) for step in range(steps)]


def _standard(optim: OptimConfig, t: float) -> float:
    if t <= optim.warmup_epochs:
        return optim.warmup_lr + (optim.lr - optim.warmup_lr) * t / optim.warmup_epochs
    if optim.schedule == "constant":
        return optim.lr
    # The last step of the run is the only one at min_lr.
    part = (t - optim.warmup_epochs) / (optim.epochs - optim.warmup_epochs)
    return optim.lr + (optim.min_lr - optim.lr) * part if optim.schedule == "linear" else _half_cosine(optim, part)


def _published(optim: OptimConfig, epoch: int) -> float:
    t = max(epoch - 1, 0)
    if t < optim.warmup_epochs:
        return optim.warmup_lr + (optim.lr - optim.warmup_lr) * t / optim.warmup_epochs
    return _half_cosine(optim, t / optim.epochs)


def _half_cosine(optim: OptimConfig, part: float) -> float:
    return optim.min_lr + 0.5 * (optim.lr - optim.min_lr) * (1 + math.cos(math.pi * part))
