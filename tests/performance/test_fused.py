"""Fused operations against the plain form: outputs, gradients, second derivatives, whole steps."""

import pytest
import torch

from pace_tune.methods import fused
from pace_tune.methods.site import LinearSite
from tests.performance.steps import a_population, take_steps

LANES, ROWS, TOKENS, IN, OUT, RANK = 2, 3, 4, 5, 6, 2
METHODS = ("lora_add", "lora_mul", "lora_mul_vpt_add", "full", "vpt_add")


def tensor(*shape, grad=True):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape))).requires_grad_(grad)


def by_row(tensor_KTO):
    return tensor_KTO.view(LANES, ROWS, TOKENS, -1)


def frozen(bias):
    return tensor(OUT, IN, grad=False), tensor(OUT, grad=False) if bias else None


def pieces(bias):
    return tensor(LANES, ROWS * TOKENS, IN), tensor(LANES, OUT) if bias else None, tensor(LANES, ROWS, OUT, grad=False)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("noisy", [True, False])
def test_low_rank_is_base_and_noisy_delta_to_the_second_derivative(bias, noisy):
    (weight, b0), (x, shift, z), up, down = frozen(bias), pieces(bias), tensor(LANES, RANK, IN), tensor(LANES, OUT, RANK)
    z = z if noisy else None

    def together(x, up, down, *shift):
        return fused.low_rank(x, weight, b0, up_KrI=up, down_KOr=down, shift_KO=shift[0] if shift else None, z_KRO=z)

    inputs = (x, up, down, *([shift] if bias else []))
    delta = x @ up.mT @ down.mT + (shift[:, None] if bias else 0)
    noise = 1 if z is None else z[:, :, None]
    plain = torch.nn.functional.linear(x, weight, b0) + (noise * by_row(delta)).reshape(delta.shape)
    torch.testing.assert_close(together(*inputs), plain)
    assert torch.autograd.gradcheck(together, inputs)
    assert torch.autograd.gradgradcheck(together, inputs)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("tile", [0, 2 * OUT * IN, 2**19])
def test_dense_is_base_and_noisy_delta_to_the_second_derivative(bias, tile, monkeypatch):
    monkeypatch.setattr(fused, "FEWEST_TOKENS_DENSE", TOKENS if tile else TOKENS + 1)
    monkeypatch.setattr(fused, "TILE_NUMBERS", tile)
    (weight, b0), (x, shift, z), change = frozen(bias), pieces(bias), tensor(LANES, OUT, IN)

    def together(x, change, *shift):
        return fused.dense(x, weight, b0, change_KOI=change, shift_KO=shift[0] if shift else None, z_KRO=z)

    inputs = (x, change, *([shift] if bias else []))
    delta = x @ change.mT + (shift[:, None] if bias else 0)
    plain = torch.nn.functional.linear(x, weight, b0) + (z[:, :, None] * by_row(delta)).reshape(delta.shape)
    torch.testing.assert_close(together(*inputs), plain)
    assert torch.autograd.gradcheck(together, inputs)
    assert torch.autograd.gradgradcheck(together, inputs)


@pytest.mark.parametrize("many_tokens", [False, True])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("objective", ["pace", "pace_detached"])
def test_steps_are_those_of_the_plain_form(method, objective, many_tokens, monkeypatch):
    monkeypatch.setattr(fused, "FEWEST_TOKENS_DENSE", 4 if many_tokens else 64)

    def trained(fuses):
        monkeypatch.setattr(LinearSite, "fuses", fuses)
        population = a_population(3, method=method, objective=objective, dtype=torch.float64)
        steps = take_steps(population, 3)
        return torch.stack([step["loss"] for step in steps]), population.adapted.bank.values_KP

    (losses, values), (plain_losses, plain_values) = trained(True), trained(False)
    torch.testing.assert_close(losses, plain_losses, rtol=1e-10, atol=0)
    # AdamW makes much of the rounding of gradients near zero, such as those of a key's bias.
    torch.testing.assert_close(values, plain_values, rtol=0, atol=1e-6)
    assert not torch.equal(losses[0], losses[2])
