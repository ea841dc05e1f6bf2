"""Every measure against its definition, spelled out with autograd on a model whose deltas are merged."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pace_tune.methods.adapted import Adapted, merge
from pace_tune.pace.criterion import Classification
from pace_tune.registry import methods
from pace_tune.study.run_config import MeasureConfig
from pace_tune.training.measures import delta_norm, distances, grad_norm, jacobian_norm, measure
from pace_tune.training.pretrained import Pretrained
from pace_tune.training.scoring import predict
from pace_tune.training.streams import stream
from tests.training.crews import CLASSES, a_crew, a_run, curve, images, small_vit, train

SAMPLES = 6
RANKS = (2, 4)


def two_lanes(method="lora_mul_vpt_add"):
    """Two lanes away from their start, and the model they started from."""
    fields = [{"rank": rank} if "rank" in methods.get(method).field_names() else {} for rank in RANKS]
    adapted = Adapted(
        small_vit(depth=2, width=16, dtype=torch.float64), [methods.build({"name": method, **f}) for f in fields], seeds=(1, 2)
    )
    rng = torch.Generator().manual_seed(0)
    for lane in range(2):
        values = {key: value + 0.2 * torch.randn(value.shape, generator=rng) for key, value in adapted.lane_values(lane).items()}
        adapted.bank.write(lane, values)
    return adapted, small_vit(depth=2, width=16, dtype=torch.float64)


@pytest.fixture(scope="module")
def data():
    return images(10, seed=5, dtype=torch.float64)


def batch_of(data):
    return data.shared_batch(slice(0, SAMPLES), lanes=1)["x"], data.targets[:SAMPLES]


def weights_of(plain: nn.Module) -> list[nn.Parameter]:
    """Weights and biases of all linear layers in the blocks and of the head."""
    linears = [module for name, module in plain.named_modules() if isinstance(module, nn.Linear)]
    return [p.requires_grad_() for module in linears for p in module.parameters()]


def pooled(gradients) -> torch.Tensor:
    return torch.cat([g.flatten() for g in gradients]).norm()


@pytest.mark.parametrize("method", ["lora_mul_vpt_add", "lora_add", "linear", "full"])
def test_grad_norm_is_that_of_the_effective_weights(method, data):
    adapted, _ = two_lanes(method)
    got, logits_KNC = grad_norm(adapted, data, criterion=Classification(), samples=SAMPLES)
    x, y = batch_of(data)
    for lane in range(2):
        plain = merge(adapted, lane=lane)
        weights = weights_of(plain)
        want = pooled(torch.autograd.grad(F.cross_entropy(plain(x), y), weights))
        assert got[lane].item() == pytest.approx(want.item(), rel=1e-9)
        torch.testing.assert_close(logits_KNC[lane], plain(x))
    assert not adapted.bank.grads_KP.any()  # measuring leaves the lanes' own gradients alone


def test_jacobian_norm_projects_the_logits_of_every_sample(data):
    adapted, _ = two_lanes()
    got, outputs_KNC = jacobian_norm(adapted, data, samples=SAMPLES, projections=1)
    v_BC = torch.randn(SAMPLES, CLASSES, generator=stream(0, "measure"))
    x, _ = batch_of(data)
    for lane in range(2):
        plain = merge(adapted, lane=lane)
        weights = weights_of(plain)
        squares = [pooled(torch.autograd.grad((plain(x[i : i + 1])[0] * v_BC[i]).sum(), weights)) ** 2 for i in range(SAMPLES)]
        assert got[lane].item() == pytest.approx(torch.stack(squares).mean().sqrt().item(), rel=1e-6)
        torch.testing.assert_close(outputs_KNC[lane], plain(x))


def test_jacobian_norm_estimates_the_frobenius_norm_of_the_full_jacobian(data):
    adapted, _ = two_lanes()
    got, _ = jacobian_norm(adapted, data, samples=2, projections=400)
    x = batch_of(data)[0][:2]
    for lane in range(2):
        plain = merge(adapted, lane=lane)
        weights = weights_of(plain)
        squares = [pooled(torch.autograd.grad(plain(x)[i, c], weights)) ** 2 for i in range(2) for c in range(CLASSES)]
        full = (torch.stack(squares).sum() / 2).sqrt()
        assert got[lane].item() == pytest.approx(full.item(), rel=0.05)


def test_distances_from_the_pretrained_model_under_each_head(data):
    adapted, start = two_lanes()
    rng = torch.Generator().manual_seed(9)
    heads = [{"head/weight": torch.randn(CLASSES, 16, generator=rng), "head/bias": torch.randn(CLASSES, generator=rng)} for _ in range(2)]
    before = adapted.bank.values_KP.clone()
    outputs_KNC = predict(adapted, data, limit=SAMPLES)
    got = distances(adapted, data, outputs_KNC=outputs_KNC, initial_heads=heads)
    assert torch.equal(adapted.bank.values_KP, before)
    x, _ = batch_of(data)
    features = start.forward_head(start.forward_features(x), pre_logits=True)
    for lane in range(2):
        values = adapted.lane_values(lane)
        tuned = merge(adapted, lane=lane)(x)
        kept = F.linear(features, values["head/weight"], values["head/bias"])
        initial = F.linear(features, heads[lane]["head/weight"].double(), heads[lane]["head/bias"].double())
        want = {
            "fp_distance": (tuned - kept).square().sum(dim=1).mean(),
            "fp_distance_initial": (tuned - initial).square().sum(dim=1).mean(),
            "fp_distance_zero": tuned.square().sum(dim=1).mean(),
            "fp_distance_relative": (tuned - kept).square().sum() / tuned.square().sum(),
            "logit_norm": tuned.norm(dim=1).mean(),
        }
        assert set(got) == set(want)
        for key, value in want.items():
            assert got[key][lane].item() == pytest.approx(value.item(), rel=1e-9), key


@pytest.mark.parametrize("method", ["lora_mul_vpt_add", "lora_add", "vpt_add", "linear", "full"])
def test_delta_norm_is_how_far_the_weights_moved(method):
    adapted, start = two_lanes(method)
    got = delta_norm(adapted)
    before = dict(start.named_parameters())
    for lane in range(2):
        moved = [p - before[name] for name, p in merge(adapted, lane=lane).named_parameters() if not name.startswith("head.")]
        assert got[lane].item() == pytest.approx(pooled(moved).item(), rel=1e-9)


def test_only_what_is_switched_on_is_measured(data):
    adapted, _ = two_lanes()
    options = {"train": data, "val": data, "criterion": Classification(), "initial_heads": [{}, {}]}
    off = {"grad_norm": False, "jacobian_norm": False, "fp_distance": False, "delta_norm": False}
    nothing = measure(adapted, config=MeasureConfig(**off), **options)
    assert nothing.values == {}
    assert nothing.train_logits_KNC is None
    found = measure(adapted, config=MeasureConfig(**{**off, "grad_norm": True, "delta_norm": True, "samples": 3}), **options).values
    assert {key: tuple(value.shape) for key, value in found.items()} == {"grad_norm": (2,), "delta_norm": (2,)}
    everything = measure(adapted, config=MeasureConfig(samples=3), **options).values
    assert {"jacobian_norm", "fp_distance", "logit_norm"} <= set(everything)


@pytest.mark.parametrize("method", ["lora_mul_vpt_add", "lora_add", "vpt_deep", "ssf", "adaptformer", "bitfit", "linear", "full"])
def test_the_pretrained_side_is_the_same_from_features_kept_once(method, data):
    adapted, start = two_lanes(method)
    rng = torch.Generator().manual_seed(9)
    heads = [{"head/weight": torch.randn(CLASSES, 16, generator=rng), "head/bias": torch.randn(CLASSES, generator=rng)} for _ in range(2)]
    pretrained = Pretrained(start, data)
    assert pretrained.features(SAMPLES).shape == (SAMPLES, 16)
    outputs_KNC = predict(adapted, data, limit=SAMPLES)
    want = distances(adapted, data, outputs_KNC=outputs_KNC, initial_heads=heads)
    got = distances(adapted, data, outputs_KNC=outputs_KNC, initial_heads=heads, pretrained=pretrained)
    assert want["fp_distance"].min() > 0 or method == "linear"
    for key, value in want.items():
        torch.testing.assert_close(got[key], value, msg=key)


def test_features_are_not_kept_where_the_head_has_not_the_last_word(data):
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(3 * 32 * 32, 8), nn.Linear(8, CLASSES)

        def forward(self, x):
            return 2 * self.head(self.body(x.flatten(1)))

    assert Pretrained(Scaled().double(), data).features(SAMPLES) is None


def test_lanes_of_different_age_are_measured_apart_and_as_if_alone():
    every = {"measure__every_epochs": 3, "measure__samples": 7, "optim__epochs": 6}
    old, young = a_run(seed=1, **every), a_run(seed=2, method__rank=2, **every)
    crew = a_crew(dtype=torch.float64)
    together = train(crew, {"old": old}, epochs=1)["old"]
    for name, reports in train(crew, {"young": young}, epochs=5).items():
        together = together + reports if name == "old" else together
        measured = {report["epoch"]: report["metrics"] for report in reports if "gap/loss" in report["metrics"]}
        assert set(measured) == ({3, 6} if name == "old" else {3})
    alone = a_crew(dtype=torch.float64)
    assert curve(together) == pytest.approx(curve(train(alone, {"old": old}, epochs=6)["old"]), rel=1e-9)


def test_measuring_changes_no_training_step():
    off, on = (train(a_crew(), {"a": a_run(measure__every_epochs=every)}, epochs=3)["a"] for every in (0, 1))
    assert curve(off, "train/loss", "val/loss") == curve(on, "train/loss", "val/loss")
    assert "measure/grad_norm" in on[-1]["metrics"]


def test_the_gap_may_look_at_more_samples_than_the_norms():
    crew = a_crew()
    (report,) = train(crew, {"a": a_run(measure={"every_epochs": None}, optim__epochs=1, optim__warmup_epochs=0)}, epochs=1)["a"]
    metrics = report["metrics"]
    # 40 samples to train on: norms on 16, the gap on all of them.
    adapted = next(iter(crew._populations.values())).adapted
    clean = crew.judge.scores(adapted, crew.train)
    assert metrics["gap/loss"] == pytest.approx(metrics["val/loss"] - clean["loss"].item(), rel=1e-5)
    norm_K, _ = grad_norm(adapted, crew.train, criterion=Classification(), samples=16)
    assert metrics["measure/grad_norm"] == pytest.approx(norm_K.item(), rel=1e-5)
