"""AdamW over a bank: all lanes in the same few operations, each with its own rates and step count."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pace_tune.methods.bank import ParameterBank


@dataclass(frozen=True)
class Rates:
    """Per-lane settings, (K, 1) each; `clip_K1` is infinite where gradients are not clipped."""

    weight_decay_K1: Tensor
    beta1_K1: Tensor
    beta2_K1: Tensor
    clip_K1: Tensor


class LaneAdamW:
    """AdamW (Loshchilov and Hutter, 2019) with decoupled weight decay on everything that trains, as PACE's code has it.

    Attributes:
        exp_avg_KP: First moments.
        exp_avg_sq_KP: Second moments.
        count_K: Steps taken.
    """

    eps = 1e-8

    def __init__(self, bank: ParameterBank, rates: Rates) -> None:
        self.bank, self.rates = bank, rates
        self.exp_avg_KP = torch.zeros_like(bank.values_KP)
        self.exp_avg_sq_KP = torch.zeros_like(bank.values_KP)
        self.count_K = torch.zeros(bank.lanes, dtype=torch.float64, device=bank.values_KP.device)
        self._clips = bool(torch.isfinite(rates.clip_K1).any())

    @torch.no_grad()
    def step(self, lr_K: Tensor) -> None:
        """Move every lane by its gradients in the bank."""
        rates, grads_KP = self.rates, self.bank.grads_KP
        if self._clips:
            norm_K1 = grads_KP.norm(dim=1, keepdim=True)
            grads_KP.mul_((rates.clip_K1 / (norm_K1 + 1e-6)).clamp(max=1.0))
        self.count_K += 1
        like = grads_KP.dtype
        correction1_K1 = (1 - rates.beta1_K1.double() ** self.count_K[:, None]).to(like)
        correction2_K1 = (1 - rates.beta2_K1.double() ** self.count_K[:, None]).sqrt().to(like)
        lr_K1 = lr_K[:, None].to(like)
        self.bank.values_KP.mul_(1 - lr_K1 * rates.weight_decay_K1)
        self.exp_avg_KP.lerp_(grads_KP, 1 - rates.beta1_K1)
        self.exp_avg_sq_KP.mul_(rates.beta2_K1).addcmul_(grads_KP * (1 - rates.beta2_K1), grads_KP)
        denominator_KP = self.exp_avg_sq_KP.sqrt().div_(correction2_K1).add_(self.eps)
        self.bank.values_KP.addcdiv_(self.exp_avg_KP * (lr_K1 / correction1_K1), denominator_KP, value=-1)
