"""What a trial makes of the dispatcher's answers, without a process of its own."""

from typing import Any

import pytest
from ray.air.execution import ResourceRequest

from pace_tune.search.trial import Seat, Seats, Unlimited


class Dispatcher:
    """Notes what it is asked."""

    def __init__(self, name: str) -> None:
        self.name, self.asked = name, []

    def future(self, method: str, *args: Any) -> int:
        self.asked.append((method, *args))
        return len(self.asked)


@pytest.fixture
def seat() -> Seat:
    return Seat({"lane": "t0003", "dispatcher": "one", "run": {"seed": 1}}, client=Dispatcher("one"))


def report(epoch: int, state: str = "running") -> dict[str, Any]:
    return {"lane": "t0003", "epoch": epoch, "epochs": 2, "state": state, "reason": "", "metrics": {}}


def asked(seat: Seat) -> list[tuple[Any, ...]]:
    return seat._client.asked


def test_it_hands_its_lane_over_asks_for_what_it_has_not_seen_and_gives_it_back(seat: Seat):
    seat.__ray_ready__.remote()
    seat.train.remote()
    seat.results([report(1)])
    seat.train.remote()
    seat.stop.remote()
    handed, first, second, given_back = asked(seat)
    assert handed == ("submit", "t0003", {"seed": 1}, seat.ticket)
    assert [first[3], second[3]] == [0, 1]
    assert given_back == ("release", "t0003", seat.ticket)


def test_each_report_is_a_step_and_a_final_one_is_the_last(seat: Seat):
    results = seat.results([report(1), report(2, "finished")])
    assert [result["done"] for result in results] == [False, True]
    assert [result["training_iteration"] for result in results] == [1, 2]
    assert results[1]["report"]["epoch"] == 2


def test_a_wait_that_ended_empty_handed_is_no_step(seat: Seat):
    assert seat.results([]) == []
    assert asked(seat) == []


def test_to_a_dispatcher_that_does_not_know_it_the_lane_is_handed_over_again(seat: Seat):
    assert seat.results(None) == []
    assert asked(seat) == [("submit", "t0003", {"seed": 1}, seat.ticket)]


def test_another_submission_of_the_same_trial_has_another_ticket(seat: Seat):
    assert Seat({"lane": "t0003", "dispatcher": "one", "run": {}}, client=Dispatcher("one")).ticket != seat.ticket


def test_of_a_trial_that_ended_tune_keeps_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pace_tune.search.trial.DispatcherClient", Dispatcher)
    seats = Seats(Unlimited())
    config = {"lane": "t0003", "dispatcher": "one", "run": {}}

    def kept() -> int:
        held = [*vars(seats).values(), *vars(seats._resource_manager).values()]
        return sum(len(each) for each in held if isinstance(each, dict | set | list))

    def one() -> None:
        tracked = seats.add_actor(object, {"config": config}, resource_request=ResourceRequest([{"CPU": 1.0}]))
        assert seats._try_start_actors() == 1
        seats._actor_stop_resolved(tracked)

    one()
    before = kept()
    for _ in range(10):
        one()
    assert kept() == before
