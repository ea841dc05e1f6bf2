"""Against the published code: same weights, inputs and noise give its logits, losses and gradients.

The numbers in tests/reference/pace_reference.npz were written by tests/reference/make_pace_reference.py.
"""

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from pace_tune.methods.adapted import adapt
from pace_tune.pace.levels import sigma_levels
from pace_tune.registry import objectives
from tests.reference.published_cases import CASES, LAMBDA, RANK, SAMPLES, SIGMA, STORED, batch, digest, kept, noise, small_vit, start

TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
METHODS = {
    "lora_mul_vpt_add": {"rank": RANK, "prompt": "factorised"},
    "lora_add": {"rank": RANK},
    "vpt_add": {"rank": RANK, "form": "factorised"},
}


@pytest.fixture(scope="module")
def published():
    return np.load(STORED)


def adapted_as_published(case):
    adapted = adapt(small_vit(case), method=case.method, seed=0, **METHODS[case.method])
    with torch.no_grad():
        for key, parameter in adapted.named_parameters():
            parameter[0].copy_(start(key, *parameter.shape[1:], dtype=parameter.dtype))
    return adapted


def objective_of(case):
    name = "pace_lazy" if case.step.startswith("pace_lazy") else case.step
    return objectives.build({"name": name, "sigma": SIGMA, "lambda": LAMBDA, **({"interval": 2} if name == "pace_lazy" else {})})


@contextmanager
def our_numbers(adapted, objective, *, call):
    """Let the step draw the numbers that belong to the names of its sites and DropPaths."""
    plan, dtype = objective.plan(adapted), adapted.bank.values_KP.dtype
    paths = [path for path in adapted.drop_paths.values() if path.rate > 0]

    def randn(shape, **_):
        parts = {
            name: noise(name, shape[0], columns.stop - columns.start, call=call, dtype=dtype) for name, columns in plan.columns.items()
        }
        drawn = torch.empty(shape, dtype=dtype)
        for name, columns in plan.columns.items():
            drawn[:, columns] = parts[name]
        return drawn

    def rand(shape, **_):
        # What is drawn is uniform; only on which side of the keep rate it lies has an effect.
        sides = [kept(path.name, 1 - path.rate, call=call, dtype=dtype) for path in paths]
        return torch.stack([1.0 - side for side in sides], dim=1).reshape(shape)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn", randn)
        patch.setattr(torch, "rand", rand)
        yield


def published_step(case, adapted):
    objective, (x, y) = objective_of(case), batch(adapted.bank.values_KP.dtype)
    if case.step != "pace_fast":
        with our_numbers(adapted, objective, call=0):
            return objective(adapted, x, y, step=1 if case.step == "pace_lazy_between" else 2)
    memory = {key: value.to(x) for key, value in objective.memory(samples=SAMPLES, classes=adapted.model.num_classes).items()}
    with our_numbers(adapted, objective, call=0):
        objective(adapted, x, y, index=torch.arange(SAMPLES), memory=memory)
    with our_numbers(adapted, objective, call=1):
        return objective(adapted, x.flip(0), y.flip(0), index=torch.arange(SAMPLES).flip(0), memory=memory)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.key)
def test_logits_losses_and_all_gradients_are_the_published_ones(case, published):
    adapted, tolerance = adapted_as_published(case), TOLERANCE[case.dtype]
    terms = published_step(case, adapted)
    terms.total.backward()
    want = {part: published[f"{case.key}/{part}"].astype(np.float64) for part in ("logits", "losses", "gradients")}

    logits = terms.logits.numpy()  # pace_lazy returns those of the half batch that it scores
    np.testing.assert_allclose(logits, want["logits"][: len(logits)], rtol=0, atol=tolerance * np.abs(want["logits"]).max())
    losses = [terms.task_loss.item(), terms.consistency.item(), terms.total.item()]
    np.testing.assert_allclose(losses, want["losses"], rtol=tolerance)

    gradients = {key: parameter.grad[0] for key, parameter in sorted(adapted.named_parameters())}
    got = np.array([digest(key, gradient) for key, gradient in gradients.items()])
    assert got.shape == want["gradients"].shape
    # Relative to the whole gradient of a site: a prompt's factors are sums that nearly cancel, in either code.
    sites = np.array([key.rpartition("/")[0] for key in gradients])
    for site in dict.fromkeys(sites):
        scale = np.linalg.norm(want["gradients"][sites == site, 0])
        np.testing.assert_allclose(got[sites == site], want["gradients"][sites == site], rtol=0, atol=tolerance * scale, err_msg=site)


def test_sigma_per_block_is_the_published_schedule(published):
    # ViT-B: 12 blocks, the first without noise, then the head. Swin-B: 24 blocks, then the head.
    assert sigma_levels(12, quiet_blocks=1) == pytest.approx(published["sigmas_vit"], rel=1e-12)
    assert sigma_levels(24) == pytest.approx(published["sigmas_swin"], rel=1e-12)
