"""Theorem 2 and what it leaves out: d_pace by Monte Carlo, and its expansion in the size of the noise.

All values are sums over outputs and means over the batch (PACE, appendix B.4). In the coordinates of `noisy`, with
z ~ N(1, diag sigma^2), a = dg/dz, b = d2g/dz2 and T = d3g/dz3 at z = 1,

    d_pace = E ||f(z1) - f(z2)||^2 = 2 sum_i s_i^2 a_i^2 + sum_ik s_i^2 s_k^2 b_ik^2 + 2 sum_ik s_i^2 s_k^2 a_i T_ikk + O(s^6).

The paper's eq. 8, 2 sigma^2 ||dtheta * grad||^2 + sigma^4 ||dtheta dtheta^T * H||^2, has the first two sums; they are all there
is for a quadratic function. The third is of the second's order in s and does not vanish in general.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pace_tune.theory.estimate import Estimate
from pace_tune.theory.noisy import NoisyFunction

ROWS = 512
"""Rows of one forward pass."""


@torch.no_grad()
def d_pace(f: NoisyFunction, *, pairs: int, generator: torch.Generator, jacobian_BCD: Tensor | None = None) -> Estimate:
    """Return E ||f(z1) - f(z2)||^2 over pairs of independent draws.

    Args:
        pairs: Draws of (z1, z2) for each sample.
        jacobian_BCD: From `jacobian`. With it each pair is averaged with its mirror image (2 - z1, 2 - z2) and the linear
            part's square, whose mean is known, is taken out of the chance: the error is then that of the remainder.
    """
    found = []
    for noise_VBD in _noise(f, count=2 * pairs, generator=generator):
        first, second = noise_VBD.chunk(2)
        squared_PB = _squared(f, first, second)
        if jacobian_BCD is not None:
            squared_PB = (squared_PB + _squared(f, -first, -second)) / 2
            linear_PBC = torch.einsum("bcd,pbd->pbc", jacobian_BCD, first - second)
            squared_PB = squared_PB - linear_PBC.square().sum(dim=-1)
        found.append(squared_PB.mean(dim=1))
    estimate = Estimate.of(torch.cat(found))
    return estimate if jacobian_BCD is None else estimate.plus(first_order(f, jacobian_BCD))


def jacobian(f: NoisyFunction) -> Tensor:
    """Return a_BCD = df_c/dz_d at z = 1: dtheta-weighted gradients, one backward pass per output."""
    z_BD = unperturbed(f)
    outputs_BC = f(z_BD)
    last = outputs_BC.shape[1] - 1
    rows = [torch.autograd.grad(outputs_BC[:, c].sum(), z_BD, retain_graph=c < last)[0] for c in range(last + 1)]
    return torch.stack(rows, dim=1)


def first_order(f: NoisyFunction, jacobian_BCD: Tensor) -> float:
    """Return 2 sum_i sigma_i^2 a_i^2.

    For noise on entries this is 2 sigma^2 ||dtheta * grad f||^2 (eq. 8); for noise shared by a row of dW, a_g is the sum over
    the row and the tokens, sum_t dh_tg df/dh_tg, squared after the sum.
    """
    return float(2 * (jacobian_BCD * f.sigma_D).square().sum(dim=(1, 2)).mean())


def first_order_projected(f: NoisyFunction, *, projections: int, generator: torch.Generator) -> Estimate:
    """Return the same from random projections v of the outputs: E_v (v^T a)^2 = sum_c a_c^2, two passes each."""
    z_BD = unperturbed(f)
    outputs_BC = f(z_BD)
    draws = []
    for i in range(projections):
        v_BC = _normal(outputs_BC, generator)
        (grad_BD,) = torch.autograd.grad((v_BC * outputs_BC).sum(), z_BD, retain_graph=i + 1 < projections)
        draws.append(2 * (grad_BD * f.sigma_D).square().sum(dim=1).mean())
    return Estimate.of(torch.stack(draws))


def second_order(f: NoisyFunction, *, probes: int, generator: torch.Generator) -> Estimate:
    """Return sum_ik sigma_i^2 sigma_k^2 b_ik^2, the paper's sigma^4 term.

    With v ~ N(0, I_C) and u ~ N(0, I_D): E ||S H_v S u||^2, S = diag sigma and H_v the Hessian of v^T f.
    """
    return Estimate.of(torch.stack([half[0] for half in _probed(f, probes=probes, generator=generator, third=False)]))


def fourth_order(f: NoisyFunction, *, probes: int, generator: torch.Generator) -> tuple[Estimate, Estimate]:
    """Return the whole coefficient at order sigma^4: the paper's term, and the one with third derivatives, 2 sum a_i T_ikk.

    The latter is E of twice the third derivative of v^T f along (S^2 a_v, S u, S u).
    """
    draws = list(_probed(f, probes=probes, generator=generator, third=True))
    return Estimate.of(torch.stack([squared for squared, _ in draws])), Estimate.of(torch.stack([cross for _, cross in draws]))


def unperturbed(f: NoisyFunction) -> Tensor:
    """Return z = 1, (B, D), ready to be differentiated."""
    return torch.ones(f.samples, len(f.sigma_D), device=f.sigma_D.device, dtype=f.sigma_D.dtype, requires_grad=True)


def _probed(f: NoisyFunction, *, probes: int, generator: torch.Generator, third: bool) -> Iterator[tuple[Tensor, Tensor]]:
    z_BD = unperturbed(f)
    outputs_BC = f(z_BD)
    for i in range(probes):
        more = i + 1 < probes
        v_BC, u_BD = _normal(outputs_BC, generator), _normal(z_BD, generator) * f.sigma_D
        (grad_BD,) = torch.autograd.grad((v_BC * outputs_BC).sum(), z_BD, create_graph=True)
        curved_BD = slope((grad_BD * u_BD).sum(), z_BD, create_graph=third, retain_graph=more or third)
        squared = (curved_BD.detach() * f.sigma_D).square().sum(dim=1).mean()
        if not third:
            yield squared, squared.new_zeros(())
            continue
        bent_BD = slope((curved_BD * u_BD).sum(), z_BD, create_graph=False, retain_graph=more)
        yield squared, 2 * (bent_BD * grad_BD.detach() * f.sigma_D.square()).sum(dim=1).mean()


def slope(scalar: Tensor, z_BD: Tensor, *, create_graph: bool, retain_graph: bool) -> Tensor:
    """Return the gradient, zero where the function no longer depends on z: a linear function's slope, a quadratic's curvature."""
    if not scalar.requires_grad:
        return torch.zeros_like(z_BD)
    return torch.autograd.grad(scalar, z_BD, create_graph=create_graph, retain_graph=retain_graph)[0]


def _noise(f: NoisyFunction, *, count: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield sigma * n, (V, B, D) with V even, `count` views in all."""
    per_pass = max(2, ROWS // f.samples // 2 * 2)
    for start in range(0, count, per_pass):
        views = min(per_pass, count - start)
        shape = (views, f.samples, len(f.sigma_D))
        yield torch.randn(shape, generator=generator, device=f.sigma_D.device, dtype=f.sigma_D.dtype) * f.sigma_D


def _squared(f: NoisyFunction, first_PBD: Tensor, second_PBD: Tensor) -> Tensor:
    both_ND = 1 + torch.cat([first_PBD, second_PBD]).flatten(0, 1)
    first_NC, second_NC = f(both_ND).chunk(2)
    return (first_NC - second_NC).square().sum(dim=1).view(len(first_PBD), f.samples)


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)
