import pytest

from pace_tune.cluster.lanes import Commands, Member
from pace_tune.cluster.worker_loop import Session, WorkerPlan, _said, load_door
from pace_tune.errors import DataError
from tests.search.fake_worker import FakeWorker

CONFIG = {"optim": {"epochs": 2, "lr": 1e-2}}


class Script:
    """A dispatcher that says what is written, and remembers what it was told."""

    def __init__(self, *answers: Commands) -> None:
        self.answers, self.told = list(answers), []

    def call(self, method: str, member: Member, reports: list, holding: dict, _: float, *, wait_s: float) -> Commands:
        assert method == "exchange"
        self.told.append((list(reports), dict(holding)))
        return self.answers.pop(0)


def run(script: Script, storage) -> FakeWorker:
    door = FakeWorker({}, storage=str(storage))
    Session(door, script, Member("w", rank=0, lanes=4)).run()
    return door


def test_a_lane_is_opened_trained_to_its_end_and_forgotten(tmp_path):
    script = Script(Commands(open=[("t0000", 7, CONFIG)]), Commands(), Commands(), Commands(stop=True))
    door = run(script, tmp_path / "lanes")
    states = [[report["state"] for report in reports] for reports, _ in script.told]
    assert states == [[], ["running"], ["finished"], []]
    assert [holding for _, holding in script.told] == [{}, {"t0000": 7}, {}, {}]
    assert not door.lanes


def test_what_is_raised_on_purpose_is_a_sentence_without_the_name_of_a_class():
    assert _said(DataError("/photos: no such folder.")) == "/photos: no such folder"
    assert _said(KeyError("x")) == "KeyError: 'x'"


def test_past_reports_are_replayed_when_a_lane_is_opened_again(tmp_path):
    run(Script(Commands(open=[("t0000", 1, CONFIG)]), Commands(stop=True)), tmp_path / "lanes")
    script = Script(Commands(open=[("t0000", 1, CONFIG)]), Commands(stop=True))
    run(script, tmp_path / "lanes")
    assert [report["epoch"] for report in script.told[1][0]] == [1, 2]


def test_closing_comes_before_opening(tmp_path):
    script = Script(Commands(open=[("t0000", 1, CONFIG)]), Commands(close=["t0000"], open=[("t0000", 2, CONFIG)]), Commands(stop=True))
    door = run(script, tmp_path / "lanes")
    assert not door.lanes
    assert [report["epoch"] for report in script.told[2][0]] == [1, 2]


def test_a_lane_that_cannot_be_opened_fails_alone(tmp_path):
    script = Script(Commands(open=[("t0000", 1, CONFIG), ("t0001", 2, None)]), Commands(stop=True))
    door = FakeWorker({}, storage=str(tmp_path / "lanes"))
    opened = door.open
    door.open = lambda lane, config: opened(lane, config) if config else 1 / 0
    Session(door, script, Member("w", rank=0, lanes=4)).run()
    reports = {report["lane"]: report for report in script.told[1][0]}
    assert (reports["t0001"]["state"], reports["t0001"]["reason"]) == ("failed", "ZeroDivisionError: division by zero")
    assert reports["t0000"]["state"] == "running"


def test_the_door_is_found_by_name(tmp_path):
    plan = WorkerPlan("d", 1, {}, str(tmp_path / "lanes"), worker="tests.search.fake_worker:FakeWorker")
    assert type(load_door(plan)).__name__ == "FakeWorker"
    with pytest.raises(ModuleNotFoundError):
        load_door(WorkerPlan("d", 1, {}, str(tmp_path), worker="no_such_module:Worker"))
