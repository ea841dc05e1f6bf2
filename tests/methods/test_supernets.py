"""Supernets end to end: random paths in training, choices that inherit and are scored, budgets, and choices that train."""

from pathlib import Path

import pytest
import torch

from pace_tune.errors import ConfigError, DataError, UnsupportedError
from pace_tune.methods.adapted import Adapted, merge
from pace_tune.methods.context import generator
from pace_tune.methods.glora import COLUMNS, Glora
from pace_tune.methods.layout import layout_of
from pace_tune.methods.method import LinearDelta
from pace_tune.methods.noah import Noah
from pace_tune.pace.draws import draw_step, noise_plan
from pace_tune.registry import methods
from tests.methods.tiny_models import BATCH, inputs_of, model_of

GENES = 6 * 4 * 5  # five letters in four layers of six blocks
RUN = {"task": "digits", "backbone": "vit_nano_cifar10", "objective": {"name": "pace", "sigma": 0.5}, "optim": {"epochs": 1}}


@pytest.mark.parametrize("name", ["glora", "noah"])
def test_each_lane_and_step_takes_a_path_of_its_own(name: str):
    adapted = Adapted(model_of("vit"), [methods.build(name)] * 2, seeds=(0, 1))
    rngs = [generator(0), generator(1)]
    first, second = (draw_step(adapted, generators=rngs, samples=BATCH).paths for _ in range(2))
    assert first.keys() == {site for site in adapted.sites if site != "head"}
    for a, b in ((first, second), ({k: v[:1] for k, v in first.items()}, {k: v[1:] for k, v in first.items()})):
        assert any(not torch.equal(a[site], b[site]) for site in a)
    alone = draw_step(Adapted(model_of("vit"), [methods.build(name)]), generators=[generator(1)], samples=BATCH).paths
    assert all(torch.equal(alone[site][0], first[site][1]) for site in alone)


def test_forms_of_glora_are_drawn_alike():
    layout = layout_of(model_of("vit"))
    paths = Glora().paths(layout, torch.rand(4000, Glora().path_numbers(layout), generator=generator(0)))
    for letter, columns in COLUMNS.items():
        share = paths["blocks.0.attn.qkv"][:, columns].mean(dim=0)
        assert (share - 1 / len(share)).abs().max() < 0.04, letter
    ends = Glora().paths(layout, torch.full((1, Glora().path_numbers(layout)), 1 - 2**-24))
    assert all(path.sum() == 5 for path in ends.values())


def test_modules_of_noah_are_there_up_to_their_depth():
    method, layout = Noah(widths=(1, 3)), layout_of(model_of("vit"))
    paths = method.fixed_path(layout, "011" + "111" + "001")
    widths = {site: int(path.sum()) for site, path in paths.items()}
    assert (widths["blocks.0"], widths["blocks.1"]) == (3, 0)
    assert (widths["blocks.0.attn.qkv"], widths["blocks.1.attn.qkv"]) == (3, 3)
    assert (widths["blocks.0.mlp.fc2"], widths["blocks.1.mlp.fc2"]) == (1, 0)


def test_a_prompt_that_is_off_is_not_attended_to():
    adapted = Adapted(model_of("vit"), [Noah(widths=(1, 3))], keep_head=True)
    inputs = inputs_of("vit")
    adapted.context.paths = adapted.methods[0].fixed_path(adapted.layout, "100" + "000" + "000")
    before = adapted(**inputs)
    with torch.no_grad():
        for key, parameter in adapted.named_parameters():
            if key.endswith("prompts"):
                parameter[:, 1:] += 5.0
    torch.testing.assert_close(adapted(**inputs), before, rtol=0, atol=1e-12)


def test_a_choice_that_does_not_fit_the_model_is_refused():
    with pytest.raises(ConfigError, match="one digit per choice"):
        Adapted(model_of("vit"), [Glora(way="0123")])
    with pytest.raises(ConfigError, match=r"the digit of blocks\.0\.attn\.qkv\.C is below 3"):
        Adapted(model_of("vit"), [Glora(way="003" + "0" * 37)])
    with pytest.raises(ConfigError, match=r"method\.way"):
        methods.build({"name": "glora", "way": "AB"})


@pytest.mark.parametrize("digits", ["33222", "33000", "30221", "03212", "11111", "22122", "33022", "23202"])
def test_every_mixture_of_forms_trains_in_lanes_and_merges(digits: str):
    adapted = Adapted(model_of("vit"), [Glora(rank=2, way=digits * 8)] * 2, seeds=(0, 1), keep_head=True)
    with torch.no_grad():
        adapted.bank.values_KP.normal_(std=0.2, generator=generator(0))
    x = inputs_of("vit")["x"]
    draw = draw_step(
        adapted,
        generators=[generator(0), generator(1)],
        samples=BATCH,
        plan=noise_plan(adapted, quiet_blocks=0),
        sigma_K=adapted.bank.values_KP.new_ones(2),
    )
    with adapted.context.step(rows=BATCH, draw=draw):
        adapted(torch.cat([x, x])).sum().backward()
    both = adapted(torch.cat([x, x])).chunk(2)
    for lane in range(2):
        torch.testing.assert_close(merge(adapted, lane=lane)(x), both[lane], rtol=0, atol=1e-12)
    for site in adapted.sites.values():
        if site.name != "head":
            for mine, lifted in zip(site.delta.weights_lanes(site.values), LinearDelta.weights_lanes(site.delta, site.values), strict=True):
                assert (mine is None) == (lifted is None)
                if mine is not None:
                    torch.testing.assert_close(mine, lifted)


def test_a_choice_over_budget_is_refused():
    layout = layout_of(model_of("vit"))
    cost = Glora(rank=2).cost(layout, "0" * 40)
    Adapted(model_of("vit"), [Glora(rank=2, way="0" * 40, budget=cost)])
    with pytest.raises(UnsupportedError, match=f"has {cost:,} parameters, and the budget is {cost - 1:,}"):
        Adapted(model_of("vit"), [Glora(rank=2, way="0" * 40, budget=cost - 1)])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory):
    """A worker with a supernet of GLoRA that trained for an epoch."""
    from pace_tune.worker import Worker

    storage = tmp_path_factory.mktemp("lanes")
    worker = Worker({"task": "digits", "backbone": "vit_nano_cifar10"}, storage=storage, device="cpu")
    worker.open("t0000", {**RUN, "method": {"name": "glora", "rank": 2}})
    (report,) = worker.advance()
    assert report["state"] == "finished", report["reason"]
    return worker, storage / "t0000", report


def test_a_choice_inherits_and_is_scored_without_training(trained):
    worker, supernet, report = trained
    # Everything on is what the supernet itself was scored with.
    whole = {"name": "glora", "rank": 2, "way": "0" * GENES, "inherit": str(supernet)}
    part = {**whole, "way": "31202" * (GENES // 5)}
    worker.open("t0001", {**RUN, "method": whole})
    worker.open("t0002", {**RUN, "method": part})
    reports = {r["lane"]: r for r in worker.advance()}
    assert all(r["state"] == "finished" for r in reports.values()), reports
    assert reports["t0001"]["metrics"]["val/accuracy"] == report["metrics"]["val/accuracy"]
    assert reports["t0001"]["metrics"]["val/loss"] == pytest.approx(report["metrics"]["val/loss"], rel=1e-5)
    assert reports["t0002"]["metrics"]["val/loss"] != pytest.approx(report["metrics"]["val/loss"], rel=1e-5)
    assert worker.score("t0002", "val")["accuracy"] == reports["t0002"]["metrics"]["val/accuracy"]


def test_a_choice_over_budget_fails_alone_and_says_why(trained):
    worker, supernet, _ = trained
    worker.open("t0003", {**RUN, "method": {"name": "glora", "rank": 2, "way": "0" * GENES, "inherit": str(supernet), "budget": 10}})
    worker.open("t0004", {**RUN, "method": {"name": "glora", "rank": 2, "way": "1" * GENES, "inherit": str(supernet)}})
    reports = {r["lane"]: r for r in worker.advance()}
    assert reports["t0003"]["state"] == "failed"
    assert "the budget is 10" in reports["t0003"]["reason"]
    assert reports["t0004"]["state"] == "finished"


def test_a_choice_without_a_supernet_trains(trained):
    worker, _, _ = trained
    worker.open("t0005", {**RUN, "method": {"name": "glora", "rank": 2, "way": "1" * GENES}})
    (report,) = worker.advance()
    assert report["state"] == "finished"
    assert "train/loss" in report["metrics"]


def test_a_supernet_that_is_not_there_or_another_is_refused(tmp_path: Path, trained):
    _, supernet, _ = trained
    layout = layout_of(model_of("vit"))
    fresh = Adapted(model_of("vit"), [Glora(rank=2)]).lane_values(0)
    with pytest.raises(DataError, match="not a lane checkpoint"):
        Glora(rank=2, way="0" * 40, inherit=tmp_path).start(layout, fresh)
    with pytest.raises(ConfigError, match="of this method, model and task"):
        Noah(way="0" * 9, inherit=supernet).start(layout, {"blocks.0/prompts": torch.zeros(1, 16)})
