"""The GPU's kernels in Triton's interpreter, where there is no GPU: indices, masks and sums, in float32."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

SCRIPT = """
import torch
from pace_tune.methods import fused

fused.on_gpu = lambda x: x.dtype == torch.float32
torch.manual_seed(0)
for lanes, rows, tokens, width_in, width_out, rank, bias, noisy in [
    (2, 3, 37, 20, 80, 4, True, True), (2, 3, 37, 20, 80, 4, False, True), (3, 1, 70, 16, 129, 16, True, False),
]:
    def numbers(*shape):
        return torch.randn(shape)

    weight, b0 = numbers(width_out, width_in), numbers(width_out)
    inputs = [numbers(lanes, rows * tokens, width_in), numbers(lanes, rank, width_in), numbers(lanes, width_out, rank)]
    inputs = [tensor.requires_grad_() for tensor in inputs + ([numbers(lanes, width_out)] if bias else [])]
    x, up, down = inputs[:3]
    shift = inputs[3] if bias else None
    z = 1 + numbers(lanes, rows, width_out) if noisy else None
    found = fused.low_rank(x, weight, b0, up_KrI=up, down_KOr=down, shift_KO=shift, z_KRO=z)
    delta = x @ up.mT @ down.mT + (shift[:, None] if bias else 0)
    noise = 1 if z is None else z[:, :, None]
    plain = torch.nn.functional.linear(x, weight, b0) + (noise * delta.view(lanes, rows, tokens, -1)).reshape(delta.shape)
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-4)
    grad = numbers(*plain.shape)
    expected = torch.autograd.grad(plain, inputs, grad, retain_graph=True)
    for mine, theirs in zip(torch.autograd.grad(found, inputs, grad, retain_graph=True), expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-3)
    # Second derivatives go round the kernels.
    twice = [torch.autograd.grad(out, inputs, grad, create_graph=True)[0].square().sum() for out in (found, plain)]
    for mine, theirs in zip(*(torch.autograd.grad(total, inputs[1:3]) for total in twice), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-2)
print("equal")
"""


def test_kernels_compute_the_plain_form_and_its_gradients():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True, timeout=200, check=False
    )  # fmt: skip
    assert done.stdout == "equal\n", done.stderr
