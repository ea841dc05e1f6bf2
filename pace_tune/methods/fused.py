"""A frozen linear layer and its perturbed delta as one differentiable operation: fewer passes over the activations.

What it saves: the delta's output is never stored; noise is folded into the small factor of a low-rank delta, since
z * (B A x) = (z * B)(A x), and with many tokens into the weight itself, z * (dW x) = (z * dW) x; the input's two
gradients are summed where the second product is made. `Site.join` over
`delta.lanes` is the plain form and the oracle. Axes as in `context.py`; G groups of rows that share one (z * B), t
their tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from pace_tune.methods import products

try:
    from pace_tune.methods import fused_gpu as kernels
except ImportError:  # PyTorch without Triton knows no GPU
    kernels = None  # type: ignore[assignment]

FEWEST_TOKENS = 8
"""Of a row, below which making its own low-rank factor costs more than it saves: measured on a CPU at ranks 4 to 16."""
FEWEST_TOKENS_DENSE = 64
"""The same of its own dense weight."""
TILE_NUMBERS = 2**19
"""Numbers of such weights at a time: what a core's cache holds."""


class Dense(torch.autograd.Function):
    """W0 x + b0 + z * (dW x + db): as two products, or with many tokens per row as one, with the row's own W0 + z * dW."""

    @staticmethod
    def forward(  # noqa: PLR0917  (autograd passes by position)
        ctx: Any, x_KTI: Tensor, weight_OI: Tensor, bias_O: Tensor | None, change_KOI: Tensor, shift_KO: Tensor | None, z_KRO: Tensor
    ) -> Tensor:
        """Return (K, T, O)."""
        ctx.save_for_backward(x_KTI, weight_OI, change_KOI, z_KRO)
        if _per_row(x_KTI, z_KRO):
            return _forward_per_row(x_KTI, weight_OI, bias_O, change_KOI, shift_KO, z_KRO)
        delta_KTO = torch.bmm(x_KTI, change_KOI.mT) if shift_KO is None else torch.baddbmm(shift_KO[:, None], x_KTI, change_KOI.mT)
        out_KTO = products.linear(x_KTI, weight_OI, bias_O)
        _by_row(out_KTO, z_KRO).addcmul_(_by_row(delta_KTO, z_KRO), z_KRO[:, :, None])
        return out_KTO

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, dW and db."""
        x_KTI, weight_OI, change_KOI, z_KRO = ctx.saved_tensors
        (grad_KTO,) = grads
        noisy_KTO = (_by_row(grad_KTO, z_KRO) * z_KRO[:, :, None]).view_as(grad_KTO)
        grad_x = None
        # A second derivative needs operations that autograd can follow.
        if ctx.needs_input_grad[0] and _per_row(x_KTI, z_KRO) and not torch.is_grad_enabled():
            grad_x = _backward_per_row(grad_KTO.contiguous(), weight_OI, change_KOI, z_KRO)
        elif ctx.needs_input_grad[0]:
            grad_x = products.linear_backward(grad_KTO, weight_OI).baddbmm_(noisy_KTO, change_KOI)
        grad_shift = noisy_KTO.sum(dim=1) if ctx.needs_input_grad[4] else None
        return grad_x, None, None, torch.bmm(noisy_KTO.mT, x_KTI), grad_shift, None


class LowRank(torch.autograd.Function):
    """W0 x + b0 + z * (B (A x) + b), with z folded into (B, b), or on a GPU taken by kernels of its own; z may be missing."""

    @staticmethod
    def forward(  # noqa: PLR0917  (autograd passes by position)
        ctx: Any,
        x_KTI: Tensor,
        weight_OI: Tensor,
        bias_O: Tensor | None,
        up_KrI: Tensor,
        down_KsO: Tensor,
        z_KRO: Tensor | None,
        ones: int | None,
    ) -> Tensor:
        """Return (K, T, O).

        Args:
            down_KsO: The transpose of B, with b as a row where there is one. Channels come last, or products with z crawl.
            ones: Which row that is. A has no such row, or one of zeros.
        """
        hidden_KTs = _hidden(x_KTI, up_KrI, ones)
        ctx.ones = ones
        ctx.save_for_backward(x_KTI, weight_OI, up_KrI, down_KsO, z_KRO, hidden_KTs)
        out_KTO = products.linear(x_KTI, weight_OI, bias_O)
        if on_gpu(x_KTI):
            kernels.join_low_rank(out_KTO, hidden_KTs, down_KsO, z_KRO)
            return out_KTO
        factor_GsO = _folded(down_KsO, z_KRO)
        _groups(out_KTO, factor_GsO).baddbmm_(_groups(hidden_KTs, factor_GsO), factor_GsO)
        return out_KTO

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, A and (B, b)."""
        x_KTI, weight_OI, up_KrI, down_KsO, z_KRO, hidden_KTs = ctx.saved_tensors
        (grad_KTO,) = grads
        if torch.is_grad_enabled():  # a second derivative goes through the hidden units too, and through what autograd can follow
            hidden_KTs = _hidden(x_KTI, up_KrI, ctx.ones)
        if on_gpu(x_KTI) and not torch.is_grad_enabled():
            grad_hidden_KTr, grad_down = kernels.split_low_rank(grad_KTO, hidden_KTs, down_KsO, z_KRO)
            grad_down_KsO = grad_down.to(down_KsO.dtype)
        else:
            grad_hidden_KTr, grad_down_KsO = _split(grad_KTO, hidden_KTs, down_KsO, z_KRO, rank=up_KrI.shape[1])
        grad_x = products.linear_backward(grad_KTO, weight_OI).baddbmm_(grad_hidden_KTr, up_KrI) if ctx.needs_input_grad[0] else None
        return grad_x, None, None, torch.bmm(grad_hidden_KTr.mT, x_KTI), grad_down_KsO, None, None


def low_rank(
    x_KTI: Tensor,
    weight_OI: Tensor,
    bias_O: Tensor | None,
    *,
    up_KrI: Tensor,
    down_KOr: Tensor,
    shift_KO: Tensor | None,
    z_KRO: Tensor | None,
) -> Tensor:
    """Return W0 x + b0 + z * (B (A x) + b)."""
    ones = None if shift_KO is None else up_KrI.shape[1]
    down_KsO = down_KOr.mT if shift_KO is None else torch.cat([down_KOr.mT, shift_KO[:, None]], dim=1)
    if on_gpu(x_KTI):
        size = -(-down_KsO.shape[1] // kernels.ALIGNMENT) * kernels.ALIGNMENT
        up_KrI, down_KsO = (F.pad(factor, (0, 0, 0, size - factor.shape[1])) for factor in (up_KrI, down_KsO))
    return cast(Tensor, LowRank.apply(x_KTI, weight_OI, bias_O, up_KrI, down_KsO, z_KRO, ones))


def on_gpu(x: Tensor) -> bool:
    """Whether low-rank deltas of x take the kernels: on a GPU and in half precision."""
    return x.is_cuda and x.dtype in (torch.bfloat16, torch.float16) and kernels is not None


def dense(x_KTI: Tensor, weight_OI: Tensor, bias_O: Tensor | None, *, change_KOI: Tensor, shift_KO: Tensor | None, z_KRO: Tensor) -> Tensor:
    """Return W0 x + b0 + z * (dW x + db)."""
    return cast(Tensor, Dense.apply(x_KTI, weight_OI, bias_O, change_KOI, shift_KO, z_KRO))


def _hidden(x_KTI: Tensor, up_KrI: Tensor, ones: int | None) -> Tensor:
    """Return A x, with a column of ones where (B, b) has the row b."""
    hidden_KTr = torch.bmm(x_KTI, up_KrI.mT)
    if ones == up_KrI.shape[1]:
        return F.pad(hidden_KTr, (0, 1), value=1.0)
    if ones is not None:
        hidden_KTr[..., ones].fill_(1.0)
    return hidden_KTr


def _split(grad_KTO: Tensor, hidden_KTs: Tensor, down_KsO: Tensor, z_KRO: Tensor | None, *, rank: int) -> tuple[Tensor, Tensor]:
    """Return the gradients of A x and of (B, b) from that of the output."""
    factor_GsO = _folded(down_KsO, z_KRO)
    grad_GtO = _groups(grad_KTO.contiguous(), factor_GsO)
    grad_hidden_KTr = torch.bmm(grad_GtO, factor_GsO[:, :rank].mT).view(*grad_KTO.shape[:2], -1)
    return grad_hidden_KTr, _unfolded(torch.bmm(_groups(hidden_KTs, factor_GsO).mT, grad_GtO), z_KRO)


def _folded(down_KsO: Tensor, z_KRO: Tensor | None) -> Tensor:
    return down_KsO if z_KRO is None else (z_KRO[:, :, None] * down_KsO[:, None]).flatten(0, 1)


def _unfolded(grad_GsO: Tensor, z_KRO: Tensor | None) -> Tensor:
    if z_KRO is None:
        return grad_GsO
    return (grad_GsO.view(*z_KRO.shape[:2], -1, z_KRO.shape[-1]) * z_KRO[:, :, None]).sum(dim=1)


def _groups(tensor_KTC: Tensor, factor_GsO: Tensor) -> Tensor:
    return tensor_KTC.view(len(factor_GsO), -1, tensor_KTC.shape[-1])


def _by_row(tensor_KTO: Tensor, z_KRO: Tensor) -> Tensor:
    return tensor_KTO.reshape(*z_KRO.shape[:2], -1, tensor_KTO.shape[-1])


def _per_row(x_KTI: Tensor, z_KRO: Tensor) -> bool:
    """Whether making a weight per row is cheaper than a second product, and loses nothing."""
    if torch.compiler.is_compiling():  # every tile would be a piece of the program
        return False
    exact = x_KTI.dtype in (torch.float32, torch.float64)
    return exact and x_KTI.device.type == "cpu" and x_KTI.shape[1] >= FEWEST_TOKENS_DENSE * z_KRO.shape[1]


def _forward_per_row(
    x_KTI: Tensor, weight_OI: Tensor, bias_O: Tensor | None, change_KOI: Tensor, shift_KO: Tensor | None, z_KRO: Tensor
) -> Tensor:
    groups = z_KRO.shape[0] * z_KRO.shape[1]
    x_GtI = x_KTI.reshape(groups, -1, x_KTI.shape[-1])
    out_GtO = x_GtI.new_empty(*x_GtI.shape[:2], len(weight_OI))
    bias_KRO = _row_bias(bias_O, shift_KO, z_KRO)
    bias_G1O = None if bias_KRO is None else bias_KRO.reshape(groups, 1, -1)
    for rows, weight_gOI in _tiles(weight_OI, change_KOI, z_KRO):
        if bias_G1O is None:
            torch.bmm(x_GtI[rows], weight_gOI.mT, out=out_GtO[rows])
        else:
            torch.baddbmm(bias_G1O[rows], x_GtI[rows], weight_gOI.mT, out=out_GtO[rows])
    return out_GtO.view(*x_KTI.shape[:2], -1)


def _row_bias(bias_O: Tensor | None, shift_KO: Tensor | None, z_KRO: Tensor) -> Tensor | None:
    if shift_KO is None:
        return None if bias_O is None else bias_O.expand_as(z_KRO)
    return z_KRO * shift_KO[:, None] if bias_O is None else torch.addcmul(bias_O, z_KRO, shift_KO[:, None])


def _backward_per_row(grad_KTO: Tensor, weight_OI: Tensor, change_KOI: Tensor, z_KRO: Tensor) -> Tensor:
    grad_GtO = grad_KTO.view(z_KRO.shape[0] * z_KRO.shape[1], -1, grad_KTO.shape[-1])
    grad_GtI = grad_GtO.new_empty(*grad_GtO.shape[:2], weight_OI.shape[1])
    for rows, weights_gOI in _tiles(weight_OI, change_KOI, z_KRO):
        torch.bmm(grad_GtO[rows], weights_gOI, out=grad_GtI[rows])
    return grad_GtI.view(*grad_KTO.shape[:2], -1)


def _tiles(weight_OI: Tensor, change_KOI: Tensor, z_KRO: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield rows of one lane and their W0 + z * dW, as many at a time as stay in the cache."""
    lanes, rows, _ = z_KRO.shape
    z_GO1 = z_KRO.reshape(lanes * rows, -1, 1)
    tile = next(n for n in range(rows, 0, -1) if rows % n == 0 and (n == 1 or n * weight_OI.numel() <= TILE_NUMBERS))
    buffer_gOI = weight_OI.new_empty(tile, *weight_OI.shape)  # one for all tiles: fresh memory is slow to touch
    for start in range(0, lanes * rows, tile):
        part = slice(start, start + tile)
        yield part, torch.addcmul(weight_OI, z_GO1[part], change_KOI[start // rows], out=buffer_gOI)
