from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pace_tune.study.domains import ChoiceDomain, FloatDomain, IntDomain
from pace_tune.study.study_config import Study

from .conftest import changed


def test_the_space_is_flat_with_names_first(study):
    assert study.space == {
        "objective.name": ChoiceDomain(("plain", "pace")),
        "method.rank": IntDomain(1, 16),
        "objective.sigma": FloatDomain(0.1, 2.0),
        "objective.lambda": FloatDomain(0.02, 2.0, log=True),
        "optim.lr": FloatDomain(3e-4, 3e-2, log=True),
    }


def test_defaults_are_the_classes_own_where_they_lie_inside(study, tree):
    defaults = study.defaults()
    assert defaults["objective.name"] == "pace"
    assert defaults["method.rank"] == type(study.run({}).method)().rank
    assert defaults["optim.lr"] == 1e-3
    moved = Study.parse(changed(tree, {"method.rank": {"int": [20, 30]}, "objective": {"choice": ["plain", "noise"]}}))
    assert moved.defaults()["method.rank"] == 25
    assert moved.defaults()["objective.name"] == "plain"


def test_fields_count_only_where_the_class_has_them(study):
    assert "objective.sigma" in study.active({"objective.name": "pace"})
    assert study.active({"objective.name": "plain"}) == ("objective.name", "method.rank", "optim.lr")
    assert study.active({}) == study.active({"objective.name": "pace"})


def test_a_run_fills_holes_and_drops_what_does_not_count(study):
    config = study.run({"objective.name": "plain", "objective.sigma": 1.5, "method.rank": 3})
    assert config.objective.name == "plain"
    assert config.method.rank == 3
    assert config.optim.lr == 1e-3
    assert study.run({"objective.sigma": 1.5}).objective.sigma == 1.5


def test_a_fixed_field_of_one_choice_is_dropped_under_the_other(tree):
    study = Study.parse(changed(tree, {"objective.sigma": 0.7}))
    assert study.run({"objective.name": "pace"}).objective.sigma == 0.7
    assert study.run({"objective.name": "plain"}).objective.name == "plain"


def test_the_first_points_are_the_defaults_then_plain_then_the_warm_start(tree):
    study = Study.parse(changed(tree, {"search.warm_start": [{"method": {"rank": 3}}, {"method.rank": 3}, {"optim.lr": 1e-2}]}))
    defaults, plain, *warm = study.first_points()
    assert defaults == study.defaults()
    assert plain == {"objective.name": "plain", "method.rank": defaults["method.rank"], "optim.lr": defaults["optim.lr"]}
    assert warm == [{"method.rank": 3}, {"optim.lr": 1e-2}]
    assert Study.parse(changed(tree, {"search.baseline": False})).first_points() == []


def test_without_a_choice_there_is_no_plain_point(tree):
    study = Study.parse(changed(tree, {"objective": "pace"}))
    assert study.first_points() == [study.defaults()]


def test_a_grid_counts_conditional_points_once(tree):
    domains = {
        "objective.sigma": {"choice": [0.5, 1.0]},
        "objective.lambda": {"choice": [0.1, 0.2, 0.5]},
        "optim.lr": {"choice": [1e-3, 1e-2]},
    }
    study = Study.parse(changed(tree, {**domains, "method.rank": 4, "search": {"sampler": "grid"}}))
    points = list(study.holes.grid())
    # plain: 2 learning rates; pace: 2 sigmas, 3 lambdas, 2 learning rates.
    assert study.holes.size() == len(points) == study.search.trials == 2 + 12
    assert len({tuple(sorted(point.items())) for point in points}) == 14
    assert all(set(point) == set(study.active(point)) for point in points)
    assert study.holes.size() == 14


def test_metric_and_direction_come_from_the_task(study, tree):
    assert (study.metric, study.mode) == ("val/accuracy", "max")
    loss = Study.parse(changed(tree, {"search.metric": "val/loss"}))
    assert (loss.metric, loss.mode) == ("val/loss", "min")
    assert Study.parse(changed(tree, {"search.metric": "val/loss", "search.mode": "max"})).mode == "max"


@pytest.mark.parametrize(
    ("changes", "grace", "most"),
    [
        ({}, 4, 30),
        ({"optim.warmup_epochs": 8}, 9, 30),
        ({"optim.epochs": 300}, 30, 300),
        ({"optim.epochs": {"choice": [10, 50]}}, 6, 50),
        ({"optim.warmup_epochs": {"int": [0, 12]}}, 13, 30),
        ({"search.early_stopping": {"grace_epochs": 2}}, 2, 30),
    ],
)
def test_early_stopping_waits_for_the_warm_up(tree, changes, grace, most):
    study = Study.parse(changed(tree, changes))
    assert (study.grace_epochs, study.max_epochs) == (grace, most)


def test_a_study_survives_writing(study, tmp_path):
    assert Study.parse(study.as_mapping()) == study
    assert study.as_mapping()["objective"]["lambda"] == {"float": [0.02, 2.0], "log": True}


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_point_of_the_space_is_a_run_of_just_that_point(data):
    study = Study.load("search_spaces/digits.yaml")
    point: dict[str, Any] = {}
    for path, domain in study.space.items():
        if path in study.active(point):
            strategy = {
                FloatDomain: lambda d: st.floats(d.low, d.high),
                IntDomain: lambda d: st.integers(d.low, d.high),
                ChoiceDomain: lambda d: st.sampled_from(d.choices),
            }[type(domain)](domain)
            point[path] = data.draw(strategy)
    flat = study.run(point).flat()
    assert {path: flat[path] for path in point} == point
