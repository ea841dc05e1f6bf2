"""What regularisers of the weights need: the change of every weight, gradients a lane, a step aside and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from pace_tune.methods.adapted import Adapted


def head_weights(adapted: Adapted) -> Iterator[Tensor]:
    """Yield the head's weight and bias, (K, ...) each."""
    if adapted.head_name:
        yield from adapted.sites[adapted.head_name].parameters(recurse=False)


def half_squared(parts: Iterator[Tensor], *, like: Tensor) -> Tensor:
    """Return half the sum of squares of every lane, (K,); zero where nothing changes."""
    halves = [0.5 * part.flatten(1).square().sum(dim=1) for part in parts]
    return torch.stack(halves).sum(dim=0) if halves else like.new_zeros(len(like))


def lane_gradients(adapted: Adapted, loss_K: Tensor, *, keep_graph: bool = False) -> Tensor:
    """Return the gradient of each lane's loss for its own trainable parameters, (K, P), laid out as the bank is."""
    bank = adapted.bank
    grads = torch.autograd.grad(loss_K.sum(), list(bank.parameters.values()), retain_graph=keep_graph, allow_unused=True)
    matrix_KP = torch.zeros_like(bank.values_KP)
    for view, grad in zip(bank.views(matrix_KP).values(), grads, strict=True):
        if grad is not None:
            view.copy_(grad)
    return matrix_KP


@contextmanager
def moved(adapted: Adapted, shift_KP: Tensor) -> Iterator[None]:
    """Move every lane's parameters by `shift_KP` while open, and put them back bit for bit.

    No graph may be alive across it: what autograd saved would be another point's.
    """
    values_KP = adapted.bank.values_KP
    before_KP = values_KP.clone()
    values_KP.add_(shift_KP)
    try:
        yield
    finally:
        values_KP.copy_(before_KP)


def uphill(grads_KP: Tensor, *, radius_K: Tensor) -> Tensor:
    """Return radius * g / ||g|| of every lane, (K, P); zero where the gradient is."""
    norm_K1 = grads_KP.norm(dim=1, keepdim=True).clamp_min(torch.finfo(grads_KP.dtype).tiny)
    return torch.mul(grads_KP, radius_K[:, None] / norm_K1)


def carrying(adapted: Adapted, value_K: Tensor, *, grads_KP: Tensor) -> Tensor:
    """Return numbers (K,) whose value is `value_K` and whose gradient is `grads_KP`.

    So an objective that knows its gradient by other means than one graph still hands back something to differentiate.
    """
    views = adapted.bank.views(grads_KP)
    parts = [(parameter * views[key]).flatten(1).sum(dim=1) for key, parameter in adapted.bank.parameters.items()]
    linear_K = torch.stack(parts).sum(dim=0)
    return value_K.detach() + (linear_K - linear_K.detach())
