"""Products with a frozen matrix: on a CPU by oneDNN, where PyTorch's own choice, MKL, is slower.

PyTorch asks oneDNN in lower precision only. In single precision, on a processor that is not Intel's, MKL's product takes 1.0 to 1.5
times as long, most for large batches and matrices; so those go to the operation that compiled models use. Which of the two it is
depends on the matrix and on the rows of one lane alone, and a row's numbers in neither on how many other rows there are: a lane's
numbers do not change with the lanes beside it.
"""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

FEWEST_ROWS = 512
"""Of a lane; with fewer, a lane alone loses what several gain."""
FEWEST_WEIGHTS = 2**16
"""Of a matrix; what oneDNN takes to begin is to be little beside the product."""


def linear(x_KTI: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    """Return W x + b, (K, T, O); call it where autograd does not look."""
    if _by_onednn(x_KTI, weight_OI):
        return _onednn(x_KTI, weight_OI, bias_O)
    return F.linear(x_KTI, weight_OI, bias_O)


def linear_backward(grad_KTO: Tensor, weight_OI: Tensor) -> Tensor:
    """Return the gradient of x, (K, T, I), from that of W x + b; differentiable where gradients are enabled."""
    if _by_onednn(grad_KTO, weight_OI) and not torch.is_grad_enabled():
        return _onednn(grad_KTO, weight_OI.mT, None)
    return grad_KTO @ weight_OI


def _by_onednn(x_KTI: Tensor, weight_OI: Tensor) -> bool:
    large = x_KTI.shape[1] >= FEWEST_ROWS and weight_OI.numel() >= FEWEST_WEIGHTS
    single = x_KTI.dtype is torch.float32 and x_KTI.device.type == "cpu"
    if not (large and single) or torch.compiler.is_compiling():
        return False
    return bool(torch.backends.mkldnn.enabled) and onednn_is_faster()


def _onednn(x_KTI: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    bias = None if bias_O is None else bias_O.contiguous()  # a strided one is read wrong
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x_KTI, weight_OI, bias, "none", [], "")
    return out


@cache
def onednn_is_faster() -> bool:
    """Whether this is an x86 processor on which it was measured to be: one of another make than Intel's, told on Linux alone."""
    built = torch.backends.mkldnn.is_available() and torch.backends.mkl.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    try:
        return built and platform.machine() == "x86_64" and "GenuineIntel" not in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
