"""Several processes train what one would."""

from typing import Any

import pytest
import torch

from pace_tune.errors import ConfigError
from pace_tune.training.population import Population
from pace_tune.training.team import ProcessTeam, Seat, join
from pace_tune.worker import Worker
from tests.training.crews import a_crew, a_run, curve, parameters, train
from tests.training.teams import CPU, seat_of

KEYS = ("train/loss", "train/task_loss", "train/consistency", "val/loss")
SETUP = {"task": {"name": "digits", "shots": 2, "val_per_class": 2}, "backbone": "vit_nano_cifar10", "data": {}}
DIGITS = {
    "task": SETUP["task"],
    "backbone": SETUP["backbone"],
    "method": {"name": "lora_add", "rank": 2},
    "objective": "pace",
    "optim": {"epochs": 2, "warmup_epochs": 0, "batch_size": 8, "lr": 1e-3},
    "measure": {"every_epochs": 0},
}


def runs_of(objective: str, *, batch_size: int = 8) -> dict[str, Any]:
    changes = {"objective__name": objective, "data__augment": "crop_flip", "optim__batch_size": batch_size}
    return {"t0": a_run(**changes), "t1": a_run(**changes, seed=1, method__rank=5)}


def learned(team: Any, objectives: list[str]) -> list[Any]:
    """Each objective's curves and parameters after two epochs."""
    found = []
    for objective in objectives:
        crew = a_crew(dtype=torch.float64, team=team)
        runs = runs_of(objective, batch_size=8 if objective == "pace_lazy" else 7)
        reports = train(crew, runs, epochs=2)
        found.append({name: (curve(reports[name], *KEYS), parameters(crew, name).tolist()) for name in runs})
    return found


def test_a_team_learns_what_one_process_does(in_team):
    # Augmentation, DropPath renormalised over the batch, an odd batch; pace_fast keeps a memory of every sample.
    objectives = ["plain", "pace", "pace_fast", "pace_lazy", "pace_detached"]
    alone = learned(None, objectives)
    first, second = in_team(learned, objectives)
    assert first == second  # to the bit, or they would drift apart
    for ours, expected in zip(first, alone, strict=True):
        for name in expected:
            assert ours[name][0] == pytest.approx(expected[name][0], rel=1e-10)
            assert ours[name][1] == pytest.approx(expected[name][1], rel=1e-6, abs=1e-9)


def out_of_memory_once(team: ProcessTeam) -> Any:
    """Run where one process has no room for more than two samples a lane."""
    backward = Population._backward

    def fits(self, batch, *, share):
        if team.rank == 1 and batch.samples > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return backward(self, batch, share=share)

    Population._backward = fits
    crew = a_crew(dtype=torch.float64, team=team)
    reports = train(crew, runs_of("pace"), epochs=2)
    (population,) = crew._populations.values()
    return {name: curve(reports[name], *KEYS) for name in reports}, population.micro_batches


def test_memory_that_one_lacks_divides_the_step_of_all(in_team):
    crew = a_crew(dtype=torch.float64)
    whole = train(crew, runs_of("pace"), epochs=2)
    for curves, micro_batches in in_team(out_of_memory_once):
        assert micro_batches == 2
        for name in whole:
            assert curves[name] == pytest.approx(curve(whole[name], *KEYS), rel=1e-10)


def one_breaks(team: ProcessTeam) -> Any:
    backward = Population._backward

    def breaks(self, batch, *, share):
        if team.rank == 1 and any(lane.name == "t1" for lane in self.lanes):
            raise ValueError("a damaged lane")
        return backward(self, batch, share=share)

    Population._backward = breaks
    reports = train(a_crew(team=team), runs_of("plain"), epochs=2)
    return {name: [(r["state"], r["reason"]) for r in reports[name]] for name in reports}


def test_an_error_of_one_is_the_lanes_and_not_the_teams(in_team):
    first, second = in_team(one_breaks)
    assert first["t0"] == [("running", "")] * 2 == second["t0"]
    assert [state for state, _ in first["t1"]] == ["failed"]
    assert "a damaged lane" in first["t1"][0][1]
    assert "a damaged lane" in second["t1"][0][1]


def through_the_door(seat: dict[str, Any] | None, storage: str, spread: bool = False) -> Any:
    """Two runs, one of them given back after an epoch, as a worker's process is told to."""
    worker = Worker({**SETUP, "shard_backbone": spread}, storage=storage, threads=1, device="cpu", seat=seat)
    if worker.team.rank > 0:
        worker.follow()
        worker.team.leave()
        return sorted(worker.crew._lanes)
    with pytest.raises(ConfigError, match="optim"):
        worker.open("bad", {**DIGITS, "optim": {"lr": "fast"}})
    worker.open("t0", DIGITS)
    worker.open("t1", {**DIGITS, "seed": 1})
    reports = worker.advance()
    worker.close("t1")
    reports += worker.advance()
    scores = {} if seat and not spread else worker.score("t0", "val")
    worker.stop()
    if spread:
        with pytest.raises(ConfigError, match="'full' does not go with a backbone that is spread: it trains as many numbers"):
            worker.open("t2", {**DIGITS, "method": "full"})
    if seat is not None:
        with pytest.raises(ConfigError, match="'sam' needs the whole batch in one process, but 2 share it"):
            worker.open("t2", {**DIGITS, "objective": "sam"})
        with pytest.raises(ConfigError, match="2 processes share a batch of at least 4"):
            worker.open("t2", {**DIGITS, "optim": {**DIGITS["optim"], "batch_size": 3}})
        worker.team.leave()
    rows = [(r["lane"], r["epoch"], r["state"], r["metrics"]["train/loss"], r["metrics"]["val/loss"]) for r in reports]
    assert not scores or scores["loss"] == pytest.approx(rows[-1][-1], rel=1e-6)
    return rows


@pytest.mark.parametrize("spread", [False, True])
def test_a_worker_of_two_processes_is_called_as_one(in_team, tmp_path, spread):
    leader, follower = in_team(through_the_door, str(tmp_path / "team"), spread)
    alone = through_the_door(None, str(tmp_path / "alone"))
    assert [row[:3] for row in leader] == [("t0", 1, "running"), ("t1", 1, "running"), ("t0", 2, "finished")]
    assert follower == []  # it gave back what the leader did
    for ours, expected in zip(leader, alone, strict=True):
        assert ours[3:] == pytest.approx(expected[3:], rel=1e-4)
    assert (tmp_path / "team" / "t0" / "history.jsonl").read_text().count("\n") == 2  # written once, by the leader


def commands(team: ProcessTeam) -> Any:
    if team.rank == 0:
        team.tell("open", "t0", {"lr": 1e-3})
        return None
    return list(team.hear())


def test_the_others_hear_what_the_leader_tells(in_team):
    assert in_team(commands) == [None, ["open", "t0", {"lr": 1e-3}]]


def test_a_seat_is_a_place_in_a_team_of_that_size():
    assert Seat(**seat_of(1, 5)).rank == 1
    assert join(None, device=CPU).size == 1
