"""Dropout inside deltas: the right rate and mean, shared by views, independent of neighbours, off in evaluation."""

import pytest
import torch

from pace_tune.methods.adapted import Adapted
from pace_tune.methods.context import generator
from pace_tune.methods.dropout import DropoutDraw, dropout_draw
from pace_tune.pace.draws import draw_step, view_of
from pace_tune.registry import methods
from tests.methods.tiny_models import BATCH, inputs_of, model_of


def draw(*seeds: int, samples: int = 64, **kwargs) -> DropoutDraw:
    return dropout_draw([generator(seed) for seed in seeds], samples=samples, **kwargs)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_rate_and_mean(rate: float):
    mask = draw(0).mask("site", rows=64, tokens=50, width=40, rate=rate)
    count = mask.numel()
    assert abs(float((mask == 0).float().mean()) - rate) < 4 * (rate * (1 - rate) / count) ** 0.5
    assert abs(float(mask.mean()) - 1) < 4 * (rate / (1 - rate) / count) ** 0.5


def test_neighbouring_units_tokens_and_samples_are_independent():
    mask = draw(0).mask("site", rows=64, tokens=30, width=30, rate=0.5).view(64, 30, 30) - 1  # +1 or -1
    for axis in range(3):
        first, second = mask.narrow(axis, 0, mask.shape[axis] - 1), mask.narrow(axis, 1, mask.shape[axis] - 1)
        assert abs(float((first * second).mean())) < 4 / first.numel() ** 0.5


def test_sites_seeds_and_lanes_have_masks_of_their_own():
    both = draw(0, 1, samples=8).mask("a", rows=8, tokens=5, width=7, rate=0.5)
    assert not torch.equal(both[0], both[1])
    assert torch.equal(both[1:], draw(1, samples=8).mask("a", rows=8, tokens=5, width=7, rate=0.5))
    assert not torch.equal(both, draw(0, 1, samples=8).mask("b", rows=8, tokens=5, width=7, rate=0.5))


def test_a_wider_neighbour_changes_nothing():
    narrow = draw(0, samples=8).mask("a", rows=8, tokens=5, width=7, rate=0.5)
    assert torch.equal(narrow, draw(0, samples=8).mask("a", rows=8, tokens=5, width=12, rate=0.5)[..., :7])


def test_views_parts_and_pairs_share():
    whole = draw(0, samples=8).mask("a", rows=8, tokens=5, width=7, rate=0.5).view(8, 5, 7)
    views = draw(0, samples=8).mask("a", rows=16, tokens=5, width=7, rate=0.5).view(2, 8, 5, 7)
    assert torch.equal(views[0], whole)
    assert torch.equal(views[1], whole)
    part = draw(0, samples=8).part(torch.tensor([2, 6])).mask("a", rows=2, tokens=5, width=7, rate=0.5)
    assert torch.equal(part.view(2, 5, 7), whole[[2, 6]])
    paired = draw(0, samples=8, paired_K=torch.tensor([True])).mask("a", rows=8, tokens=5, width=7, rate=0.5).view(8, 5, 7)
    assert torch.equal(paired[:4], paired[4:])


@pytest.mark.parametrize("name", ["lora", "rep_adapter", "arc", "adapter_pfeiffer", "adaptformer", "noah"])
def test_a_step_drops_and_evaluation_does_not(name: str):
    adapted = Adapted(model_of("vit"), [methods.build({"name": name, "dropout": 0.5})], keep_head=True)
    with torch.no_grad():
        adapted.bank.values_KP.normal_(std=0.2, generator=generator(0))
    inputs = inputs_of("vit")
    assert torch.equal(adapted(**inputs), adapted(**inputs))
    adapted.drop_paths.clear()
    drawn = draw_step(adapted, generators=[generator(0)], samples=BATCH, views=2)
    drawn = type(drawn)(dropout=drawn.dropout)
    outs = []
    for view in range(2):
        with adapted.context.step(rows=BATCH, draw=view_of(drawn, view, samples=BATCH)):
            outs.append(adapted(**inputs))
    assert torch.equal(*outs)  # two passes, one mask
    assert (outs[0] - adapted(**inputs)).abs().max() > 1e-3
