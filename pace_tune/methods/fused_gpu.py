# Kernels are not typed: Triton reads the types off what it is called with.
# ruff: noqa: ANN001, ANN202, PLR0913, PLR0917
# mypy: disable-error-code="import-untyped, untyped-decorator, no-untyped-def"
"""A perturbed low-rank delta on a GPU in half precision: two kernels, each of which passes over the activations once.

Libraries' batched products of rank 4 to 16 with one factor per row took a third of a step of ViT-B there (docs/performance.md).
The first kernel adds z * (B (A x) + b) to the frozen layer's output in place; the second reads that output's gradient once, and makes
the gradients of A x and of (B, b). Axes as in `fused.py`; S is the rank with the bias's row, padded to what tensor cores take.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

ALIGNMENT = 16
"""Fewest rows of a product of tensor cores; S is a multiple of it."""
JOIN_TOKENS, JOIN_CHANNELS = 32, 128
"""Tokens and channels of a program; these and the ones below were the fastest of some fifty on an H200."""
FEWEST_PROGRAMS = 100
"""About as many as a large GPU has multiprocessors: fewer rows than that are cut into shorter pieces."""


class _Tile(NamedTuple):
    tokens: int
    channels: int
    stages: int


MANY_ROWS, FEW_ROWS = _Tile(256, 64, 4), _Tile(64, 128, 3)
"""Of the second kernel."""


@triton.jit
def _join_kernel(
    out_ptr, hidden_ptr, down_ptr, z_ptr, rows, tokens, width,
    size: tl.constexpr, noisy: tl.constexpr, block_t: tl.constexpr, block_o: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    t = tl.program_id(1) * block_t + tl.arange(0, block_t)
    o = tl.program_id(2) * block_o + tl.arange(0, block_o)
    s = tl.arange(0, size)
    in_t, in_o = t < tokens, o < width
    hidden = tl.load(hidden_ptr + (row * tokens + t)[:, None] * size + s[None, :], mask=in_t[:, None], other=0.0)
    down = tl.load(down_ptr + ((row // rows) * size + s)[:, None] * width + o[None, :], mask=in_o[None, :], other=0.0)
    delta = tl.dot(hidden, down)
    if noisy:
        delta = delta * tl.load(z_ptr + row * width + o, mask=in_o, other=0.0).to(tl.float32)[None, :]
    where = out_ptr + (row * tokens + t)[:, None] * width + o[None, :]
    inside = in_t[:, None] & in_o[None, :]
    base = tl.load(where, mask=inside, other=0.0)
    tl.store(where, (base.to(tl.float32) + delta).to(base.dtype), mask=inside)


@triton.jit
def _split_kernel(
    grad_ptr, hidden_ptr, down_ptr, z_ptr, grad_hidden_ptr, parts_ptr, rows, tokens, width,
    size: tl.constexpr, noisy: tl.constexpr, block_t: tl.constexpr, block_o: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    t = tl.program_id(1) * block_t + tl.arange(0, block_t)
    s = tl.arange(0, size)
    in_t = t < tokens
    at_t = (row * tokens + t)[:, None]
    hidden = tl.load(hidden_ptr + at_t * size + s[None, :], mask=in_t[:, None], other=0.0)
    hidden_t = tl.trans(hidden)
    piece = row * tl.num_programs(1) + tl.program_id(1)
    grad_hidden = tl.zeros((block_t, size), dtype=tl.float32)
    for start in range(0, width, block_o):
        o = start + tl.arange(0, block_o)
        in_o = o < width
        grad = tl.load(grad_ptr + at_t * width + o[None, :], mask=in_t[:, None] & in_o[None, :], other=0.0)
        down = tl.load(down_ptr + ((row // rows) * size + s)[:, None] * width + o[None, :], mask=in_o[None, :], other=0.0)
        if noisy:
            z = tl.load(z_ptr + row * width + o, mask=in_o, other=0.0).to(tl.float32)
            grad = (grad.to(tl.float32) * z[None, :]).to(down.dtype)
        grad_hidden += tl.dot(grad, tl.trans(down))
        tl.store(parts_ptr + (piece * size + s)[:, None] * width + o[None, :], tl.dot(hidden_t, grad), mask=in_o[None, :])
    tl.store(grad_hidden_ptr + at_t * size + s[None, :], grad_hidden.to(grad_hidden_ptr.dtype.element_ty), mask=in_t[:, None])


@torch.library.custom_op("pace_tune::join_low_rank", mutates_args={"out_KTO"})
def join_low_rank(out_KTO: Tensor, hidden_KTS: Tensor, down_KSO: Tensor, z_KRO: Tensor | None) -> None:
    """Add z * (hidden (B, b)) to `out_KTO`, (K, T, O) and contiguous; z_KRO may be missing."""
    lanes, length, width = out_KTO.shape
    rows = 1 if z_KRO is None else z_KRO.shape[1]
    tokens = length // rows
    grid = (lanes * rows, triton.cdiv(tokens, JOIN_TOKENS), triton.cdiv(width, JOIN_CHANNELS))
    # The last layout that is told apart at compile time: where there is no noise its pointer is not read.
    z = down_KSO if z_KRO is None else z_KRO.contiguous()
    _join_kernel[grid](
        out_KTO, hidden_KTS.contiguous(), down_KSO.contiguous(), z, rows, tokens, width,
        size=hidden_KTS.shape[2], noisy=z_KRO is not None, block_t=JOIN_TOKENS, block_o=JOIN_CHANNELS,
    )  # fmt: skip


@torch.library.custom_op("pace_tune::split_low_rank", mutates_args=())
def split_low_rank(grad_KTO: Tensor, hidden_KTS: Tensor, down_KSO: Tensor, z_KRO: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the gradients of hidden, (K, T, S), and of (B, b), (K, S, O) in float32, from that of the output."""
    lanes, length, width = grad_KTO.shape
    rows = 1 if z_KRO is None else z_KRO.shape[1]
    tokens, size = length // rows, hidden_KTS.shape[2]
    tile = MANY_ROWS if lanes * rows >= FEWEST_PROGRAMS else FEW_ROWS
    block_t = max(16, min(tile.tokens, triton.next_power_of_2(tokens)))
    pieces = triton.cdiv(tokens, block_t)
    grad_hidden_KTS = torch.empty_like(hidden_KTS, memory_format=torch.contiguous_format)
    parts_KPSO = grad_KTO.new_empty(lanes, rows * pieces, size, width, dtype=torch.float32)
    z = down_KSO if z_KRO is None else z_KRO.contiguous()
    _split_kernel[(lanes * rows, pieces)](
        grad_KTO.contiguous(), hidden_KTS.contiguous(), down_KSO.contiguous(), z, grad_hidden_KTS, parts_KPSO, rows, tokens, width,
        size=size, noisy=z_KRO is not None, block_t=block_t, block_o=tile.channels, num_warps=8, num_stages=tile.stages,
    )  # fmt: skip
    return grad_hidden_KTS, parts_KPSO.sum(dim=1)


@split_low_rank.register_fake
def _(_grad_KTO: Tensor, hidden_KTS: Tensor, down_KSO: Tensor, _z_KRO: Tensor | None) -> tuple[Tensor, Tensor]:
    return torch.empty_like(hidden_KTS, memory_format=torch.contiguous_format), torch.empty_like(down_KSO, dtype=torch.float32)
