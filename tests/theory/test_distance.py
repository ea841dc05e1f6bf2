"""Proposition 1 and Theorem 3 on exact cases, and the distance of a real model; float64."""

import itertools
import math

import pytest
import torch

from pace_tune.theory.distance import alignment, distance_bound_by_d_pace, distance_bounds, fp_distance
from pace_tune.theory.expansion import jacobian, unperturbed
from pace_tune.theory.noisy import ChannelNoise, Noise
from tests.theory.toys import Quadratic, quadratic


def test_a_quadratics_distance_is_exactly_proposition_one():
    f = quadratic()
    parts = alignment(f, jacobian(f))
    assert parts.distance == pytest.approx(parts.quadratic, rel=1e-12)
    assert parts.squares == pytest.approx(f.squares, rel=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_theorem_three_holds_with_both_constants(seed: int):
    f = quadratic(d=8, seed=10 * seed)
    printed, tight = distance_bounds(f.squares, f.hessian_squares, dimension=8)
    assert alignment(f, jacobian(f)).distance <= tight <= printed


@pytest.mark.parametrize("d", [4, 16, 64])
def test_the_tight_constant_is_attained(d: int):
    one = torch.ones(d, dtype=torch.float64)
    f = Quadratic(one, -2 / d * torch.outer(one, one), one)  # a = d, b = -2d
    distance = alignment(f, jacobian(f)).distance
    printed, tight = distance_bounds(f.squares, f.hessian_squares, dimension=d)
    assert distance / tight == pytest.approx(1.0, rel=1e-12)
    assert distance / printed == pytest.approx(2 / 3, rel=1e-12)


def test_the_bound_by_d_pace_follows_from_the_constants():
    f = quadratic(d=6, sigma=0.7)
    d_pace = 2 * 0.7**2 * f.squares + 0.7**4 * f.hessian_squares
    assert alignment(f, jacobian(f)).distance <= distance_bound_by_d_pace(f.sigma_D) * d_pace
    assert distance_bound_by_d_pace(f.sigma_D) == pytest.approx(max(6 / 0.49, 36 / (2 * 0.7**4)))


def test_alignment_lies_between_cancelling_and_equal_parts():
    equal = Quadratic(torch.ones(9).double(), torch.zeros(9, 9).double(), torch.ones(9).double())
    cancelling = Quadratic(torch.tensor([1.0, -1.0]).double(), torch.zeros(2, 2).double(), torch.ones(2).double())
    assert alignment(equal, jacobian(equal)).kappa == pytest.approx(9)
    assert alignment(cancelling, jacobian(cancelling)).kappa == pytest.approx(0)


def test_a_vits_expansion_error_falls_as_the_fourth_power(vit):
    adapted, inputs = vit
    errors = []
    for t in (0.2, 0.1, 0.05, 0.025):
        f = ChannelNoise(adapted, inputs, noise=Noise(), scale=t)
        parts = alignment(f, jacobian(f))
        errors.append(abs(parts.distance - parts.quadratic))
    powers = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert powers[-1] == pytest.approx(4.0, abs=0.2)


def test_references_of_the_distance(vit):
    adapted, inputs = vit
    before = adapted.bank.values_KP.clone()
    head = {key: torch.zeros_like(value) for key, value in adapted.lane_values(0).items() if key.startswith("head/")}
    outputs = adapted(**inputs).detach()
    with adapted.context.without_adapters():
        pretrained = adapted(**inputs).detach()
    kept = fp_distance(adapted, inputs)
    torch.testing.assert_close(kept, (outputs - pretrained).square().sum(dim=1))
    zero = outputs.square().sum(dim=1)
    torch.testing.assert_close(fp_distance(adapted, inputs, head="zero"), zero)
    torch.testing.assert_close(fp_distance(adapted, inputs, head="initial", initial_head=head), zero)
    assert torch.equal(adapted.bank.values_KP, before)


def test_curvature_along_the_change_is_that_of_each_output_by_itself(vit):
    adapted, inputs = vit
    f = ChannelNoise(adapted, inputs, noise=Noise())
    z_BD = unperturbed(f)
    outputs_BC = f(z_BD)
    a_BC, b_BC = jacobian(f).sum(dim=-1), torch.empty_like(outputs_BC)
    for c in range(outputs_BC.shape[1]):
        (grad_BD,) = torch.autograd.grad(outputs_BC[:, c].sum(), z_BD, create_graph=True)
        b_BC[:, c] = torch.autograd.grad(grad_BD.sum(), z_BD, retain_graph=True)[0].sum(dim=1)
    parts = alignment(f, jacobian(f))
    assert parts.quadratic == pytest.approx((a_BC - b_BC / 2).square().sum(dim=1).mean().item(), rel=1e-9)
    assert parts.quadratic != pytest.approx(parts.linear, rel=1e-2)


def test_the_distance_is_what_alignment_sees(vit):
    adapted, inputs = vit
    f = ChannelNoise(adapted, inputs, noise=Noise())
    assert alignment(f, jacobian(f)).distance == pytest.approx(float(fp_distance(adapted, inputs).mean()), rel=1e-10)
