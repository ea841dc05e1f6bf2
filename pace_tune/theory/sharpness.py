"""Theorem 1: how much the loss can rise nearby. Gradient norm, largest curvature, and the neighbourhood's maximum.

    max over ||e|| <= rho of L(theta + e) <= L + rho ||grad L|| + rho^2 / 2 max(lambda_max, 0) + O(rho^3)

and with it L_D(theta) <= the right-hand side + R(||theta||^2 / rho^2, 1/n). R is far above any loss at the sizes of fine-tuning
(`complexity`), so the inequality says nothing by itself; the ordering that it suggests is what `verify` tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from pace_tune.methods.adapted import Adapted, merge
from pace_tune.pace.criterion import Criterion
from pace_tune.theory.noisy import Inputs

Loss = Callable[[Tensor], Tensor]
"""A loss as a function of a shift of the weights, (P,) -> scalar, twice differentiable."""


class WeightLoss:
    """The task loss of a batch as a function of a shift of all effective weights and biases of the linear layers.

    The same vector of weights as `measure/grad_norm`: linear layers of the blocks, adapted or not, and the head.

    Args:
        adapted: A model with one lane; merged here.

    Raises:
        UnsupportedError: The method cannot be merged.
    """

    def __init__(self, adapted: Adapted, inputs: Inputs, targets_B: Tensor, *, criterion: Criterion) -> None:
        self.model, self.inputs, self.targets_B, self.criterion = merge(adapted), inputs, targets_B, criterion
        names = [place.name for place in adapted.layout.linears()] + ([adapted.head_name] if adapted.head_name else [])
        self.weights = {
            f"{name}.{key}": value.detach()
            for name in names
            for key, value in self.model.get_submodule(name).named_parameters(recurse=False)
        }
        self.size = sum(value.numel() for value in self.weights.values())

    def start(self) -> Tensor:
        """Return a shift of zero."""
        like = next(iter(self.weights.values()))
        return like.new_zeros(self.size)

    def __call__(self, shift_P: Tensor) -> Tensor:
        """Return the mean loss at weights + shift."""
        parts = shift_P.split([value.numel() for value in self.weights.values()])
        moved = {key: value + part.view_as(value) for (key, value), part in zip(self.weights.items(), parts, strict=True)}
        with sdpa_kernel(SDPBackend.MATH):
            outputs = functional_call(self.model, moved, kwargs=dict(self.inputs))
        logits = cast(Tensor, getattr(outputs, "logits", outputs))
        return self.criterion.task_loss(logits[None], self.targets_B[None])[0]


def gradient(loss: Loss, at_P: Tensor) -> Tensor:
    """Return the gradient at a point, (P,)."""
    at_P = at_P.detach().requires_grad_()
    return torch.autograd.grad(loss(at_P), at_P)[0]


def hessian_vector(loss: Loss, at_P: Tensor, v_P: Tensor) -> Tensor:
    """Return H v at a point, (P,), by differentiating the gradient along v."""
    at_P = at_P.detach().requires_grad_()
    (grad_P,) = torch.autograd.grad(loss(at_P), at_P, create_graph=True)
    return torch.autograd.grad((grad_P * v_P).sum(), at_P)[0]


def lambda_max(loss: Loss, at_P: Tensor, *, generator: torch.Generator, iterations: int = 50, tolerance: float = 1e-3) -> float:
    """Return the largest eigenvalue of the Hessian, or 0 where all are negative (Thm 1 needs it clipped).

    Power iteration finds the eigenvalue of largest size; if that one is negative, it runs again on H shifted by it.

    Args:
        iterations: At most, each one Hessian-vector product.
        tolerance: Relative change at which it stops.
    """
    largest = _power(lambda v_P: hessian_vector(loss, at_P, v_P), at_P, generator, iterations, tolerance)
    if largest < 0:
        shifted = _power(lambda v_P: hessian_vector(loss, at_P, v_P) - largest * v_P, at_P, generator, iterations, tolerance)
        largest = shifted + largest
    return max(largest, 0.0)


def neighbourhood_max(loss: Loss, at_P: Tensor, *, radius: float, steps: int = 20, rate: float = 0.5) -> float:
    """Return the largest loss found within a ball around a point, by projected gradient ascent from SAM's first step.

    Args:
        rate: Step length as a part of the radius; it falls to zero over the steps.
    """
    grad_P = gradient(loss, at_P)
    shift_P = radius * grad_P / grad_P.norm().clamp_min(1e-30)
    best = float(loss(at_P + shift_P).detach())
    for step in range(steps):
        grad_P = gradient(loss, at_P + shift_P)
        length = rate * radius * (1 - step / steps)
        shift_P = shift_P + length * grad_P / grad_P.norm().clamp_min(1e-30)
        shift_P = shift_P * min(1.0, radius / float(shift_P.norm().clamp_min(1e-30)))
        best = max(best, float(loss(at_P + shift_P).detach()))
    return best


@dataclass(frozen=True)
class Sharpness:
    """One point's loss, gradient norm and clipped largest curvature."""

    loss: float
    grad_norm: float
    lambda_max: float

    def bound(self, radius: float) -> float:
        """Return L + rho ||grad|| + rho^2 / 2 lambda_max."""
        return self.loss + radius * self.grad_norm + radius**2 / 2 * self.lambda_max


def sharpness(loss: Loss, at_P: Tensor, *, generator: torch.Generator, iterations: int = 50) -> Sharpness:
    """Measure a point."""
    curvature = lambda_max(loss, at_P, generator=generator, iterations=iterations)
    return Sharpness(float(loss(at_P).detach()), float(gradient(loss, at_P).norm()), curvature)


def complexity(*, parameters: int, samples: int, ratio: float, confidence: float = 0.95) -> float:
    """Return R of Theorem 1 (appendix B.5).

    Args:
        ratio: ||theta||^2 / rho^2.
    """
    delta = 1 - confidence
    spread = parameters * math.log1p(ratio * (1 + math.sqrt(math.log(samples) / parameters)) ** 2)
    return math.sqrt((spread + 4 * math.log(samples / delta) + 8 * math.log(6 * samples + 3 * parameters)) / (samples - 1))


def _power(product: Callable[[Tensor], Tensor], like_P: Tensor, generator: torch.Generator, iterations: int, tolerance: float) -> float:
    v_P = torch.randn(like_P.shape, generator=generator, device=like_P.device, dtype=like_P.dtype)
    v_P, value = v_P / v_P.norm(), 0.0
    for _ in range(iterations):
        product_P = product(v_P)
        before, value = value, float(v_P @ product_P)
        norm = float(product_P.norm())
        if norm == 0 or abs(value - before) <= tolerance * abs(value):
            break
        v_P = product_P / norm
    return value
