"""What every registered method promises, on a tiny model of every architecture family.

Found by name: a method that is registered anywhere is in `cases()`, with its default fields or those in `SMALL`. The types of
peft are many and slow to build; by default each runs on one family, and on all of them under the marker `slow`.
"""

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.func import vmap

from pace_tune.errors import UnsupportedError
from pace_tune.methods.adapted import Adapted, merge, remove, why_not_merged
from pace_tune.methods.context import Draw, generator
from pace_tune.methods.method import LinearDelta, Method
from pace_tune.methods.sites.feature import FeatureDelta
from pace_tune.pace.draws import draw_step, noise_plan
from pace_tune.registry import methods
from tests.methods.tiny_models import BATCH, CLASSES, MODELS, inputs_of, model_of

SMALL: dict[str, dict] = {
    "adapter_houlsby": {"hidden": 3},
    "adapter_pfeiffer": {"hidden": 3},
    "adaptformer": {"hidden": 3, "scale": 1.0},
    "arc": {"rank": 4},
    "glora": {"rank": 2},
    "lora": {"rank": 3, "alpha": 6},
    "lora_mul": {"rank": 3},
    "lora_mul_vpt_add": {"rank": 3},
    "noah": {"widths": (1, 3)},
    "rep_adapter": {"hidden": 4},
    "vera": {"rank": 6, "projection_seed": 1},
    "vpt_deep": {"prompts": 2},
    "vpt_shallow": {"prompts": 2},
    "peft:miss": {"rank": 4},
    "peft:psoft": {"rank": 4},
    "peft:shira": {"rank": 2},
    "peft:supertuning": {"options": {"sparsity": 0.5}},
}
# Another value of a field that may differ between lanes.
OTHER = {"rank": 5, "hidden": 5, "alpha": 1.0, "scale": 0.5}
SINGLE = {"peft:psoft"}  # peft makes its start values in single precision only
ROUGH = {"peft:c3a", "peft:deft", "peft:frod"}  # peft computes them in single precision whatever the model's
PEFT_HOME = "vit"
# A key's bias moves all scores of a query alike, so that the softmax takes it away: its gradient is rounding.
# A constant that moves all channels alike goes away in the norm that follows.
NO_GRADIENT = ("key/bias", "k_proj/bias", "glora_E.default.X")


def cases() -> Iterator[tuple[str, str]]:
    """Every method with every family."""
    yield from ((name, family) for name in methods.names() for family in MODELS)


def params(families: tuple[str, ...] = tuple(MODELS)) -> list:
    """The cases as parameters; those outside of `families`, and most of peft's, are slow."""

    def slow(name: str, family: str) -> bool:
        return family not in families or (name.startswith("peft:") and family != PEFT_HOME)

    return [pytest.param(*case, id="-".join(case), marks=[pytest.mark.slow] if slow(*case) else []) for case in cases()]


every = pytest.mark.parametrize(("name", "family"), params())
# What depends on the method much more than on the family.
main = pytest.mark.parametrize(("name", "family"), params(("vit", "roberta", "phi3")))


def method_of(name: str, **fields: object) -> Method:
    return methods.build({"name": name, **SMALL.get(name, {}), **fields})


def precision(name: str) -> torch.dtype:
    return torch.float32 if name in SINGLE else torch.float64


def tolerance(name: str) -> float:
    return 1e-5 if name in SINGLE | ROUGH else 1e-12


def logits(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    out = model(**inputs)
    return getattr(out, "logits", out)


def adapted_of(name: str, family: str, *, seeds: tuple[int, ...] = (0,), dtype: torch.dtype | None = None, **fields: object) -> Adapted:
    model = model_of(family, dtype=dtype or precision(name))
    try:
        return Adapted(model, [method_of(name, **fields)] * len(seeds), keep_head=True, seeds=seeds)
    except UnsupportedError as refusal:
        if not str(refusal).endswith("."):
            pytest.fail(f"not a sentence: {refusal}")
        pytest.skip(str(refusal))


def moved(adapted: Adapted, *, seed: int = 1, size: float = 0.05) -> Adapted:
    """The same with every parameter shifted, as training would."""
    noise = torch.randn(adapted.bank.values_KP.shape, generator=generator(seed), dtype=torch.float64)
    with torch.no_grad():
        adapted.bank.values_KP.add_(size * noise.to(adapted.bank.values_KP))
    return adapted


def loss_of(out: Tensor) -> Tensor:
    """A scalar that every logit matters to, differently."""
    return (out.sin() * torch.arange(1, out.numel() + 1, dtype=out.dtype).view(out.shape)).mean()


@every
def test_it_starts_as_it_promises(name: str, family: str):
    inputs = inputs_of(family, dtype=precision(name))
    pretrained = logits(model_of(family, dtype=precision(name)), inputs)
    change = (adapted_of(name, family)(**inputs) - pretrained).abs().max()
    if method_of(name).identity_at_start:
        assert change <= max(tolerance(name), 1e-7 * (name in ROUGH))
    else:
        assert change > 1e-5


@every
def test_it_merges_to_equal_outputs_or_says_why_not(name: str, family: str):
    adapted = moved(adapted_of(name, family))
    inputs = inputs_of(family, dtype=precision(name))
    obstacle = why_not_merged(adapted)
    if obstacle:
        with pytest.raises(UnsupportedError, match=r"cannot be merged: .+"):
            merge(adapted)
        return
    plain = merge(adapted)
    assert {name for name, _ in plain.named_parameters()} == {name for name, _ in model_of(family).named_parameters()}
    torch.testing.assert_close(logits(plain, inputs), adapted(**inputs), rtol=0, atol=tolerance(name))


@every
def test_what_is_declared_trains_and_nothing_else(name: str, family: str):
    adapted = adapted_of(name, family)
    frozen = {key: parameter.clone() for key, parameter in model_of(family, dtype=precision(name)).state_dict().items()}
    trained = dict(adapted.named_parameters())
    assert sum(parameter.numel() for parameter in trained.values()) == adapted.num_parameters()
    before = adapted.lane_values(0)
    optimizer = torch.optim.SGD(adapted.parameters(), lr=0.1)
    loss_of(adapted(**inputs_of(family, dtype=precision(name)))).backward()
    optimizer.step()
    after = adapted.lane_values(0)
    assert not trained or any(not torch.equal(before[key], after[key]) for key in before)
    restored = remove(adapted).state_dict()
    assert restored.keys() == frozen.keys()
    assert all(torch.equal(restored[key], frozen[key]) for key in frozen)


@every
def test_a_gradient_reaches_every_parameter_after_astep(name: str, family: str):
    adapted = moved(adapted_of(name, family))
    inputs = inputs_of(family, dtype=precision(name))
    optimizer = torch.optim.SGD(adapted.parameters(), lr=0.01) if adapted.shapes[0] else None
    for _ in range(2 if optimizer else 0):
        adapted.bank.zero_grad()
        loss_of(adapted(**inputs)).backward()
        optimizer.step()
    unreached = [key for key, p in adapted.named_parameters() if not p.grad.any() and not key.endswith(NO_GRADIENT)]
    assert not unreached


@every
def test_noise_without_strength_changes_nothing(name: str, family: str):
    adapted = moved(adapted_of(name, family))
    inputs = inputs_of(family, dtype=precision(name))
    plan = noise_plan(adapted)
    zero = adapted.bank.values_KP.new_zeros(1)
    draw = draw_step(adapted, generators=[generator(0)], samples=BATCH, plan=plan, sigma_K=zero)
    with adapted.context.step(rows=BATCH, draw=Draw(noise=draw.noise)):
        noisy = adapted(**inputs)
    torch.testing.assert_close(noisy, adapted(**inputs), rtol=0, atol=max(1e-10, tolerance(name)))


@every
def test_noise_reaches_what_the_method_changes(name: str, family: str):
    adapted = moved(adapted_of(name, family))
    noisy = [site for site in adapted.sites.values() if site.noisy and adapted.layout.depth > 1]
    if not noisy:
        return
    plan = noise_plan(adapted, quiet_blocks=0)
    one = adapted.bank.values_KP.new_ones(1)
    draw = draw_step(adapted, generators=[generator(0)], samples=BATCH, plan=plan, sigma_K=one)
    inputs = inputs_of(family, dtype=precision(name))
    with adapted.context.step(rows=BATCH, draw=Draw(noise=draw.noise)):
        shaken = adapted(**inputs)
    assert (shaken - adapted(**inputs)).abs().max() > 1e-4


@main
def test_views_of_a_sample_share_dropout_and_paths(name: str, family: str):
    adapted = moved(adapted_of(name, family))
    inputs = inputs_of(family, dtype=precision(name))
    twice = {key: torch.cat([value, value]) for key, value in inputs.items()}
    draw = draw_step(adapted, generators=[generator(0)], samples=BATCH, views=2)
    with adapted.context.step(rows=2 * BATCH, draw=draw):
        first, second = adapted(**twice).chunk(2)
    torch.testing.assert_close(first, second, rtol=0, atol=max(1e-10, tolerance(name)))


@every
def test_a_lane_comes_back_from_its_state(name: str, family: str):
    adapted = moved(adapted_of(name, family))
    inputs = inputs_of(family, dtype=precision(name))
    again = adapted_of(name, family, seeds=(7,))
    again.set_lanes(adapted.methods, [adapted.lane_values(0)])
    torch.testing.assert_close(again(**inputs), adapted(**inputs), rtol=0, atol=0)


@main
def test_it_can_be_moved_to_another_precision(name: str, family: str):
    adapted = adapted_of(name, family, dtype=torch.float32)
    inputs = inputs_of(family, dtype=torch.float32)
    before = adapted(**inputs)
    if name not in {*SINGLE, "peft:adamss"}:  # adamss keeps tensors where nothing that moves a module finds them
        double = adapted.double()(**{key: value.double() if value.is_floating_point() else value for key, value in inputs.items()})
        torch.testing.assert_close(double.float(), before, rtol=1e-3, atol=1e-3)


@main
def test_a_half_precision_trunk_keeps_float32_deltas(name: str, family: str):
    if name.startswith("peft:"):
        pytest.skip("whether a type of peft runs in half precision is peft's part")
    adapted = moved(adapted_of(name, family, dtype=torch.bfloat16), size=0.02)
    exact = moved(adapted_of(name, family, dtype=torch.float32), size=0.02)
    assert adapted.bank.values_KP.dtype == torch.float32
    out = adapted(**inputs_of(family, dtype=torch.bfloat16))
    loss_of(out.float()).backward()
    assert adapted.bank.grads_KP.isfinite().all()
    expected = exact(**inputs_of(family, dtype=torch.float32))
    torch.testing.assert_close(out.float(), expected, rtol=0.2, atol=0.15 * float(expected.detach().abs().max()))


@every
def test_lanes_equal_alone(name: str, family: str):
    method = method_of(name)
    if not method.runs_in_lanes:
        pytest.skip("runs alone")
    other = method_of(name, **{field: value for field, value in OTHER.items() if field in method.lane_fields})
    lanes, seeds = [method, other, method], (3, 4, 5)
    alone = [adapted_of(name, family, seeds=(0,)) for _ in lanes]
    together = adapted_of(name, family, seeds=(0,))
    inputs = [inputs_of(family, seed=seed) for seed in seeds]
    values = [together.fresh_lane(m, generator(seed)) for m, seed in zip(lanes, seeds, strict=True)]
    values = [{k: v + 0.05 * torch.randn(v.shape, generator=generator(s)) for k, v in lane.items()} for s, lane in enumerate(values)]
    together.set_lanes(lanes, values)
    try:
        losses = step(together, {key: torch.cat([given[key] for given in inputs]) for key in inputs[0]}, list(seeds))
    except UnsupportedError as refusal:  # a population then falls apart into lanes that run alone
        if "lanes must run alone" not in str(refusal):
            raise
        pytest.skip(str(refusal))
    for lane, (single, m) in enumerate(zip(alone, lanes, strict=True)):
        single.set_lanes([m], [values[lane]])
        expected = step(single, inputs[lane], [seeds[lane]])
        torch.testing.assert_close(losses[lane], expected[0], rtol=1e-10, atol=1e-12)
        grads = single.lane_values(0, matrix_KP=single.bank.grads_KP)
        for key, grad in together.lane_values(lane, matrix_KP=together.bank.grads_KP).items():
            torch.testing.assert_close(grad, grads[key], rtol=1e-8, atol=1e-11, msg=key)


def step(adapted: Adapted, inputs: dict[str, Tensor], seeds: list[int]) -> Tensor:
    """Losses of one noisy step with two views, gradients left in the bank."""
    adapted.bank.zero_grad()
    sigma = adapted.bank.values_KP.new_full((adapted.lanes,), 0.5)
    rows = {key: value.view(adapted.lanes, 1, BATCH, *value.shape[1:]).expand(-1, 2, *[-1] * value.ndim) for key, value in inputs.items()}
    draw = draw_step(
        adapted, generators=[generator(s) for s in seeds], samples=BATCH, views=2, plan=noise_plan(adapted, quiet_blocks=0), sigma_K=sigma
    )
    with adapted.context.step(rows=2 * BATCH, draw=draw):
        out = adapted(**{key: value.flatten(0, 2) for key, value in rows.items()})
    losses = torch.stack([loss_of(part) for part in out.chunk(adapted.lanes)])
    losses.sum().backward()
    return losses.detach()


@main
def test_products_over_lanes_equal_one_lane_lifted(name: str, family: str):
    if not method_of(name).runs_in_lanes:
        pytest.skip("runs alone")
    adapted = moved(adapted_of(name, family, seeds=(0, 1, 2)))
    rng = generator(0)
    for site in adapted.sites.values():
        values = site.values
        if isinstance(site.delta, LinearDelta):
            x_KTI = torch.randn(3, 5, site.delta.in_features, generator=rng, dtype=torch.float64)
            torch.testing.assert_close(site.delta.lanes(x_KTI, values), LinearDelta.lanes(site.delta, x_KTI, values))
            for mine, lifted in zip(site.delta.weights_lanes(values), LinearDelta.weights_lanes(site.delta, values), strict=True):
                torch.testing.assert_close(mine, lifted) if mine is not None else None
        elif isinstance(site.delta, FeatureDelta):
            x_KTC = torch.randn(3, 5, site.delta.width, generator=rng, dtype=torch.float64)
            torch.testing.assert_close(site.delta.lanes(x_KTC, values), vmap(site.delta.forward)(x_KTC, values))


@every
def test_without_adapters_the_backbone_is_the_pretrained_one(name: str, family: str):
    adapted = moved(adapted_of(name, family))
    inputs = inputs_of(family, dtype=precision(name))
    head = {key: value for key, value in adapted.lane_values(0).items() if adapted.is_head(key)}
    plain = model_of(family, dtype=precision(name))
    if head:
        plain = Adapted(plain, [methods.build("linear")], keep_head=True)
        plain.set_lanes(plain.methods, [head])
    with adapted.context.without_adapters():
        torch.testing.assert_close(adapted(**inputs), logits(plain, inputs), rtol=0, atol=1e-6 if name in SINGLE else 1e-12)


@pytest.mark.parametrize("family", MODELS)
def test_families_are_told_apart(family: str):
    from pace_tune.methods.layout import layout_of

    layout = layout_of(model_of(family))
    assert layout.family == family
    assert layout.depth == 2
    assert (layout.head is None) == (family in ("phi3", "llama"))
    if layout.head is not None:
        assert layout.head.linear.out_features == CLASSES


def test_a_copy_of_an_adapted_model_leaves_the_first_alone():
    adapted = moved(adapted_of("adaptformer", "vit"))
    inputs = inputs_of("vit")
    before = adapted(**inputs)
    twin = copy.deepcopy(adapted.model)
    moved(adapted)
    torch.testing.assert_close(logits(twin, inputs), before, rtol=0, atol=1e-12)
