"""Proposition 1 and Theorem 3: the distance between fine-tuned and pretrained outputs, and what bounds it.

In the coordinates of `noisy`, for one output with a = dg/dz and b = d2g/dz2 at z = 1,

    D^fp = (f(theta) - f(theta_0))^2 = (sum_i a_i - 1/2 sum_ik b_ik)^2 + O(t^4)      (Prop. 1; eq. 6 is exact for quadratics)
         <= 2 d A + d^2 B, A = sum a_i^2, B = sum b_ik^2                             (Thm 3, eq. 9)

and already <= 2 d A + d^2 B / 2, since (a - b/2)^2 <= 2 a^2 + b^2 / 2; that constant is attained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pace_tune.methods.adapted import Adapted
from pace_tune.theory.expansion import unperturbed
from pace_tune.theory.noisy import Inputs, NoisyFunction


@torch.no_grad()
def fp_distance(
    adapted: Adapted, inputs: Inputs, *, head: Literal["kept", "initial", "zero"] = "kept", initial_head: Mapping[str, Tensor] | None = None
) -> Tensor:
    """Return ||f(x; theta) - f(x; theta_0)||^2 of each sample, (B,), of a model with one lane.

    Args:
        head: Of the pretrained side: the trained one, its start values, or none, so that the distance is ||f||^2.
        initial_head: The head's start values by their keys in the bank; for ``initial``.
    """
    outputs_BC: Tensor = adapted(**inputs)
    if head == "zero":
        return outputs_BC.flatten(1).square().sum(dim=1)
    now = adapted.lane_values(0)
    with adapted.context.without_adapters():
        adapted.bank.write(0, {**now, **(initial_head or {})} if head == "initial" else now)
        pretrained_BC: Tensor = adapted(**inputs)
        adapted.bank.write(0, now)
    return (outputs_BC - pretrained_BC).flatten(1).square().sum(dim=1)


@dataclass(frozen=True)
class Alignment:
    """How the parts of a change add up to the distance.

    Attributes:
        distance: D^fp, from z = 1 to z = 0.
        quadratic: (a - b/2)^2, Prop. 1's approximation of it.
        linear: a^2 = (sum_i a_i)^2.
        squares: A = sum_i a_i^2.
    """

    distance: float
    quadratic: float
    linear: float
    squares: float

    @property
    def explained(self) -> float:
        """Prop. 1's form over the distance itself: 1 where the function is quadratic; NaN where nothing has moved."""
        return self.quadratic / self.distance if self.distance else float("nan")

    @property
    def kappa(self) -> float:
        """(sum a)^2 / sum a^2: 0 where the parts cancel, about 1 where their signs are random, d where all are equal."""
        return self.linear / self.squares if self.squares else float("nan")


def alignment(f: NoisyFunction, jacobian_BCD: Tensor) -> Alignment:
    """Return the parts of Prop. 1 at z = 1; sums over outputs, means over the batch.

    Args:
        jacobian_BCD: From `expansion.jacobian`.
    """
    ones_BD = unperturbed(f).detach()
    length_B1 = torch.ones_like(ones_BD[:, :1], requires_grad=True)
    outputs_BC = f(length_B1 * ones_BD)
    a_BC = jacobian_BCD.sum(dim=-1)
    b_BC = _along(_along(outputs_BC, length_B1), length_B1)
    with torch.no_grad():
        moved_BC = outputs_BC - f(torch.zeros_like(ones_BD))
    return Alignment(
        distance=_mean(moved_BC),
        quadratic=_mean(a_BC - b_BC / 2),
        linear=_mean(a_BC),
        squares=float(jacobian_BCD.square().sum(dim=(1, 2)).mean()),
    )


def distance_bounds(squares: float, hessian_squares: float, *, dimension: int) -> tuple[float, float]:
    """Return the right-hand side of Theorem 3 as printed, 2dA + d^2 B, and with the tight constant, 2dA + d^2 B / 2."""
    linear, curved = 2 * dimension * squares, dimension**2 * hessian_squares
    return linear + curved, linear + curved / 2


def distance_bound_by_d_pace(sigma_D: Tensor) -> float:
    """Return the factor of D^fp <= factor * d_pace to order sigma^4: max(S, S^2 / 2), S = sum over noisy i of 1 / sigma_i^2.

    With one sigma it is max(d / sigma^2, d^2 / (2 sigma^4)). For a transformer it is of the order of 1e10: true and empty.
    """
    spread = float(sigma_D[sigma_D > 0].pow(-2).sum())
    return max(spread, spread**2 / 2)


def _along(outputs_BC: Tensor, length_B1: Tensor) -> Tensor:
    """Return the derivative of every output by its sample's length, (B, C), itself differentiable: sum_i d/dz_i at z = length * 1.

    Two backward passes for all outputs: the gradient of u^T outputs is linear in u, and its slope in u is what is asked for.
    """
    if not outputs_BC.requires_grad:
        return torch.zeros_like(outputs_BC)
    u_BC = torch.zeros_like(outputs_BC, requires_grad=True)
    (grad_B1,) = torch.autograd.grad((outputs_BC * u_BC).sum(), length_B1, create_graph=True, allow_unused=True)
    if grad_B1 is None:  # a linear function's slope
        return torch.zeros_like(outputs_BC)
    return torch.autograd.grad(grad_B1.sum(), u_BC, create_graph=True)[0]


def _mean(x_BC: Tensor) -> float:
    return float(x_BC.detach().square().sum(dim=1).mean())
