"""Products with a frozen matrix: on a CPU of AMD's by oneDNN, where PyTorch's own choice, MKL, is slower.

PyTorch asks oneDNN in lower precision only. In single precision MKL is slower on an AMD EPYC where batches and matrices are large
(docs/performance.md has what a step gains); so those go to the operation that compiled models use. Which of the two it is depends on
the matrix and on the rows of one lane alone, and on one thread a row's numbers are the same whatever the number of rows: a lane's
numbers do not change with the lanes beside it.
"""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEWEST_ROWS = 512
"""Of a lane; with fewer, a lane alone loses what several gain."""
FEWEST_WEIGHTS = 2**16
"""Of a matrix; what oneDNN takes to begin is to be little beside the product."""


def linear(x_KTI: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    """Return W x + b, (K, T, O)."""
    if _by_onednn(x_KTI, weight_OI):
        return _onednn(x_KTI, weight_OI, bias_O)
    return F.linear(x_KTI, weight_OI, bias_O)


def linear_backward(grad_KTO: Tensor, weight_OI: Tensor) -> Tensor:
    """Return the gradient of x, (K, T, I), from that of W x + b."""
    if _by_onednn(grad_KTO, weight_OI):
        return _onednn(grad_KTO, weight_OI.mT, None)
    return grad_KTO @ weight_OI


def _by_onednn(x_KTI: Tensor, weight_OI: Tensor) -> bool:
    # Neither compilers nor autograd can follow the operation.
    if torch.compiler.is_compiling() or torch.is_grad_enabled() or x_KTI.shape[1] < FEWEST_ROWS or weight_OI.numel() < FEWEST_WEIGHTS:
        return False
    single = x_KTI.dtype is torch.float32 and x_KTI.device.type == "cpu"
    plain = type(weight_OI) in (Tensor, nn.Parameter) and weight_OI.is_contiguous()
    return single and plain and bool(torch.backends.mkldnn.enabled) and onednn_is_faster()


def _onednn(x_KTI: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    bias = None if bias_O is None else bias_O.contiguous()  # a strided one is read wrong
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x_KTI, weight_OI, bias, "none", [], "")
    return out


def has_onednn() -> bool:
    """Whether PyTorch was built with the operation."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


@cache
def onednn_is_faster(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor is of the make on which it was measured, which is told on Linux alone, and MKL the other choice."""
    if not (has_onednn() and torch.backends.mkl.is_available() and platform.machine() == "x86_64"):
        return False
    return cpuinfo.exists() and "AuthenticAMD" in cpuinfo.read_text()
