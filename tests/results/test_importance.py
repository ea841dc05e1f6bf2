"""Importance on a planted sweep, where the learning rate matters most, and on resampled trials of it."""

import random

import pytest

from pace_tune.results.importance import importances, importances_of
from pace_tune.results.sweep_data import Sweep, read_sweep
from tests.results.planted_sweep import write_planted


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Sweep:
    return read_sweep(write_planted(tmp_path_factory.mktemp("planted")))


def test_the_groups_are_all_trials_and_those_of_each_objective(sweep):
    found = {one.group: one for one in importances(sweep)}
    assert list(found) == ["all", "pace", "plain"]
    assert all(next(iter(one.shares)) == "optim.lr" for one in found.values())
    assert "objective.sigma" in found["pace"].shares
    assert "objective.sigma" not in found["all"].shares
    numbers = [trial.number for trial in sweep.ranked]
    assert found["all"].shares == importances_of(sweep, numbers)


def test_trials_may_be_drawn_with_replacement(sweep):
    numbers = [trial.number for trial in sweep.ranked if trial.objective == "pace"]
    drawn = random.Random(0).choices(numbers, k=len(numbers))
    assert len(set(drawn)) < len(numbers)
    assert sum(importances_of(sweep, drawn).values()) == pytest.approx(1)
