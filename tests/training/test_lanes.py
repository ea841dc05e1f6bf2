"""A lane's numbers are its own: whatever trains beside it, joins, leaves, diverges or fails."""

import copy

import pytest
import torch

from pace_tune.training.lane_state import LaneState
from pace_tune.training.population import Lane, Population
from tests.training.crews import a_crew, a_run, curve, more, parameters, train

OBJECTIVES = {
    "plain": {},
    "noise": {"sigma": (0.5, 1.0, 1.5, 2.0)},
    "fpa": {"lambda": (0.0, 0.1, 0.5, 2.0)},
    "pace": {"sigma": (0.5, 1.0, 1.5, 2.0), "lambda": (0.0, 0.1, 0.5, 2.0)},
    "pace_fast": {"sigma": (0.5, 1.0, 1.5, 2.0), "lambda": (0.0, 0.1, 0.5, 2.0)},
    "pace_lazy": {"sigma": (0.5, 1.0, 1.5, 2.0), "lambda": (0.0, 0.1, 0.5, 2.0)},
    "pace_detached": {"sigma": (0.5, 1.0, 1.5, 2.0), "lambda": (0.0, 0.1, 0.5, 2.0)},
}
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
EPOCHS = 4  # of 5 steps


def four_runs(objective: str, **changes) -> dict:
    """Lanes that differ in all they may differ in."""
    runs = {}
    for i in range(4):
        strengths = {f"objective.{key}": values[i] for key, values in OBJECTIVES[objective].items()}
        own = {"method.rank": 2 + 2 * i, "optim.lr": 4e-3 / 2**i, "optim.weight_decay": 10.0**-i, "seed": i, "optim.epochs": 5 + i}
        run = a_run(**{"objective.name": objective, "optim.clip_grad_norm": (None, 1.0)[i % 2], **changes})
        runs[f"t{i}"] = run.with_values({**own, **strengths})
    return runs


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_four_lanes_have_the_losses_that_each_has_alone(objective, dtype):
    runs = four_runs(objective)
    together = train(a_crew(dtype=dtype), runs, epochs=EPOCHS)
    for name in runs if dtype == torch.float64 else ("t0", "t3"):
        alone = train(a_crew(dtype=dtype), {name: runs[name]}, epochs=EPOCHS)
        keys = [key for key in alone[name][0]["metrics"] if key.endswith(("loss", "consistency"))]
        assert curve(together[name], *keys) == pytest.approx(curve(alone[name], *keys), rel=TOLERANCE[dtype])
    # The comparison means something only where the lanes went different ways and got somewhere.
    finals = [reports[-1]["metrics"]["train/loss"] for reports in together.values()]
    assert len(set(finals)) == 4


def exact(reports: dict, names) -> dict:
    return {name: curve(reports[name]) for name in names}


@pytest.mark.parametrize("objective", ["pace", "pace_fast"])
def test_a_lane_that_diverges_stops_alone(objective):
    runs = four_runs(objective)
    survivors = ["t0", "t2", "t3"]
    healthy = a_crew()
    before = train(healthy, runs, epochs=1)
    healthy.drop("t1")
    after = more(healthy, epochs=2)

    crew = a_crew()
    reports = train(crew, {**runs, "t1": runs["t1"].with_values({"optim.lr": 1e30})}, epochs=3)
    assert [(report["state"], report["epoch"]) for report in reports["t1"]] == [("diverged", 1)]
    assert "train/loss is nan" in reports["t1"][0]["reason"]
    # Both crews went through the same shapes, so nothing but the lane itself could make a bit differ.
    assert exact(reports, survivors) == {name: curve(before[name] + after[name]) for name in survivors}
    assert all(torch.equal(parameters(crew, name), parameters(healthy, name)) for name in survivors)


def test_poisoned_parameters_stay_in_their_lane():
    runs = four_runs("pace")
    healthy, poisoned = a_crew(), a_crew()
    train(healthy, runs, epochs=1)
    train(poisoned, runs, epochs=1)
    (population,) = poisoned._populations.values()
    population.adapted.bank.values_KP[2].fill_(float("nan"))
    more(healthy, epochs=1)
    reports = more(poisoned, epochs=1)
    assert [report["state"] for report in reports["t2"]] == ["diverged"]
    for name in ("t0", "t1", "t3"):
        assert torch.equal(parameters(healthy, name), parameters(poisoned, name))


def test_lanes_that_stay_keep_every_number_when_others_come_and_go():
    runs = four_runs("pace_fast")
    crew = a_crew()
    train(crew, {name: runs[name] for name in ("t0", "t1", "t2")}, epochs=1)
    (population,) = crew._populations.values()
    before = {lane.name: population.read(i) for i, lane in enumerate(population.lanes)}
    # t1 leaves, so t2 moves up a row; t3 has the largest rank, so every row gets wider.
    population.set_lanes([population.lanes[0], population.lanes[2], Lane("t3", runs["t3"], LaneState({}))])
    for i, name in enumerate(("t0", "t2")):
        now = population.read(i)
        assert (now.steps, now.epoch) == (before[name].steps, before[name].epoch) == (5, 1)
        for part in ("values", "exp_avg", "exp_avg_sq", "memory"):
            old, new = getattr(before[name], part), getattr(now, part)
            assert list(old) == list(new)
            assert all(torch.equal(old[key], new[key]) for key in old)
            assert any(value.any() for value in new.values())


# Five steps an epoch: a lane of pace_lazy that joins an epoch later is at the other point of its cycle of two.
@pytest.mark.parametrize("objective", ["pace_fast", "pace_lazy"])
def test_lanes_that_join_later_or_lose_neighbours_have_the_losses_they_have_alone(objective):
    runs = four_runs(objective)
    crew = a_crew(dtype=torch.float64)
    first = train(crew, {name: runs[name] for name in ("t0", "t1")}, epochs=1)
    second = train(crew, {name: runs[name] for name in ("t2", "t3")}, epochs=1)
    crew.drop("t1")
    rest = more(crew, epochs=2)
    for name, parts in (("t0", (first, second, rest)), ("t2", (second, rest))):
        together = [report for part in parts for report in part[name]]
        alone = train(a_crew(dtype=torch.float64), {name: runs[name]}, epochs=len(together))
        assert [report["epoch"] for report in together] == list(range(1, len(together) + 1))
        assert curve(together) == pytest.approx(curve(alone[name]), rel=1e-10)


def test_a_lane_given_back_and_opened_again_goes_on():
    runs = {name: run for name, run in four_runs("pace_fast").items() if name in ("t0", "t1")}
    undisturbed, crew = a_crew(), a_crew()
    want = train(undisturbed, runs, epochs=3)
    got = train(crew, runs, epochs=2)
    state = copy.deepcopy(crew.lane("t0").state)
    crew.drop("t0")
    crew.drop("t1")
    # In the same order as before, so that the rows of the bank, and with them every bit, are the same.
    crew.add(Lane("t0", runs["t0"], state), past=got["t0"])
    crew.add(Lane("t1", runs["t1"], copy.deepcopy(crew._populations.popitem()[1].read(1))), past=got["t1"])
    last = more(crew, epochs=1)
    assert {name: curve(got[name] + last[name]) for name in runs} == exact(want, runs)


def test_a_lane_reopened_beside_others_is_not_mistaken_for_its_old_self():
    runs = four_runs("pace")
    crew = a_crew()
    train(crew, {name: runs[name] for name in ("t0", "t1")}, epochs=1)
    state = copy.deepcopy(crew.lane("t1").state)
    crew.drop("t1")
    crew.add(Lane("t1", runs["t1"], state))
    reports = more(crew, epochs=1)
    assert {name: [(r["state"], r["epoch"]) for r in reports[name]] for name in reports} == {"t0": [("running", 2)], "t1": [("running", 2)]}
    assert len(crew._populations) == 1


def test_a_lane_that_raises_fails_alone(monkeypatch):
    runs = four_runs("pace")
    crew = a_crew(dtype=torch.float64)
    first = train(crew, {name: runs[name] for name in ("t0", "t1", "t2")}, epochs=1)
    backward = Population._backward

    def broken(self, batch, *, share):
        if any(lane.name == "t1" for lane in self.lanes) and batch.count_K[0] >= 7:
            raise RuntimeError("no such luck\nsecond line")
        return backward(self, batch, share=share)

    monkeypatch.setattr(Population, "_backward", broken)
    rest = more(crew, epochs=2)
    (population,) = crew._populations.values()
    assert [lane.name for lane in population.lanes] == ["t0", "t2"]  # the sound ones are together again
    assert [(r["state"], r["epoch"], r["reason"], r["metrics"]) for r in rest["t1"]] == [("failed", 2, "RuntimeError: no such luck", {})]
    for name in ("t0", "t2"):
        # The epoch under way was gone through again from its start: no report is missing or twice.
        alone = train(a_crew(dtype=torch.float64), {name: runs[name]}, epochs=3)
        assert curve(first[name] + rest[name]) == pytest.approx(curve(alone[name]), rel=1e-10)


def test_a_newcomer_that_cannot_start_does_not_set_the_others_back(monkeypatch):
    runs = four_runs("pace")
    crew = a_crew(dtype=torch.float64)
    first = train(crew, {name: runs[name] for name in ("t0", "t1")}, epochs=2)
    start = Population._start

    def refuse(self, lane):
        if lane.name == "t2":
            raise ValueError("not on this model")
        start(self, lane)

    monkeypatch.setattr(Population, "_start", refuse)
    rest = train(crew, {"t2": runs["t2"]}, epochs=1)
    assert [(report["state"], report["epoch"]) for report in rest["t2"]] == [("failed", 1)]
    for name in ("t0", "t1"):
        alone = train(a_crew(dtype=torch.float64), {name: runs[name]}, epochs=3)
        assert curve(first[name] + rest[name]) == pytest.approx(curve(alone[name]), rel=1e-10)


def test_lanes_of_different_structure_share_the_backbone_and_nothing_else():
    runs = {"t0": a_run(objective__name="pace"), "t1": a_run(objective__name="plain"), "t2": a_run(method__name="lora_add")}
    crew = a_crew(dtype=torch.float64)
    together = train(crew, runs, epochs=2)
    assert len(crew._populations) == 3
    for name, run in runs.items():
        assert curve(together[name]) == curve(train(a_crew(dtype=torch.float64), {name: run}, epochs=2)[name])
    weights = {id(p) for population in crew._populations.values() for p in population.adapted.model.blocks[0].norm1.parameters()}
    assert len(weights) == 2
