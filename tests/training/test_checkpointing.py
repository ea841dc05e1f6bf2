"""Gradient checkpointing changes the memory of a step and nothing else."""

import pytest
import torch

from pace_tune.registry import methods, objectives
from pace_tune.training.checkpointing import checkpoint_blocks
from tests.training.crews import CLASSES, a_run, images, small_vit

CASES = [
    ("lora_mul_vpt_add", {"rank": 2}, "pace", {"sigma": 1.0}),
    ("lora", {"rank": 2, "dropout": 0.3}, "pace_lazy", {"sigma": 1.0}),
    ("adaptformer", {}, "pace_detached", {"sigma": 1.0}),
    ("vpt_deep", {}, "plain", {}),
]


def gradients(method, fields, objective, strengths, *, checkpointed):
    from pace_tune.methods.adapted import Adapted

    model = small_vit()
    adapted = Adapted(model, [methods.build({"name": method, **fields})], seeds=[1])
    adapted.set_drop_path(0.3)
    if checkpointed:
        checkpoint_blocks(adapted)
    data = images(8, seed=0)
    with torch.no_grad():
        for parameter in adapted.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    rng = torch.Generator().manual_seed(5)
    terms = objectives.build({"name": objective, **strengths})(
        adapted, data.batch(torch.arange(8)[None]), data.targets, generator=rng, step=0
    )
    calls = []
    handle = adapted.model.blocks[1].attn.register_forward_hook(lambda *_: calls.append(1))
    terms.total.backward()
    handle.remove()
    return terms.total.detach(), [parameter.grad.clone() for parameter in adapted.parameters()], len(calls)


@pytest.mark.parametrize(("method", "fields", "objective", "strengths"), CASES)
def test_loss_and_gradients_are_the_same_and_blocks_run_again(method, fields, objective, strengths):
    plain_loss, plain, no_calls = gradients(method, fields, objective, strengths, checkpointed=False)
    loss, found, calls = gradients(method, fields, objective, strengths, checkpointed=True)
    assert no_calls == 0
    assert calls >= 1
    torch.testing.assert_close(loss, plain_loss)
    for a, b in zip(found, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert any(float(gradient.abs().max()) > 0 for gradient in plain)


def test_a_run_asks_for_it_through_its_backbone():
    assert not a_run().backbone.gradient_checkpointing
    assert a_run(backbone__gradient_checkpointing=True).backbone.gradient_checkpointing
    assert CLASSES > 1
