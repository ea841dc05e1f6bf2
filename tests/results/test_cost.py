import pytest

from pace_tune.results.cost import cost_of, lane_seconds, most_at_once
from pace_tune.results.sweep_data import read_sweep
from tests.results.planned_sweeps import Planned
from tests.results.planted_sweep import write_planted


def event(kind, lane, at_s):
    return {"kind": kind, "lane": lane, "time_ms": int(at_s * 1000)}


def test_pauses_between_drivers_cost_nothing():
    events = [
        event("start", "a", 0),
        event("metrics", "a", 10),
        event("pause", "a", 12),
        event("start", "a", 1000),
        event("end", "a", 1008),
    ]
    assert lane_seconds(events) == {"a": 20.0}


def test_a_driver_that_was_killed_costs_until_its_last_sign_of_life():
    events = [
        event("start", "a", 0),
        event("metrics", "a", 10),
        event("start", "a", 500),
        event("metrics", "a", 505),
        event("end", "a", 506),
    ]
    assert lane_seconds(events) == {"a": 16.0}


def test_lanes_are_apart_and_the_sweeps_own_events_left_out():
    events = [{"kind": "sweep", "time_ms": 0}, event("start", "a", 0), event("start", "b", 5), event("end", "a", 7), event("end", "b", 9)]
    assert lane_seconds(events) == {"a": 7.0, "b": 4.0}


def test_a_sweeps_cost_is_shared_among_the_lanes_of_a_worker(tmp_path):
    folder = write_planted(tmp_path, trials=4)
    study = folder / "study.yaml"
    study.write_text(study.read_text() + "resources: {lanes: 4, gpus_per_worker: 0.5}\n")
    cost = cost_of(read_sweep(folder))
    assert cost.total_lane_s == pytest.approx(sum(cost.lane_s.values()))
    assert cost.gpu_hours == pytest.approx(cost.total_lane_s / 4 / 3600 * 0.5)


def test_a_sweep_without_events_has_no_cost(sweep_in):
    assert cost_of(read_sweep(sweep_in(Planned()))).lane_s == {}


def test_the_lanes_of_a_sweep_that_found_its_own_number_are_counted():
    events = [event("start", "a", 0), event("start", "b", 1), event("end", "a", 2), event("start", "c", 3), event("pause", "b", 4)]
    assert most_at_once(events) == 2
