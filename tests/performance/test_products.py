"""Products by oneDNN are those of PyTorch's own choice, for any memory layout, and a lane's do not depend on the lanes beside it."""

import platform
from unittest import mock

import pytest
import torch
from torch.nn import functional as F

from pace_tune.methods import fused, products
from tests.performance.steps import Operations, a_population, take_steps

ONEDNN = "mkldnn::_linear_pointwise"
ROWS, IN, OUT = products.FEWEST_ROWS, 192, 384

FASTER_HERE = products.onednn_is_faster()

pytestmark = pytest.mark.skipif(not products.has_onednn(), reason="PyTorch was built without oneDNN")


@pytest.fixture(autouse=True)
def anywhere(monkeypatch):
    """Take oneDNN on the processors too where it was not measured."""
    monkeypatch.setattr(products, "onednn_is_faster", lambda: True)


def tensor(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def by(product, *args):
    """What a product gives, and whether oneDNN made it."""
    with torch.no_grad(), Operations() as found:
        out = product(*args)
    return out, found.counts[ONEDNN] == 1


LAYOUTS = {
    "whole": lambda: tensor(2, ROWS, IN),
    "some tokens": lambda: tensor(2, 2 * ROWS, IN)[:, ::2],
    "some channels": lambda: tensor(2, ROWS, 2 * IN)[..., 3 : 3 + IN],
    "turned": lambda: tensor(2, IN, ROWS).mT,
    "repeated": lambda: tensor(2, 1, IN).expand(2, ROWS, IN),
    "not aligned": lambda: tensor(2 * ROWS * IN + 1)[1:].view(2, ROWS, IN),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("bias", [tensor(OUT), tensor(2 * OUT)[::2], None], ids=["bias", "strided bias", "none"])
def test_a_product_is_the_linear_layers(layout, bias):
    x, weight = LAYOUTS[layout](), tensor(OUT, IN)
    out, by_onednn = by(products.linear, x, weight, bias)
    assert by_onednn
    torch.testing.assert_close(out, F.linear(x, weight, bias), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_gradient_is_the_linear_layers(layout):
    grad, weight = LAYOUTS[layout](), tensor(IN, OUT)
    out, by_onednn = by(products.linear_backward, grad, weight)
    assert by_onednn
    torch.testing.assert_close(out, grad @ weight, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("wide", "deep"), [(OUT, IN), (192, 768), (96, 3072)])
@pytest.mark.parametrize("backward", [False, True])
def test_a_lanes_numbers_are_those_it_has_alone(backward, wide, deep, threads):
    product = products.linear_backward if backward else lambda x, weight: products.linear(x, weight, None)
    weight = tensor(deep, wide) if backward else tensor(wide, deep)
    x, before = tensor(8, ROWS + 5, deep), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        together, by_onednn = by(product, x, weight)
        alone = torch.cat([by(product, x[lane : lane + 1], weight)[0] for lane in range(8)])
    finally:
        torch.set_num_threads(before)
    assert by_onednn
    if threads == 1 and FASTER_HERE:  # elsewhere it is not taken
        assert torch.equal(together, alone)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-3)


def test_small_products_and_other_precisions_are_pytorchs():
    for x, weight in (
        (tensor(8, ROWS - 1, IN), tensor(OUT, IN)),
        (tensor(1, ROWS, 64), tensor(64, 64)),
        (tensor(1, ROWS, IN).double(), tensor(OUT, IN).double()),
    ):
        assert not by(products.linear, x, weight, None)[1]
        assert not by(products.linear_backward, x, weight.mT)[1]
    spread = torch.full((), torch.nan).expand(OUT, IN)  # a weight that is elsewhere
    out, by_onednn = by(products.linear, tensor(1, ROWS, IN), spread, None)
    assert out.isnan().all()
    assert not by_onednn
    with torch.backends.mkldnn.flags(enabled=False):
        assert not by(products.linear, tensor(1, ROWS, IN), tensor(OUT, IN), None)[1]


def test_a_second_derivative_goes_through_what_autograd_follows():
    inputs = [tensor(1, ROWS, IN), tensor(OUT, IN), tensor(1, 4, IN), tensor(1, OUT, 4)]

    def penalty(dtype):
        x, weight, up, down = (t.to(dtype).requires_grad_(i != 1) for i, t in enumerate(inputs))
        out = fused.low_rank(x, weight, None, up_KrI=up, down_KOr=down, shift_KO=None, z_KRO=None)
        (grad_x,) = torch.autograd.grad(out.square().mean(), x, create_graph=True)
        return torch.autograd.grad(grad_x.square().sum(), up)[0]

    exact = penalty(torch.float64)
    assert (penalty(torch.float32) - exact).norm() <= 1e-4 * exact.norm()


@pytest.mark.skipif(not (torch.backends.mkl.is_available() and platform.machine() == "x86_64"), reason="there is no MKL to be slower")
def test_it_is_taken_on_processors_on_which_it_was_measured(tmp_path, monkeypatch):
    monkeypatch.undo()
    for vendor in ("AuthenticAMD", "GenuineIntel"):
        (tmp_path / vendor).write_text(f"processor\t: 0\nvendor_id\t: {vendor}\n")
    assert products.onednn_is_faster(tmp_path / "AuthenticAMD")
    assert not products.onednn_is_faster(tmp_path / "GenuineIntel")
    assert not products.onednn_is_faster(tmp_path / "not Linux")


def test_steps_are_those_without_it(monkeypatch):
    def trained(fewest_rows):
        monkeypatch.setattr(products, "FEWEST_ROWS", fewest_rows)
        monkeypatch.setattr(products, "FEWEST_WEIGHTS", 0)
        population = a_population(2)
        with mock.patch.object(products, "_onednn", wraps=products._onednn) as made:
            steps = take_steps(population, 3)
        given = [call.args for call in made.mock_calls]
        return torch.stack([step["loss"] for step in steps]), {"backward" if bias is None else "forward" for _, _, bias in given}

    (losses, directions), (plain, none) = trained(1), trained(10**9)
    assert directions == {"forward", "backward"}
    assert not none
    torch.testing.assert_close(losses, plain, rtol=1e-4, atol=1e-5)
