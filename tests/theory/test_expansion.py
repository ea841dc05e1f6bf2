"""Theorem 2 on functions whose expansion is known, and in the small-noise limit of a real ViT; all in float64."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from pace_tune.theory.expansion import d_pace, first_order, first_order_projected, fourth_order, jacobian, second_order
from pace_tune.theory.noisy import ChannelNoise, ElementNoise, Noise
from tests.theory.toys import quadratic, rng, tanh_net


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 2.0])
def test_a_quadratic_has_exactly_the_papers_two_terms(sigma: float):
    f = quadratic(sigma=sigma)
    expected = 2 * sigma**2 * f.squares + sigma**4 * f.hessian_squares
    found = d_pace(f, pairs=200_000, generator=rng())
    assert found.agrees(expected)
    assert found.error < 0.01 * expected


@pytest.mark.parametrize("sigma", [0.5, 2.0])
def test_a_quadratics_terms_are_found_by_differentiation(sigma: float):
    f = quadratic(sigma=sigma)
    assert first_order(f, jacobian(f)) == pytest.approx(2 * sigma**2 * f.squares, rel=1e-12)
    squared, cross = fourth_order(f, probes=4000, generator=rng())
    assert squared.agrees(sigma**4 * f.hessian_squares)
    assert second_order(f, probes=4000, generator=rng(1)).agrees(sigma**4 * f.hessian_squares)
    assert abs(cross.value) < 1e-12


def test_taking_the_linear_part_out_of_the_chance_changes_the_error_and_not_the_mean():
    f = quadratic(sigma=0.2)
    plain = d_pace(f, pairs=20_000, generator=rng())
    controlled = d_pace(f, pairs=20_000, generator=rng(), jacobian_BCD=jacobian(f))
    expected = 2 * 0.04 * f.squares + 0.0016 * f.hessian_squares
    assert controlled.agrees(expected)
    assert controlled.error < plain.error / 5


def test_projections_of_the_outputs_estimate_the_first_order():
    f = tanh_net()
    assert first_order_projected(f, projections=4000, generator=rng()).agrees(first_order(f, jacobian(f)))


def exact_fourth(f) -> tuple[float, float]:
    """Both sums of order sigma^4 by full second and third derivatives."""
    d = len(f.sigma_D)
    squared = cross = 0.0
    for sample in range(f.samples):

        def outputs(z: Tensor, sample: int = sample) -> Tensor:
            rows = torch.ones(f.samples, d, dtype=z.dtype)
            return f(torch.cat([rows[:sample], z[None], rows[sample + 1 :]]))[sample]

        one = torch.ones(d, dtype=torch.float64)
        a_CD = torch.func.jacrev(outputs)(one)
        b_CDD = torch.func.hessian(outputs)(one)
        laplacian_CD = torch.func.jacrev(lambda z: torch.func.hessian(outputs)(z).diagonal(dim1=1, dim2=2).sum(dim=1))(one)
        squared += float(b_CDD.square().sum()) / f.samples
        cross += 2 * float((a_CD * laplacian_CD).sum()) / f.samples
    return squared, cross


def test_the_fourth_order_contains_the_third_derivative():
    """The excess over first order, divided by t^4, tends to B + 2Q and not to the paper's B."""
    f = tanh_net()
    squared, cross = exact_fourth(f)
    probed = fourth_order(f, probes=6000, generator=rng())
    assert probed[0].agrees(squared)
    assert probed[1].agrees(cross)
    assert abs(cross) > 0.3 * squared
    t = 0.05
    small = tanh_net(scale=t)
    slopes = jacobian(small)
    found = d_pace(small, pairs=100_000, generator=rng(), jacobian_BCD=slopes).plus(-first_order(small, slopes)).per(t**4)
    assert found.value == pytest.approx(squared + cross, rel=0.05, abs=4 * found.error)
    assert abs(found.value - squared) > 8 * found.error


@pytest.mark.parametrize("kind", [ChannelNoise, ElementNoise])
def test_a_vits_ratio_to_first_order_tends_to_one_and_its_deviation_falls_as_t_squared(vit, kind):
    adapted, inputs = vit
    deviations, scales = [], (0.2, 0.1, 0.05)
    pairs = 32 if kind is ChannelNoise else 24
    inputs = inputs if kind is ChannelNoise else {"x": inputs["x"][:1]}
    for t in scales:
        f = kind(adapted, inputs, noise=Noise(sigma=1.0), scale=t)
        slopes = jacobian(f)
        first = first_order(f, slopes)
        # The same draws at every scale, so that the chance in the deviation is common to all.
        ratio = d_pace(f, pairs=pairs, generator=rng(), jacobian_BCD=slopes).per(first)
        deviations.append(ratio.value - 1)
    assert abs(deviations[-1]) < 0.05
    powers = [math.log(abs(a / b)) / math.log(2) for a, b in itertools.pairwise(deviations)]
    assert powers[-1] == pytest.approx(2.0, abs=0.15)


def test_a_vits_deviation_is_the_fourth_order_with_the_third_derivative(vit):
    adapted, inputs = vit
    f = ChannelNoise(adapted, {"x": inputs["x"][:1]}, noise=Noise(sigma=1.0), scale=0.05)
    slopes = jacobian(f)
    excess = d_pace(f, pairs=200, generator=rng(), jacobian_BCD=slopes).plus(-first_order(f, slopes))
    squared, cross = fourth_order(f, probes=80, generator=rng(1))
    error = math.hypot(excess.error, squared.error, cross.error)
    assert abs(excess.value - squared.value - cross.value) < 4 * error
    assert abs(excess.value - squared.value) > 4 * error


def test_channel_noise_is_the_noise_that_is_trained_with(vit):
    """a_g = sum over tokens of dh_tg df/dh_tg, from hooks on the layer."""
    adapted, inputs = vit
    f = ChannelNoise(adapted, inputs, noise=Noise())
    a_BCD = jacobian(f)
    name = "blocks.3.mlp.fc1"
    site, seen = adapted.sites[name], {}
    handle = site.register_forward_hook(lambda _, args, out: seen.update(x=args[0], out=out))
    logits = f(torch.ones(f.samples, len(f.sigma_D), dtype=torch.float64))
    handle.remove()
    slope = torch.autograd.grad(logits[:, 2].sum(), seen["out"])[0]
    delta = site.delta.lanes(seen["x"].flatten(0, 1)[None], site.values)[0].view_as(slope)
    torch.testing.assert_close(a_BCD[:, 2, f.columns[name]], (delta * slope).sum(dim=1))


def test_element_noise_is_gradient_times_change(vit):
    adapted, inputs = vit
    one = {"x": inputs["x"][:2]}
    f = ElementNoise(adapted, one, noise=Noise())
    outputs = f(torch.ones(2, len(f.sigma_D), dtype=torch.float64))
    torch.testing.assert_close(outputs, adapted(**one))
    a_BCD = jacobian(f)
    channel = jacobian(ChannelNoise(adapted, one, noise=Noise()))
    # Entries of a row, summed, are the channel's: a_g = sum_i dW_gi grad_gi + db_g grad_g.
    torch.testing.assert_close(a_BCD.sum(dim=-1), channel.sum(dim=-1))


def test_block_zero_and_the_head_are_quiet(vit):
    adapted, inputs = vit
    f = ChannelNoise(adapted, inputs, noise=Noise(sigma=1.2))
    level = {name: float(f.sigma_D[columns][0]) for name, columns in f.columns.items()}
    assert level["blocks.0.attn.qkv"] == 0
    assert level["blocks.1.attn.qkv"] == pytest.approx(1.2)
    assert "head" not in level
    with_head = ChannelNoise(adapted, inputs, noise=Noise(sigma=1.2, head=True))
    assert float(with_head.sigma_D[with_head.columns["head"]][0]) == pytest.approx(1.2 / 6)
