"""Every registered objective keeps the same promises; the controls and ablations compute what they say."""

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pace_tune.methods.adapted import Adapted
from pace_tune.models.vit_nano_cifar10 import VitNanoCifar10
from pace_tune.pace.criterion import Classification
from pace_tune.pace.draws import view_of
from pace_tune.pace.objective import Objective, Step, Terms
from pace_tune.registry import methods, objectives

B, I, C = 6, 5, 3
STRENGTHS = ("lambda_", "alignment", "rho", "rate", "head_decay", "sigma")
DOUBLE = torch.float64


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(DOUBLE)
    yield
    torch.set_default_dtype(torch.float32)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(I, 7), nn.Tanh(), nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, C)).double()


def adapted_model(seeds: tuple[int, ...], *, trained: bool = True) -> Adapted:
    """Lanes of different ranks, away from their start so that every delta counts."""
    lanes = [methods.build({"name": "lora_add", "rank": 2 + i % 2}) for i in seeds]
    adapted = Adapted(network(), lanes, seeds=list(seeds))
    if trained:
        for lane, seed in enumerate(seeds):
            rng = torch.Generator().manual_seed(100 + seed)
            values = adapted.lane_values(lane)
            adapted.bank.write(lane, {key: v + 0.3 * torch.randn(v.shape, generator=rng) for key, v in values.items()})
    return adapted


def batch(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(B, I, generator=rng)
    return x, torch.randint(C, (B,), generator=rng), torch.randperm(20, generator=rng)[:B]


def variant(name: str, seed: int, **fields: Any) -> Objective:
    """An objective whose lane fields depend on the seed."""
    cls = objectives.get(name)
    build = dict.fromkeys(cls.lane_fields, 0.1 + 0.05 * seed)
    return cls(**{**build, **fields})


def step_of(lanes: list[Objective], seeds: tuple[int, ...], memory: Mapping[str, Tensor] | None = None, count: int = 0) -> Step:
    adapted = adapted_model(seeds)
    data = [batch(seed) for seed in seeds]
    fresh = [lane.memory(samples=20, classes=C, sites=len(adapted.sites)) for lane in lanes]
    return Step(
        adapted,
        {"input": torch.cat([x for x, _, _ in data])},
        torch.stack([y for _, y, _ in data]),
        lanes[0].strengths(lanes, like=adapted.bank.values_KP),
        [torch.Generator().manual_seed(7 + seed) for seed in seeds],
        plan=lanes[0].plan(adapted),
        criterion=Classification(),
        index_KB=torch.stack([index for _, _, index in data]),
        count_K=torch.full((len(lanes),), count),
        memory=dict(memory or {key: torch.stack([m[key] for m in fresh]) for key in fresh[0]}),
    )


def backward(lanes: list[Objective], step: Step) -> Terms:
    step.adapted.bank.zero_grad()
    terms = lanes[0].terms(step)
    terms.total.sum().backward()
    return terms


ALL = objectives.names()


@pytest.mark.parametrize("name", ALL)
def test_terms_have_a_value_per_lane(name: str):
    lanes = [variant(name, seed) for seed in (0, 1)]
    terms = backward(lanes, step_of(lanes, (0, 1)))
    assert terms.total.shape == terms.task_loss.shape == terms.consistency.shape == (2,)
    assert terms.total.requires_grad
    assert not terms.task_loss.requires_grad
    assert not terms.consistency.requires_grad
    assert not terms.logits.requires_grad
    assert terms.logits.shape[0] == 2
    assert terms.logits.shape[2] == C
    assert torch.isfinite(terms.total).all()


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("name", ALL)
def test_a_lane_does_not_feel_its_neighbours(name: str, count: int):
    together = [variant(name, seed) for seed in (0, 1, 2)]
    step = step_of(together, (0, 1, 2), count=count)
    terms = backward(together, step)
    for i, lane in enumerate(together):
        alone = step_of([lane], (i,), count=count)
        own = backward([lane], alone)
        torch.testing.assert_close(terms.total[i], own.total[0], rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(terms.consistency[i], own.consistency[0], rtol=1e-10, atol=1e-12)
        theirs = step.adapted.lane_values(i, matrix_KP=step.adapted.bank.grads_KP)
        mine = alone.adapted.lane_values(0, matrix_KP=alone.adapted.bank.grads_KP)
        for key in mine:
            torch.testing.assert_close(theirs[key], mine[key], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_nothing_is_left_behind(name: str):
    lane = variant(name, 1)
    step = step_of([lane], (1,))
    values, rng = step.adapted.bank.values_KP.clone(), copy.deepcopy(step.adapted.model.state_dict())
    backward([lane], step)
    assert torch.equal(step.adapted.bank.values_KP, values)
    assert step.adapted.context.draw is None
    assert step.adapted.context.adapters_on
    assert all(torch.equal(value, rng[key]) for key, value in step.adapted.model.state_dict().items())
    assert not any(m._forward_hooks for m in step.adapted.model.modules())


@pytest.mark.parametrize("name", ALL)
def test_without_strength_it_is_plain_training(name: str):
    cls = objectives.get(name)
    off = cls(**{key: 0.0 for key in cls.lane_fields if key in STRENGTHS})
    plain = objectives.get("plain")()
    mine, reference = step_of([off], (0,), count=1), step_of([plain], (0,))
    backward([off], mine)
    backward([plain], reference)
    torch.testing.assert_close(mine.adapted.bank.grads_KP, reference.adapted.bank.grads_KP, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_it_can_be_called_by_hand(name: str):
    objective = variant(name, 0)
    adapted = adapted_model((0,))
    x, y, index = batch(0)
    memory = objective.memory(samples=20, classes=C, sites=len(adapted.sites))
    terms = objective(adapted, x, y, index=index, step=0, memory=memory, generator=torch.Generator().manual_seed(0))
    terms.total.backward()
    assert terms.total.shape == ()
    assert any(bool(p.grad.any()) for p in adapted.parameters())


def moments(name: str, sigma: float) -> tuple[Tensor, Tensor]:
    """Mean and variance of a layer's noise over many draws; the first layer has level factor 1."""
    objective = objectives.get(name)(sigma=sigma, quiet_blocks=0)
    adapted = adapted_model((0,))
    step = step_of([objective], (0,))
    step.targets_KB = torch.zeros(1, 20_000, dtype=torch.long)
    z = step.draw().noise[next(iter(adapted.sites))]
    return z.mean(), z.var()


@pytest.mark.parametrize(("name", "mean"), [("pace", 1), ("pace_drop", 1), ("pace_h", 1), ("pace_add", 0)])
def test_noise_has_the_stated_mean_and_variance(name: str, mean: float):
    found, variance = moments(name, 0.7)
    assert float(found) == pytest.approx(mean, abs=0.01)
    assert float(variance) == pytest.approx(0.49, rel=0.03)


def test_dropout_noise_takes_two_values():
    objective = objectives.get("pace_drop")(sigma=0.5, quiet_blocks=0)
    step = step_of([objective], (0,))
    first = next(iter(step.adapted.sites))
    assert set(step.draw().noise[first].flatten().tolist()) <= {0.0, 1.25}


def noisy_output(name: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A noisy first layer: its output, its base, its delta and its noise."""
    objective = objectives.get(name)(sigma=0.4, quiet_blocks=0)
    step = step_of([objective], (0,))
    site = next(iter(step.adapted.sites.values()))
    draw, seen = step.draw(), []
    handle = site.register_forward_hook(lambda _, args, out: seen.append(out.detach()))
    with torch.no_grad():
        step.forward(draw)
    handle.remove()
    x = step.inputs["input"]
    base = site.base(x)
    delta = site.delta.lanes(x[None], site.values)[0].detach()
    return seen[0], base, delta, draw.noise[site.name][0]


def test_noise_enters_where_each_ablation_says():
    out, base, delta, z = noisy_output("pace")
    torch.testing.assert_close(out, base + z * delta)
    out, base, delta, z = noisy_output("pace_h")
    torch.testing.assert_close(out, z * (base + delta))
    out, base, delta, z = noisy_output("pace_add")
    torch.testing.assert_close(out, base + delta + z)


def test_sam_descends_from_the_worst_point_of_the_ball():
    rho = 0.2
    lane = objectives.get("sam")(rho=rho)
    step = step_of([lane], (0,))
    terms = backward([lane], step)
    plain, away = objectives.get("plain")(), step_of([lane], (0,))
    backward([plain], away)
    gradient = away.adapted.bank.grads_KP.clone()
    away.adapted.bank.values_KP.add_(rho * gradient / gradient.norm())
    there = backward([plain], away)
    torch.testing.assert_close(step.adapted.bank.grads_KP, away.adapted.bank.grads_KP)
    torch.testing.assert_close(terms.total, there.total)
    torch.testing.assert_close(terms.consistency, there.total.detach() - terms.task_loss)


@pytest.mark.parametrize("name", ["grad_penalty", "fpa_grad_penalty"])
def test_gradient_penalties_have_the_gradient_of_their_formula(name: str):
    strength, off = 0.3, {"alignment": 0.0} if name == "fpa_grad_penalty" else {}
    lane = objectives.get(name)(lambda_=strength, radius=1e-6, **off)
    step = step_of([lane], (0,))
    terms = backward([lane], step)
    exact = step_of([lane], (0,))
    parameters = list(exact.adapted.parameters())
    loss = exact.task_loss(exact.forward(None)[:, 0]).sum()
    first = torch.autograd.grad(loss, parameters, create_graph=True)
    total = loss + strength * torch.cat([g.flatten() for g in first]).norm()
    expected = torch.autograd.grad(total, parameters)
    torch.testing.assert_close(terms.total.sum(), total, rtol=1e-9, atol=0)
    for parameter, gradient in zip(step.adapted.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-7)


def change(adapted: Adapted, lane: int = 0) -> list[Tensor]:
    """(dW, db) of each layer but the head."""
    return [part for site in list(adapted.sites.values())[:-1] for part in site.delta.weights(site.of_lane(lane))]


def test_weight_penalties_are_of_the_effective_weights():
    l1, l2 = objectives.get("l1")(lambda_=0.1), objectives.get("l2_sp")(lambda_=0.1, head_decay=0.2)
    step = step_of([l1], (0,))
    parts = change(step.adapted)
    assert float(l1.terms(step).consistency) == pytest.approx(sum(part.abs().sum().item() for part in parts))
    terms = l2.terms(step_of([l2], (0,)))
    assert float(terms.consistency) == pytest.approx(sum(part.square().sum().item() for part in parts) / 2)
    head = list(step.adapted.sites.values())[-1].of_lane(0)
    decay = 0.2 * sum(value.square().sum().item() for value in head.values()) / 2
    assert float(terms.total - terms.task_loss) == pytest.approx(0.1 * float(terms.consistency) + decay)


def test_delta_compares_features_and_sees_no_change_at_the_start():
    lane = objectives.get("delta")(lambda_=1.0)
    step = step_of([lane], (0,))
    away = lane.terms(step)
    step.adapted.bank.write(0, adapted_model((0,), trained=False).lane_values(0))
    assert float(away.consistency) > 1e-3
    assert float(lane.terms(step).consistency) == 0


def test_logit_l2_is_what_noise_on_the_head_alone_costs():
    """Adapters at zero: E||f1 - f2||^2 is the head's part, and logit_l2's penalty equals it."""
    pace, control = objectives.get("pace")(sigma=0.8, views=2), objectives.get("logit_l2")(sigma=0.8)
    step = step_of([pace], (0,))
    step.adapted.bank.write(0, adapted_model((0,), trained=False).lane_values(0))
    found = torch.stack([pace.terms(step).consistency for _ in range(4000)])
    quiet = step_of([control], (0,))
    quiet.adapted.bank.write(0, step.adapted.lane_values(0))
    expected = control.terms(quiet).consistency
    error = float(found.std()) / len(found) ** 0.5
    assert float(found.mean()) == pytest.approx(float(expected), abs=4 * error)


def test_every_nth_step_has_consistency():
    lane = objectives.get("pace_every")(interval=3, sigma=0.5)
    active = [float(lane.terms(step_of([lane], (0,), count=count)).consistency) > 0 for count in range(7)]
    assert active == [True, False, False, True, False, False, True]


def test_every_step_is_pace():
    every, pace = objectives.get("pace_every")(interval=1, sigma=0.5), objectives.get("pace")(sigma=0.5)
    torch.testing.assert_close(every.terms(step_of([every], (0,))).total, pace.terms(step_of([pace], (0,))).total)


def train(lane: Objective, steps: int) -> tuple[Adapted, Step]:
    step = step_of([lane], (0,))
    step.adapted.bank.write(0, adapted_model((0,), trained=False).lane_values(0))
    optimizer = torch.optim.Adam(step.adapted.parameters(), lr=0.05)
    for count in range(steps):
        step.count_K = torch.tensor([count])
        backward([lane], step)
        optimizer.step()
    return step.adapted, step


def test_ftp_keeps_layers_in_balls_that_grow():
    lane = objectives.get("ftp")(rate=0.01)
    adapted, step = train(lane, 40)
    step.count_K = torch.tensor([40])
    lane.terms(step)
    for i, site in enumerate(list(adapted.sites.values())[:-1]):
        norm = torch.cat([part.flatten() for part in site.delta.weights(site.of_lane(0))]).norm()
        radius = float(step.memory["radius"][0, i])
        assert 1e-3 < radius < 0.5
        assert float(norm) <= radius * (1 + 1e-9)
    free, _ = train(objectives.get("plain")(), 40)
    assert torch.cat([p.flatten() for p in change(adapted)]).norm() < torch.cat([p.flatten() for p in change(free)]).norm()


@pytest.mark.parametrize("name", ["pace", "pace_add", "pace_h", "pace_drop"])
def test_views_of_a_vit_that_split_at_the_first_noisy_block_are_the_views_run_apart(name: str):
    """Tokens share a sample's noise, lanes have their own, and nothing before the first noisy block is perturbed."""
    objective = objectives.get(name)(sigma=0.6)
    lanes = [methods.build({"name": "lora_add", "rank": 2})] * 2
    adapted = Adapted(VitNanoCifar10().build(num_classes=C).double(), lanes, seeds=[0, 1]).eval()
    adapted.bank.values_KP.add_(0.05 * torch.randn(adapted.bank.values_KP.shape, generator=torch.Generator().manual_seed(1)))
    images = torch.randn(2 * 3, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    strengths = objective.strengths([objective] * 2, like=adapted.bank.values_KP)
    step = Step(adapted, {"x": images}, torch.zeros(2, 3, dtype=torch.long), strengths, generators, plan=objective.plan(adapted))
    draw = step.draw(views=2)
    with torch.no_grad():
        together = step.forward(draw, views=2)
        apart = [step.forward(view_of(draw, view, samples=3))[:, 0] for view in (0, 1)]
    torch.testing.assert_close(together, torch.stack(apart, dim=1))
    assert float((together[:, 0] - together[:, 1]).abs().min()) > 0
