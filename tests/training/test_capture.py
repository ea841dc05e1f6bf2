"""Recorded steps: when a population records, and that it goes on without where that fails. What a GPU makes of it is in tests/gpu."""

import logging

import pytest
import torch

from pace_tune.errors import ConfigError
from pace_tune.pace.criterion import Classification
from pace_tune.training import population as module
from pace_tune.training.capture import FEWEST_STEPS, CaptureError, captures
from pace_tune.training.lane_state import LaneState
from pace_tune.training.population import Lane, Population
from tests.training.crews import a_run, images, small_vit


class Replayed:
    """What a recording does on a GPU: recording runs nothing, and each replay reads and writes the same memory."""

    made = 0

    def __init__(self, step, index_KB, lr_K, *, generators):
        type(self).made += 1
        self.step, self.inputs, self.sums = step, (index_KB.clone(), lr_K.clone()), None
        self.generators = {id(generator) for generator in generators}

    def __call__(self, index_KB, lr_K):
        for mine, now in zip(self.inputs, (index_KB, lr_K), strict=True):
            mine.copy_(now)
        sums = self.step(*self.inputs)
        if self.sums is None:
            self.sums = sums
        for key, value in sums.items():
            self.sums[key].copy_(value)
        return self.sums


class Failing(Replayed):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for number in (0, 1):
            self.step.keywords["noise"][number].manual_seed(13)
        raise CaptureError("AcceleratorError: operation not permitted when stream is capturing")


def population_of(lanes: int, *, samples: int = 40, capture: bool = False, **changes) -> Population:
    members = [Lane(f"t{i}", a_run(**{"seed": i, "optim.lr": 2e-3 * (i + 1), **changes}), LaneState({})) for i in range(lanes)]
    return Population(
        small_vit(), members, train=images(samples, seed=1), criterion=Classification(), metric="accuracy", capture=capture
    )  # fmt: skip


def learnt(population: Population, epochs: int = 3) -> torch.Tensor:
    return torch.stack([population.run_epoch()["loss"] for _ in range(epochs)])


@pytest.fixture
def recordings(monkeypatch):
    monkeypatch.setattr(Replayed, "made", 0)
    monkeypatch.setattr(module, "Recording", Replayed)
    return Replayed


@pytest.mark.parametrize("objective", ["plain", "pace", "pace_fast", "pace_lazy", "ftp", "sam"])
def test_all_epochs_with_the_same_lanes_replay_one_recording(objective, recordings):
    changes = {"objective.name": objective, "data.augment": "crop_flip"}
    assert torch.equal(learnt(population_of(2, capture=True, **changes)), learnt(population_of(2, **changes)))
    assert recordings.made == 1


def test_other_lanes_are_recorded_anew(recordings):
    recorded, plain = population_of(3, capture=True), population_of(3)
    for population in (recorded, plain):
        population.run_epoch()
        population.set_lanes(population.lanes[1:])
    assert torch.equal(learnt(recorded), learnt(plain))
    assert recordings.made == 2


@pytest.mark.parametrize(("changes", "samples"), [
    ({}, 8 * (FEWEST_STEPS - 1)),
    ({"backbone.gradient_checkpointing": True}, 40),
    ({"objective.name": "pace_every"}, 40),
])  # fmt: skip
def test_steps_that_would_not_pay_or_cannot_be_held_are_not_recorded(changes, samples, recordings):
    learnt(population_of(1, samples=samples, capture=True, **changes), epochs=1)
    assert recordings.made == 0


def test_parts_of_batches_are_not_recorded(recordings):
    population = population_of(1, capture=True)
    population.micro_batches = 2
    population.run_epoch()
    assert recordings.made == 0


def test_where_recording_fails_the_epoch_runs_again_without(monkeypatch, caplog):
    changes = {"objective.name": "pace"}
    expected = learnt(population_of(2, **changes))
    monkeypatch.setattr(module, "Recording", Failing)
    population = population_of(2, capture=True, **changes)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(learnt(population), expected)
    assert caplog.text.count("launched one by one") == 1


def test_texts_are_not_recorded():
    from pace_tune.models.backbone import InputSpec
    from pace_tune.training.data import ResidentData

    ids = torch.zeros(4, 8, dtype=torch.int64)
    texts = ResidentData({"input_ids": ids, "attention_mask": ids + 1}, torch.zeros(4, dtype=torch.int64), InputSpec(max_length=8))
    assert not texts.steady
    assert images(4, seed=1).steady


def test_the_setting():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [captures(wanted, device=gpu) for wanted in ("auto", True, False)] == [True, True, False]
    assert [captures(wanted, device=cpu) for wanted in ("auto", False)] == [False, False]
    with pytest.raises(ConfigError, match="need a GPU"):
        captures(True, device=cpu)
    with pytest.raises(ConfigError, match="one of auto, true, false"):
        captures("often", device=gpu)
