"""A model that brings peft's adapters takes every objective that works on outputs, and stays peft's."""

from pathlib import Path

import pytest
import torch

import pace_tune
from pace_tune.errors import UnsupportedError
from pace_tune.methods.carried import Carried
from pace_tune.methods.context import generator
from pace_tune.registry import objectives
from tests.methods.tiny_models import CLASSES, inputs_of

from .carrying import twins

# Those that change the deltas themselves need the deltas.
OF_OUTPUTS = [
    *("plain", "noise", "fpa", "logit_l2", "delta"),
    *("pace", "pace_detached", "pace_lazy", "pace_fast", "pace_h", "pace_add", "pace_drop"),
]
FAMILIES = ["bert", "roberta", "vit", "llama"]
TARGETS = torch.arange(4) % CLASSES


def losses(model, name: str, inputs: dict, targets: torch.Tensor = TARGETS):
    from pace_tune.pace.criterion import CRITERIA

    objective = objectives.build(name)
    memory = objective.memory(samples=8, classes=CLASSES, sites=len(model.sites))
    criterion = CRITERIA["token"] if targets.ndim > 1 else None
    found = objective(model, inputs, targets, index=torch.arange(4), step=0, memory=memory, generator=generator(5), criterion=criterion)
    return found.total, found.consistency


@pytest.mark.parametrize("name", OF_OUTPUTS)
def test_losses_and_gradients_are_our_engines(name: str, tmp_path: Path):
    ours, theirs = twins(tmp_path)
    inputs = inputs_of("bert", dtype=torch.float32)
    expected, found = losses(ours, name, inputs), losses(Carried(theirs), name, inputs)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    for total, _ in (expected, found):
        total.backward()
    names = {key: value for key, value in theirs.named_parameters() if value.requires_grad}
    layer = "bert.encoder.layer.1.attention.self.query"
    grad = names[f"base_model.model.{layer}.lora_B.default.weight"].grad
    torch.testing.assert_close(grad, ours.bank.parameters[f"{layer}/down"].grad[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family(family: str, tmp_path: Path):
    ours, theirs = twins(tmp_path, family=family)
    inputs = inputs_of(family, dtype=torch.float32)
    targets = inputs["input_ids"] if family == "llama" else TARGETS
    carried = Carried(theirs)
    names = {name.replace(".modules_to_save.default", "") for name in carried.sites}
    assert names == set(ours.sites) - {"classifier.dense"}  # RoBERTa's: as new as the head, and without noise
    assert len(carried.drop_paths) == (2 if family == "vit" else 0)
    torch.testing.assert_close(losses(carried, "pace", inputs, targets), losses(ours, "pace", inputs, targets), atol=1e-5, rtol=1e-5)


def test_noise_leaves_no_trace(tmp_path: Path):
    _, theirs = twins(tmp_path)
    inputs = inputs_of("bert", dtype=torch.float32)
    before = theirs.eval()(**inputs).logits
    state = {key: value.clone() for key, value in theirs.state_dict().items()}
    carried = Carried(theirs)
    losses(carried, "pace", inputs)
    torch.testing.assert_close(carried(**inputs), before)
    assert pace_tune.remove(carried) is theirs
    assert {key: value.shape for key, value in theirs.state_dict().items()} == {key: value.shape for key, value in state.items()}
    assert not [module for module in theirs.modules() if module._forward_hooks]


def test_adapt_takes_such_a_model(tmp_path: Path):
    ours, theirs = twins(tmp_path)
    adapted = pace_tune.adapt(theirs)
    assert isinstance(adapted, Carried)
    assert adapted.num_parameters() == ours.num_parameters()
    assert adapted.num_parameters(head=False) == ours.num_parameters(head=False)
    assert {id(p) for p in adapted.parameters()} == {id(p) for p in theirs.parameters() if p.requires_grad}
    with pytest.raises(UnsupportedError, match="carries adapters"):
        pace_tune.adapt(theirs, method="lora_add")
    with pytest.raises(UnsupportedError, match="merge_and_unload"):
        pace_tune.merge(adapted)


def test_inputs_may_be_a_single_tensor():
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Linear(5, 3)), LoraConfig(r=2, target_modules=["0", "1"]))
    pace_tune.Pace()(pace_tune.adapt(model), torch.randn(4, 6), torch.arange(4) % 3).total.backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)


def test_what_does_not_go_says_why(tmp_path: Path):
    _, theirs = twins(tmp_path)
    carried = Carried(theirs)
    with pytest.raises(UnsupportedError, match="changes the deltas itself"):
        losses(carried, "sam", inputs_of("bert", dtype=torch.float32))
    with pytest.raises(UnsupportedError, match="carries no adapters"):
        Carried(torch.nn.Sequential(torch.nn.Linear(2, 2)))
    theirs.base_model.model.bert.encoder.gradient_checkpointing = True
    with pytest.raises(UnsupportedError, match="gradient checkpointing"):
        losses(carried, "pace", inputs_of("bert", dtype=torch.float32))
