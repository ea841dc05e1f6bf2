"""What follows from PACE's definitions, and is easy to get wrong: sigma per block, shared noise and masks, sums, the head."""

import pytest
import torch
from timm.layers import DropPath
from timm.models.swin_transformer import SwinTransformer
from torch import nn
from torch.nn import functional as F

import pace_tune
from pace_tune.methods.adapted import Adapted, adapt, merge
from pace_tune.pace.criterion import Classification
from pace_tune.pace.draws import draw_step, noise_plan
from pace_tune.registry import methods
from tests.training.crews import CLASSES, small_vit

METHODS = ["linear", "full", "lora_add", "lora_mul", "vpt_add", "lora_mul_vpt_add"]


def away_from_start(adapted: Adapted, *, scale=0.3) -> Adapted:
    rng = torch.Generator().manual_seed(1)
    adapted.bank.values_KP.add_(scale * torch.randn(adapted.bank.values_KP.shape, generator=rng))
    return adapted


def adapted_vit(method="lora_mul_vpt_add", *, depth=3, dtype=torch.float64, drop_path=0.0, **fields) -> Adapted:
    return away_from_start(adapt(small_vit(depth=depth, dtype=dtype, drop_path=drop_path), method=method, seed=0, **fields))


def x_of(count: int, *, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(2)).to(dtype)


def generator(seed=0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def factors(adapted: Adapted, **options) -> dict[str, float]:
    plan = noise_plan(adapted, **options)
    for columns in plan.columns.values():
        assert plan.factors_N[columns].unique().numel() == 1
    return {name: plan.factors_N[columns][0].item() for name, columns in plan.columns.items()}


# 1.6.1


@pytest.mark.parametrize("method", METHODS)
def test_evaluation_is_the_merged_weights_forward(method):
    adapted = adapted_vit(method)
    x = x_of(4)
    torch.testing.assert_close(merge(adapted)(x), adapted(x), rtol=1e-10, atol=1e-10)


# 1.6.2


@pytest.mark.parametrize("method", METHODS)
def test_at_the_start_the_logits_are_those_of_the_frozen_model(method):
    model = small_vit(dtype=torch.float64)
    x = x_of(4)
    want = model(x)
    torch.testing.assert_close(adapt(model, method=method)(x), want, rtol=1e-12, atol=1e-12)


def test_at_the_start_the_consistency_is_the_heads_penalty_alone():
    # Deltas are zero, so only the logits are multiplied: E sum_c (z1_c - z2_c)^2 f_c^2 = 2 sigma_head^2 ||f||^2.
    depth, sigma, samples = 3, 1.2, 1024
    adapted = adapt(small_vit(depth=depth, dtype=torch.float64, drop_path=0.0), method="lora_mul_vpt_add", seed=0)
    x = x_of(1)
    penalty = 2 * (sigma / depth) ** 2 * adapted(x).square().sum().item()  # head: sigma / (depth + 1 - 1 quiet block)
    with torch.no_grad():
        features = x.expand(samples, -1, -1, -1)
        terms = pace_tune.Pace(sigma=sigma)(adapted, features, torch.zeros(samples, dtype=torch.int64), generator=generator())
    # Var (z1 - z2)^2 = 8 sigma^4 for a logit.
    spread = (8 * (sigma / depth) ** 4 * adapted(x).pow(4).sum().item()) ** 0.5
    assert abs(terms.consistency.item() - penalty) < 4 * spread / samples**0.5
    assert spread / samples**0.5 < 0.1 * penalty


# 1.6.3


def test_sigma_falls_linearly_from_the_second_block_of_a_vit_to_its_head():
    adapted = adapt(small_vit(depth=12, width=16), method="lora_add", rank=1)
    found = factors(adapted)
    for block in range(1, 12):
        layers = {name: factor for name, factor in found.items() if name.startswith(f"blocks.{block}.")}
        assert set(layers) == {f"blocks.{block}.{layer}" for layer in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")}
        assert list(layers.values()) == pytest.approx([(13 - block) / 12] * 4)
    assert found["head"] == pytest.approx(1 / 12)
    assert not any(name.startswith("blocks.0.") for name in found)


def small_swin() -> SwinTransformer:
    return SwinTransformer(
        img_size=32, patch_size=2, embed_dim=8, depths=(2, 2, 18, 2), num_heads=(1, 1, 2, 2), window_size=2, num_classes=CLASSES
    ).eval()


def test_sigma_falls_linearly_over_the_25_levels_of_a_swin_and_merging_counts_as_its_stages_first_block():
    found = factors(adapt(small_swin(), method="lora_add", rank=1))
    depths = (2, 2, 18, 2)
    for stage, depth in enumerate(depths):
        for block in range(depth):
            level = sum(depths[:stage]) + block
            assert found[f"layers.{stage}.blocks.{block}.attn.qkv"] == pytest.approx((25 - level) / 25)
        if stage:
            assert found[f"layers.{stage}.downsample.reduction"] == pytest.approx((25 - sum(depths[:stage])) / 25)
    assert found["head.fc"] == pytest.approx(1 / 25)


def test_options_of_the_plan():
    adapted = adapt(small_vit(depth=3), method="lora_add")
    assert "head" not in factors(adapted, head=False)
    assert factors(adapted, shape="constant")["head"] == 1.0
    assert factors(adapted, shape="increasing")["blocks.1.mlp.fc1"] == pytest.approx(1 / 3)
    assert factors(adapted, quiet_blocks=0)["blocks.0.mlp.fc1"] == 1.0


# 1.6.4


def test_noise_is_one_number_a_sample_and_channel_shared_by_all_tokens():
    adapted = adapted_vit(depth=2)
    site = adapted.sites["blocks.1.mlp.fc1"]
    seen = {}
    handle = site.register_forward_hook(lambda module, args, out: seen.update(x=args[0].detach(), out=out.detach()))
    draw = draw_step(adapted, generators=[generator()], samples=3, plan=noise_plan(adapted), sigma_K=torch.ones(1))
    with adapted.context.step(rows=3, draw=draw):
        adapted(x_of(3))
    handle.remove()
    base = site.base(seen["x"])
    delta = site.delta.forward(seen["x"], site.of_lane(0))
    z_BTC = (seen["out"] - base) / delta
    torch.testing.assert_close(z_BTC, draw.noise["blocks.1.mlp.fc1"][0][:, None].expand_as(z_BTC), rtol=1e-6, atol=1e-6)


def test_noise_is_independent_between_views_samples_sites_and_has_the_plans_spread():
    adapted = adapt(small_vit(depth=4), method="lora_add")
    plan, samples = noise_plan(adapted), 64
    draw = draw_step(adapted, generators=[generator()], samples=samples, views=2, plan=plan, sigma_K=torch.tensor([1.5]))
    for name, z_KRO in draw.noise.items():
        sigma = 1.5 * factors(adapted)[name]
        assert z_KRO.mean().item() == pytest.approx(1.0, abs=5 * sigma / z_KRO.numel() ** 0.5)
        assert z_KRO.std().item() == pytest.approx(sigma, rel=5 / (2 * z_KRO.numel()) ** 0.5)
    n = torch.cat([(z[0] - 1) / z.std() for z in draw.noise.values()], dim=1)
    first, second = n[:samples], n[samples:]
    for a, b in ((first, second), (first, first.roll(1, 0)), (first, first.roll(1, 1))):
        assert abs((a * b).mean().item()) < 5 / a.numel() ** 0.5


def test_windows_of_a_swin_share_the_noise_of_their_sample():
    adapted = away_from_start(adapt(small_swin().double(), method="lora_add", rank=1, seed=0))
    seen = {}
    site = adapted.sites["layers.0.blocks.0.attn.qkv"]
    handle = site.register_forward_hook(lambda module, args, out: seen.update(x=args[0].detach(), out=out.detach()))
    draw = draw_step(adapted, generators=[generator()], samples=2, plan=noise_plan(adapted), sigma_K=torch.ones(1))
    with adapted.context.step(rows=2, draw=draw):
        adapted(x_of(2))
    handle.remove()
    delta = site.delta.forward(seen["x"].flatten(0, 1), site.of_lane(0)).view_as(seen["out"])
    z = ((seen["out"] - site.base(seen["x"])) / delta).unflatten(0, (2, -1))
    assert z.shape[1] > 1
    torch.testing.assert_close(z, draw.noise[site.name][0][:, None, None].expand_as(z), rtol=1e-6, atol=1e-6)


# 1.6.5


def test_drop_path_masks_are_shared_by_the_views_and_have_mean_one():
    adapted = adapt(small_vit(depth=4, drop_path=0.5), method="lora_add")
    draw = draw_step(adapted, generators=[generator()], samples=16, views=2)
    assert list(draw.drop_path) == [f"blocks.{block}.drop_path{i}" for block in (1, 2, 3) for i in (1, 2)]
    for mask_KR in draw.drop_path.values():
        assert torch.equal(mask_KR[:, :16], mask_KR[:, 16:])
        assert mask_KR[:, :16].mean().item() == pytest.approx(1.0, abs=1e-6)
        assert (mask_KR == 0).any()
        assert mask_KR.unique().numel() == 2


def test_plain_drop_path_is_scaled_by_the_keep_rate_alone():
    adapted = adapt(small_vit(depth=3, drop_path=0.5), method="lora_add")
    draw = draw_step(adapted, generators=[generator()], samples=400, renormalise=False)
    for name, keep in (("blocks.1.drop_path1", 0.75), ("blocks.2.drop_path2", 0.5)):
        mask = draw.drop_path[name]
        assert mask.unique().tolist() == pytest.approx([0.0, 1 / keep])
        assert (mask > 0).float().mean().item() == pytest.approx(keep, abs=0.1)


def test_a_population_drops_at_the_runs_rate_whatever_the_model_was_built_with():
    adapted = Adapted(small_vit(depth=5, drop_path=0.1), [methods.build("linear")])
    adapted.set_drop_path(0.4)
    assert [adapted.drop_paths[f"blocks.{i}.drop_path1"].rate for i in range(5)] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


def test_a_model_that_no_table_describes_keeps_its_proportions():
    class Residual(nn.Module):
        def __init__(self, rate):
            super().__init__()
            self.fc, self.drop_path = nn.Linear(4, 4), DropPath(rate)

        def forward(self, x):
            return x + self.drop_path(self.fc(x))

    adapted = Adapted(nn.Sequential(Residual(0.1), Residual(0.2), nn.Linear(4, 2)), [methods.build("linear")])
    adapted.set_drop_path(0.5)
    assert [path.rate for path in adapted.drop_paths.values()] == pytest.approx([0.25, 0.5])


# 1.6.6


def test_the_consistency_sums_over_classes_and_averages_over_the_batch():
    first, second = torch.randn(2, 2, 4, 7, generator=generator())
    got = Classification().distance(first, second, torch.zeros(2, 4, dtype=torch.int64))
    torch.testing.assert_close(got, ((first - second) ** 2).sum(dim=2).sum(dim=1) / 4)


def test_more_views_average_over_their_pairs():
    adapted = adapted_vit()
    objective = pace_tune.Pace(sigma=1.0, lambda_=2.0, views=3)
    x, y = x_of(4), torch.tensor([0, 1, 2, 3])
    terms = objective(adapted, x, y, generator=generator())
    draw = draw_step(adapted, generators=[generator()], samples=4, views=3, plan=objective.plan(adapted), sigma_K=torch.ones(1))
    with adapted.context.step(rows=12, draw=draw):
        f1, f2, f3 = adapted(x.repeat(3, 1, 1, 1)).chunk(3)
    distance = sum((a - b).square().sum(dim=1).mean() for a, b in ((f1, f2), (f1, f3), (f2, f3))) / 3
    assert terms.consistency.item() == pytest.approx(distance.item())
    assert terms.task_loss.item() == pytest.approx(F.cross_entropy(f1, y).item())
    assert terms.total.item() == pytest.approx(terms.task_loss.item() + 2 * distance.item())


# 1.6.7: parameter counts of the full-size models are in tests/methods/test_counts.py


def test_parameter_counts_by_formula():
    width, ranks = 32, {"lora_add": 4, "lora_mul": 10, "lora_mul_vpt_add": 10}
    layers = [(3 * width, width), (width, width), (4 * width, width), (width, 4 * width)]  # out, in
    for method, rank in ranks.items():
        prompt = sum(i for _, i in layers) if method == "lora_mul_vpt_add" else 0
        want = 3 * (sum(rank * (o + i) + o for o, i in layers) + prompt)
        assert adapt(small_vit(depth=3, width=width), method=method, rank=rank).num_parameters(head=False) == want
    assert (
        adapt(small_vit(depth=3, width=width), method="vpt_add").num_parameters() == 3 * sum(i for _, i in layers) + (width + 1) * CLASSES
    )


# What runs once for all views


@pytest.mark.parametrize("quiet_blocks", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("method", ["lora_mul_vpt_add", "linear", "full"])
def test_splitting_into_views_at_a_blocks_door_changes_nothing(method, quiet_blocks):
    adapted = adapted_vit(method, depth=4, drop_path=0.4)
    objective = pace_tune.Pace(sigma=1.0, quiet_blocks=quiet_blocks)
    x, y = x_of(6), torch.tensor([0, 1, 2, 3, 4, 0])
    losses, gradients = [], []
    for splits in (True, False):
        adapted.splits_at_blocks = splits
        adapted.zero_grad()
        terms = objective(adapted, x, y, generator=generator())
        terms.total.backward()
        losses.append((terms.total.item(), terms.consistency.item()))
        gradients.append(torch.cat([p.grad.flatten() for p in adapted.parameters()]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


def test_without_noise_all_objectives_agree_with_cross_entropy():
    adapted, x, y = adapted_vit(), x_of(4), torch.tensor([0, 1, 2, 3])
    want = F.cross_entropy(adapted(x), y).item()
    for objective in (pace_tune.Plain(), pace_tune.Noise(sigma=0.0), pace_tune.Pace(sigma=0.0), pace_tune.PaceDetached(sigma=0.0)):
        terms = objective(adapted, x, y)
        assert terms.total.item() == pytest.approx(want, rel=1e-12)
        assert terms.consistency.item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("head", ["kept", "zero"])
def test_fpa_is_the_distance_from_the_frozen_model(head):
    adapted, x, y = adapted_vit(), x_of(4), torch.tensor([0, 1, 2, 3])
    tuned = adapted(x)
    with adapted.context.without_adapters():
        reference = adapted(x) if head == "kept" else torch.zeros_like(tuned)
    terms = pace_tune.Fpa(lambda_=0.3, head=head)(adapted, x, y)
    distance = (tuned - reference).square().sum(dim=1).mean()
    assert terms.consistency.item() == pytest.approx(distance.item())
    assert terms.total.item() == pytest.approx((F.cross_entropy(tuned, y) + 0.3 * distance).item())
    assert (distance > 1e-3).item()
