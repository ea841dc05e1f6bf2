"""Every method in compiled blocks: the same logits and gradients as without, or a sentence why not."""

import pytest
import torch
from torch import Tensor

from pace_tune.methods.adapted import Adapted
from pace_tune.methods.context import generator
from pace_tune.pace.draws import draw_step, noise_plan
from pace_tune.training.compiling import FAMILIES, CompiledError, Compiler, why_not_compiled
from tests.methods.test_contract import adapted_of, cases, moved, precision, tolerance
from tests.methods.tiny_models import BATCH, inputs_of

UNCOMPILED = {"adaptformer", "arc", "glora", "noah", "rep_adapter", "vpt_deep", "vpt_shallow"}
UNTRACEABLE = {"peft:dora", "peft:frod", "peft:shira", "peft:waveft"}
"""Types of peft whose code PyTorch cannot trace: their epoch runs again uncompiled."""
SHOWN = {("lora_add", "vit")}


def params() -> list:
    found = [case for case in cases() if case[1] in FAMILIES]
    return [pytest.param(*case, id="-".join(case), marks=[] if case in SHOWN else [pytest.mark.slow]) for case in found]


def step(adapted: Adapted, family: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Logits of a noisy pass, and the gradient of their squares."""
    draw = draw_step(
        adapted, generators=[generator(4)], samples=BATCH, plan=noise_plan(adapted), sigma_K=adapted.bank.values_KP.new_tensor([0.5])
    )
    adapted.bank.zero_grad()
    with adapted.context.step(rows=BATCH, draw=draw):
        logits = adapted(**inputs_of(family, dtype=dtype))
    logits.square().sum().backward()
    return logits.detach(), adapted.bank.grads_KP.clone()


@pytest.mark.parametrize(("name", "family"), params())
def test_a_step_is_that_of_blocks_that_are_not_compiled(name: str, family: str):
    dtype = precision(name)
    plain, other = (moved(adapted_of(name, family)) for _ in range(2))
    for adapted in (plain, other):
        adapted.set_drop_path(0.2)
    compiler = Compiler(backend="eager")
    if not compiler.prepare(other):
        assert why_not_compiled(plain)
        assert name in UNCOMPILED
        return
    torch._dynamo.reset()
    expected = step(plain, family, dtype)
    if name in UNTRACEABLE:
        with pytest.raises(CompiledError), compiler.running(other, key=name):
            step(other, family, dtype)
        return
    with compiler.running(other, key=name):
        found = step(other, family, dtype)
    torch._dynamo.reset()
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=tolerance(name), atol=tolerance(name))
