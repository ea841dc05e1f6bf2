"""Inputs and output gradients of every linear layer, as weight gradients are made of them.

The gradient of a scalar with respect to a layer's effective weight W0 + dW is sum_t g_t x_t^T. Working with (x, g)
gives norms that do not depend on how a method parametrises its delta, so that methods compare.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pace_tune.methods.adapted import Adapted


@dataclass
class Tap:
    """One layer's traffic in one forward pass: x (rows, ..., I), out (rows, ..., O)."""

    x: Tensor
    out: Tensor
    has_bias: bool


@contextmanager
def taps(adapted: Adapted) -> Iterator[dict[str, Tap]]:
    """Record every linear layer of the blocks and the head, adapted or not, while the context is open."""
    found: dict[str, Tap] = {}
    names = [place.name for place in adapted.layout.linears()]
    if adapted.head_name:
        names.append(adapted.head_name)
    handles = []
    for name in names:

        def record(module: nn.Module, args: tuple[Any, ...], out: Tensor, key: str = name) -> Tensor:
            if not out.requires_grad:
                out = out.detach().requires_grad_()
            found[key] = Tap(args[0].detach(), out, getattr(module, "base", module).bias is not None)
            return out

        handles.append(adapted.model.get_submodule(name).register_forward_hook(record))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def squared_norms(found: dict[str, Tap], scalar: Tensor, *, groups: int, keep_graph: bool = False) -> dict[str, Tensor]:
    """Return, per layer, the squared norm of d(scalar)/d(W, b), one per group of rows.

    Args:
        scalar: A sum of one scalar per group, each depending on its own rows only.
        groups: G; rows divide evenly into them. K groups give one gradient per lane, K*B one per sample.
    """
    names = list(found)
    grads = torch.autograd.grad(scalar, [found[name].out for name in names], retain_graph=keep_graph, allow_unused=True)
    norms = {}
    for name, grad in zip(names, grads, strict=True):
        tap = found[name]
        if grad is None:
            norms[name] = scalar.new_zeros(groups)
            continue
        x_GTI = tap.x.reshape(groups, -1, tap.x.shape[-1])
        g_GTO = grad.reshape(groups, -1, grad.shape[-1])
        norms[name] = _outer_norm(x_GTI, g_GTO)
        if tap.has_bias:
            norms[name] = norms[name] + g_GTO.sum(dim=1).square().sum(dim=-1)
    return norms


def _outer_norm(x_GTI: Tensor, g_GTO: Tensor) -> Tensor:
    """Return ||sum_t g_t x_t^T||_F^2 by the cheaper of two exact forms."""
    tokens, width = x_GTI.shape[1], x_GTI.shape[2] * g_GTO.shape[2]
    if tokens * tokens <= width:
        return (torch.bmm(x_GTI, x_GTI.mT) * torch.bmm(g_GTO, g_GTO.mT)).sum(dim=(1, 2))
    return torch.bmm(g_GTO.mT, x_GTI).square().sum(dim=(1, 2))
