"""How many lanes pay is found out by trying twice as many."""

from dataclasses import replace

import pytest

from pace_tune.cluster.lane_limit import EPOCHS, LaneLimit
from pace_tune.cluster.lanes import Commands, LaneTable, Member
from pace_tune.cluster.resources import Request
from pace_tune.cluster.worker_loop import Session
from pace_tune.errors import ConfigError
from pace_tune.search.plan import plan_sweep
from tests.search.fake_worker import FakeWorker
from tests.search.studies import study

CONFIG = {"optim": {"epochs": 99, "lr": 1e-2}}


def settled(limit: LaneLimit, epoch_s, *, memory=lambda lanes: 0.0) -> int:
    for _ in range(40):
        limit.observe(limit.lanes, epoch_s(limit.lanes), memory_share=memory(limit.lanes))
    assert limit.settled
    return limit.lanes


@pytest.mark.parametrize(
    ("name", "epoch_s", "lanes"),
    [
        ("compute-bound: twice the lanes take twice the time", float, 1),
        ("launch-bound: all take the time of one", lambda k: 1.0, 16),
        ("bound by launches up to four", lambda k: max(1.0, k / 4), 4),
        ("out of the cache beyond two", lambda k: 1.0 if k <= 2 else 1.3 * k, 2),
    ],
)
def test_lanes_are_doubled_while_each_gets_cheaper(name, epoch_s, lanes):
    assert settled(LaneLimit(16), epoch_s) == lanes


def test_memory_ends_it_before_it_is_full():
    assert settled(LaneLimit(16), lambda k: 1.0, memory=lambda k: 0.2 * k) == 4


def test_an_epoch_with_empty_lanes_and_a_slow_first_one_count_for_nothing():
    limit = LaneLimit(16)
    for seconds in (9.0, 1.0):
        limit.observe(1, seconds)
    assert limit.lanes == 2
    limit.observe(1, 0.1)
    for seconds in (9.0, 1.2):
        limit.observe(2, seconds)
    assert limit.lanes == 4


class Growing:
    """A dispatcher that fills every lane it is told of."""

    def __init__(self, exchanges: int) -> None:
        self.table, self.left = LaneTable(), exchanges
        for number in range(16):
            self.table.submit(f"t{number:04d}", config=CONFIG, ticket="a")

    def call(self, method, member: Member, reports, holding, _, *, wait_s) -> Commands:
        self.left -= 1
        self.table.stopping = self.left == 0
        return self.table.exchange(member, reports=reports, holding=holding)


def test_a_worker_tells_the_dispatcher_what_it_found_and_is_given_no_more(tmp_path, monkeypatch):
    clock = iter(range(10_000))
    monkeypatch.setattr("pace_tune.cluster.worker_loop.time.perf_counter", lambda: float(next(clock)))
    script = Growing(exchanges=2 + 3 * EPOCHS)
    door = FakeWorker({}, storage=str(tmp_path / "lanes"))
    Session(door, script, Member("w", rank=0, lanes=4), limit=LaneLimit(4)).run()
    assert script.table.limits == {0: 4}
    assert sum(lane.worker == "w" for lane in script.table.lanes.values()) == 4


def test_auto_is_planned_as_what_it_is(tmp_path):
    plan = plan_sweep(study(tmp_path, resources={"lanes": "auto"}), nodes=[{"CPU": 4}])
    assert plan.request == Request(1, 32, 1, 0.0, auto_lanes=True)
    assert plan.rounds is None
    assert "1 worker with as many lanes as pay" in plan.announcement


def test_one_is_not_called_many(tmp_path):
    plan = plan_sweep(study(tmp_path, search={"trials": 1}, resources={"lanes": 1}), nodes=[{"CPU": 4}])
    assert ": 1 trial, 1 worker x 1 lane = 1 at once, 1 round; " in plan.announcement


def test_what_was_done_and_what_goes_on_is_said(tmp_path):
    plan = plan_sweep(study(tmp_path), nodes=[{"CPU": 4}])
    assert ": 8 trials (5 done before, 2 begun that go on), " in replace(plan, closed=5, begun=2).announcement
    assert ": 8 trials (2 begun that go on), " in replace(plan, begun=2).announcement


@pytest.mark.parametrize("lanes", [0, 1.5, "many"])
def test_other_lanes_are_refused(tmp_path, lanes):
    with pytest.raises(ConfigError, match=r"resources.lanes: a whole number >= 1 or 'auto' is needed"):
        study(tmp_path, resources={"lanes": lanes})
