"""Theorem 1's pieces: curvature and the neighbourhood's maximum on cases known in closed form; float64."""

import math

import pytest
import torch
from torch import Tensor

from pace_tune.pace.criterion import Classification
from pace_tune.theory.sharpness import WeightLoss, complexity, gradient, hessian_vector, lambda_max, neighbourhood_max, sharpness
from pace_tune.training.taps import squared_norms, taps
from tests.theory.toys import normal, rng


def bowl(eigenvalues: list[float]):
    basis, _ = torch.linalg.qr(normal(len(eigenvalues), len(eigenvalues), seed=1))
    hessian = basis @ torch.tensor(eigenvalues, dtype=torch.float64).diag() @ basis.T
    slope = normal(len(eigenvalues), seed=2)
    return lambda x: slope @ x + 0.5 * x @ hessian @ x


def zero(size: int) -> Tensor:
    return torch.zeros(size, dtype=torch.float64)


@pytest.mark.parametrize(("eigenvalues", "expected"), [([3, 1, -1], 3), ([1, 0.5, -4], 1), ([-1, -2, -5], 0), ([0, 0, 0], 0)])
def test_largest_curvature_is_signed_and_clipped(eigenvalues: list[float], expected: float):
    found = lambda_max(bowl(eigenvalues), zero(3), generator=rng(), iterations=200, tolerance=1e-10)
    assert found == pytest.approx(expected, abs=1e-6)


def logistic():
    x, w = normal(200, 10, seed=3), normal(10, seed=4)
    y = torch.sign(x @ w + normal(200, seed=5))
    return lambda v: torch.nn.functional.softplus(-y * (x @ v)).mean()


@pytest.mark.parametrize("radius", [0.01, 0.05, 0.2, 1.0])
def test_the_taylor_bound_covers_the_neighbourhood(radius: float):
    loss, at = logistic(), 0.5 * normal(10, seed=6)
    point = sharpness(loss, at, generator=rng(), iterations=200)
    highest = neighbourhood_max(loss, at, radius=radius, steps=100)
    along = float(loss(at + radius * gradient(loss, at) / gradient(loss, at).norm()))
    assert along - 1e-12 <= highest <= point.bound(radius) + radius**3
    assert highest > point.loss


def test_the_maximum_of_a_quadratic_is_found():
    loss, at = bowl([4, 1, -2]), zero(3)
    angles = torch.linspace(0, 2 * math.pi, 400, dtype=torch.float64)
    polar, turn = torch.meshgrid(angles[:200], angles, indexing="ij")
    sphere = torch.stack([polar.sin() * turn.cos(), polar.sin() * turn.sin(), polar.cos()], dim=-1).view(-1, 3)
    expected = max(float(loss(0.7 * point)) for point in sphere[::7])
    assert neighbourhood_max(loss, at, radius=0.7, steps=200) == pytest.approx(expected, rel=2e-3)


def test_complexity_is_vacuous_where_fine_tuning_happens():
    assert complexity(parameters=86_000_000, samples=1000, ratio=1.0) > 200
    assert complexity(parameters=2_200_000, samples=1000, ratio=1.0) > 30
    assert complexity(parameters=86_000_000, samples=10_000, ratio=1.0) < complexity(parameters=86_000_000, samples=1000, ratio=1.0)


def test_the_weight_loss_is_the_models(vit):
    adapted, inputs = vit
    targets = torch.tensor([0, 3, 1, 2])
    loss = WeightLoss(adapted, inputs, targets, criterion=Classification())
    expected = torch.nn.functional.cross_entropy(adapted(**inputs), targets)
    torch.testing.assert_close(loss(loss.start()), expected)
    with taps(adapted) as found:
        outputs = adapted(**inputs)
    norms = squared_norms(found, torch.nn.functional.cross_entropy(outputs, targets), groups=1)
    norm = gradient(loss, loss.start()).norm()
    torch.testing.assert_close(norm.square(), torch.stack(list(norms.values())).sum())


def test_hessian_products_match_differences(vit):
    adapted, inputs = vit
    loss = WeightLoss(adapted, inputs, torch.tensor([0, 3, 1, 2]), criterion=Classification())
    at, v = loss.start(), normal(loss.size, seed=8)
    step = 1e-4 / float(v.norm())
    expected = (gradient(loss, at + step * v) - gradient(loss, at - step * v)) / (2 * step)
    torch.testing.assert_close(hessian_vector(loss, at, v), expected, rtol=1e-4, atol=1e-6)
