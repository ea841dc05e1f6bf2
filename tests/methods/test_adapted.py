"""An adapted model in anyone's own hands: merged, taken apart, moved, and trained in a loop of one's own."""

import pickle

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

import pace_tune
from pace_tune.errors import UnknownNameError, UnsupportedError
from pace_tune.methods.adapted import Adapted, adapt, merge, remove, share_frozen
from pace_tune.pace.draws import draw_step, noise_plan
from pace_tune.registry import methods
from tests.training.crews import CLASSES, small_vit

METHODS = ["linear", "full", "lora_add", "lora_mul", "vpt_add", "lora_mul_vpt_add"]


def x_of(count: int, *, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(2)).to(dtype)


def lanes_of(method: str, *, count=3, model=None, **options) -> Adapted:
    """Lanes of different rank, away from their start."""
    ranked = "rank" in methods.get(method).field_names()
    lanes = [methods.build({"name": method, **({"rank": 2 + lane} if ranked else {})}) for lane in range(count)]
    adapted = Adapted(model or small_vit(dtype=torch.float64, **options), lanes, seeds=range(count))
    rng = torch.Generator().manual_seed(1)
    for lane in range(count):
        adapted.bank.write(lane, {key: v + 0.3 * torch.randn(v.shape, generator=rng) for key, v in adapted.lane_values(lane).items()})
    return adapted


# Merging and removing


@pytest.mark.parametrize("method", METHODS)
def test_each_lane_merges_into_a_plain_model_with_its_outputs(method):
    adapted, x = lanes_of(method), x_of(4)
    with torch.no_grad():
        logits_KBC = adapted(x.repeat(3, 1, 1, 1)).unflatten(0, (3, 4))
        for lane in range(3):
            plain = merge(adapted, lane=lane)
            assert type(plain) is VisionTransformer
            assert not [m for m in plain.modules() if type(m).__module__.startswith("pace_tune")]
            torch.testing.assert_close(plain(x), logits_KBC[lane], rtol=1e-10, atol=1e-10)


def test_a_merged_model_is_what_its_class_makes():
    plain = merge(lanes_of("lora_mul_vpt_add", count=1))
    assert list(plain.state_dict()) == list(small_vit().state_dict())
    again = pickle.loads(pickle.dumps(plain))  # nothing of ours hangs on it
    assert torch.equal(again(x_of(1)), plain(x_of(1)))


def test_merging_and_removing_leave_each_other_alone():
    adapted, x = lanes_of("lora_add", count=1), x_of(2)
    before = adapted(x)
    merge(adapted)
    assert torch.equal(adapted(x), before)


def test_a_bias_that_a_layer_cannot_hold_is_refused():
    model = nn.Sequential(nn.Linear(4, 6, bias=False), nn.Tanh(), nn.Linear(6, 2))
    with pytest.raises(UnsupportedError, match="'vpt_add' cannot be merged: 0 has no bias"):
        merge(adapt(model, method="vpt_add"))


def test_a_prompt_in_a_layer_without_a_bias_is_asked_for():
    def sequence() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 6, bias=False), nn.Tanh(), nn.Linear(6, 2))

    merge(adapt(sequence(), method="lora_mul_vpt_add", rank=1))
    with pytest.raises(UnsupportedError, match="0 has no bias"):
        merge(adapt(sequence(), method="lora_mul_vpt_add", rank=1, prompt_without_bias=True))


@pytest.mark.parametrize("method", METHODS)
def test_removing_gives_back_the_model_bit_for_bit(method):
    model, untouched = small_vit(), small_vit()
    model.blocks[1].requires_grad_(False)
    flags = [p.requires_grad for p in model.parameters()]
    structure, x = str(model), x_of(2, dtype=torch.float32)
    adapted = adapt(model, method=method, seed=0)
    adapted.bank.values_KP.normal_()
    adapted(x).sum().backward()
    back = remove(adapted)
    assert back is model
    assert str(back) == structure
    assert [p.requires_grad for p in back.parameters()] == flags
    assert torch.equal(back(x), untouched(x))
    assert all(torch.equal(a, b) for a, b in zip(back.state_dict().values(), untouched.state_dict().values(), strict=True))
    assert not any(module._forward_pre_hooks for module in back.modules())


# One product, lanes, kinds of models


@pytest.mark.parametrize("method", ["lora_mul", "lora_mul_vpt_add", "full"])
def test_one_product_with_the_changed_weights_equals_base_plus_delta(method):
    adapted, x = lanes_of(method), x_of(2)
    sites = [site for site in adapted.sites.values() if getattr(site.delta, "dense", False)]
    assert len(sites) >= 12
    results = []
    for dense in (True, False):
        for site in sites:
            site.delta.dense = dense
        adapted.bank.zero_grad()
        logits = adapted(x.repeat(3, 1, 1, 1))
        logits.square().sum().backward()
        results.append((logits.detach(), adapted.bank.grads_KP.clone()))
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_a_lanes_rows_depend_on_its_own_parameters_only(method):
    adapted, x = lanes_of(method), x_of(3 * 2)
    logits_KBC = adapted(x).unflatten(0, (3, 2))
    logits_KBC[1].sum().backward()
    assert adapted.bank.grads_KP[1].any()
    assert not adapted.bank.grads_KP[[0, 2]].any()
    for lane in range(3):
        alone = Adapted(small_vit(dtype=torch.float64), [adapted.methods[lane]])
        alone.bank.write(0, adapted.lane_values(lane))
        torch.testing.assert_close(alone(x[2 * lane : 2 * lane + 2]), logits_KBC[lane], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("method", ["lora_add", "lora_mul", "lora_mul_vpt_add"])
def test_what_pads_a_smaller_rank_never_gets_a_gradient(method):
    adapted = lanes_of(method)
    plan = noise_plan(adapted)
    draw = draw_step(adapted, generators=[torch.Generator().manual_seed(i) for i in range(3)], samples=2, plan=plan, sigma_K=torch.ones(3))
    with adapted.context.step(rows=2, draw=draw):
        adapted(x_of(6)).square().sum().backward()
    for key, parameter in adapted.named_parameters():
        for lane, shapes in enumerate(adapted.shapes):
            padding = torch.ones(parameter.shape[1:], dtype=torch.bool)
            padding[tuple(slice(0, n) for n in shapes[key])] = False
            assert not parameter.grad[lane][padding].any()


def test_any_model_made_of_linear_layers():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))
    x, y = torch.randn(6, 4), torch.tensor([0, 1, 0, 1, 1, 0])
    want = model(x)
    adapted = adapt(model, method="lora_add", rank=2)
    assert list(adapted.sites) == ["0", "2", "4"]
    torch.testing.assert_close(adapted(x), want)
    terms = pace_tune.Pace()(adapted, x, y)
    terms.total.backward()
    assert terms.consistency > 0  # the head's logits are multiplied from the start
    without_head = adapt(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)), method="lora_add", head=None)
    assert list(without_head.sites) == ["0", "2"]


def test_a_head_that_is_not_linear_is_refused():
    with pytest.raises(UnsupportedError, match="the head must be a linear layer, but 'norm' is LayerNorm"):
        adapt(small_vit(), head="norm")


def test_unknown_methods_are_named_with_what_there_is():
    with pytest.raises(UnknownNameError, match="lora_add"):
        adapt(small_vit(), method="lora_ad")


def test_full_fine_tuning_has_the_gradients_of_the_model_itself():
    model, x = small_vit(dtype=torch.float64), x_of(3)
    model(x).square().sum().backward()
    want = {name: p.grad.clone() for name, p in model.named_parameters()}
    adapted = adapt(small_vit(dtype=torch.float64), method="full")
    adapted(x).square().sum().backward()
    got = {key.replace("/", ".").replace("pos_drop.", ""): p.grad[0] for key, p in adapted.named_parameters()}
    assert set(got) == set(want)
    for name, gradient in want.items():
        torch.testing.assert_close(got[name].reshape(gradient.shape), gradient, rtol=1e-9, atol=1e-9)


# A loop of one's own


def test_only_deltas_and_head_train():
    adapted = adapt(small_vit(), method="lora_add", rank=2)
    assert all(key.rpartition("/")[2] in {"down", "up", "bias", "weight"} for key, _ in adapted.named_parameters())
    assert sum(p.numel() for p in adapted.parameters()) == adapted.num_parameters()
    assert not [name for name, p in adapted.model.named_parameters() if p.requires_grad and ".base." in name]


@pytest.mark.parametrize("set_to_none", [True, False])
def test_ten_lines_train_and_export(set_to_none):
    torch.manual_seed(0)
    vit = small_vit()
    x, y = x_of(16, dtype=torch.float32), torch.arange(16) % CLASSES
    adapted = pace_tune.adapt(vit, method="lora_mul_vpt_add", rank=4)
    objective = pace_tune.Pace(sigma=0.5, lambda_=0.1)
    optimizer = torch.optim.AdamW(adapted.parameters(), lr=5e-3)
    losses = []
    for _ in range(40):
        terms = objective(adapted, x, y)
        optimizer.zero_grad(set_to_none=set_to_none)
        terms.total.backward()
        optimizer.step()
        losses.append(terms.task_loss.item())
    assert losses[-1] < 0.5 * losses[0]
    plain = pace_tune.merge(adapted)
    torch.testing.assert_close(plain(x), adapted(x), rtol=1e-4, atol=1e-4)
    assert type(pace_tune.remove(adapted)) is VisionTransformer


def test_objectives_with_memory_and_with_a_cycle_in_ones_own_loop():
    adapted, x, y = adapt(small_vit(), method="lora_add"), x_of(4, dtype=torch.float32), torch.arange(4)
    fast = pace_tune.PaceFast()
    memory = fast.memory(samples=10, classes=CLASSES)
    terms = fast(adapted, x, y, index=torch.tensor([7, 1, 3, 5]), memory=memory)
    assert torch.equal(memory["logits"][[7, 1, 3, 5]], terms.logits)
    assert not memory["logits"][[0, 2, 4, 6, 8, 9]].any()
    with pytest.raises(ValueError, match="pace_fast needs `index=`"):
        fast(adapted, x, y)
    lazy = pace_tune.PaceLazy(interval=3)
    assert [bool(lazy(adapted, x, y, step=step).consistency > 0) for step in range(4)] == [True, False, False, True]
    with pytest.raises(ValueError, match="`batch_size >= 2` must hold"):
        lazy(adapted, x[:1], y[:1])


def test_the_same_generator_gives_the_same_noise():
    adapted, x, y = adapt(small_vit(), method="lora_add"), x_of(4, dtype=torch.float32), torch.arange(4)

    def loss(seed):
        return pace_tune.Noise(sigma=2.0)(adapted, x, y, generator=torch.Generator().manual_seed(seed)).total.item()

    assert loss(1) == loss(1) != loss(2)


def test_an_adapted_model_can_be_converted_and_goes_on_training():
    adapted = adapt(small_vit(), method="lora_mul_vpt_add", seed=0)
    kept = list(adapted.parameters())
    optimizer = torch.optim.AdamW(kept, lr=1e-2)
    adapted.double()
    assert all(a is b for a, b in zip(adapted.parameters(), kept, strict=True))
    before = adapted.bank.values_KP.clone()
    terms = pace_tune.Pace()(adapted, x_of(4), torch.arange(4))
    assert terms.total.dtype == torch.float64
    terms.total.backward()
    assert adapted.bank.grads_KP.any()
    optimizer.step()
    assert not torch.equal(adapted.bank.values_KP, before)


def test_two_populations_share_the_weights_of_one_backbone():
    model = small_vit()
    first, second = (Adapted(share_frozen(model), [methods.build(name)], seeds=(0,)) for name in ("lora_add", "linear"))
    ours = {p.data_ptr() for p in first.model.parameters()}
    assert {p.data_ptr() for p in model.parameters()} <= ours
    assert {p.data_ptr() for p in model.parameters()} <= {p.data_ptr() for p in second.model.parameters()}
    assert type(model.blocks[0].attn.qkv) is nn.Linear
