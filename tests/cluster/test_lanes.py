from itertools import count

import pytest

from pace_tune.cluster.dispatcher import Dispatcher
from pace_tune.cluster.lanes import BACKLOG_REPORTS, DEATHS_FAILED, STARTS_WITHOUT_PROGRESS, LaneTable, Member

CONFIG = {"seed": 0}


def member(name: str = "w", *, rank: int = 0, lanes: int = 4) -> Member:
    return Member(name, rank=rank, lanes=lanes)


def report(lane: str, epoch: int, *, state: str = "running") -> dict:
    return {"lane": lane, "epoch": epoch, "epochs": 9, "state": state, "reason": "", "metrics": {"val/accuracy": epoch / 10}}


def table_with(*lanes: str) -> LaneTable:
    table = LaneTable()
    for lane in lanes:
        table.submit(lane, config=CONFIG, ticket=f"ticket-{lane}")
    return table


def epochs(table: LaneTable, lane: str, *, after_epoch: int = 0) -> list[int]:
    reports = table.reports(lane, ticket=table.lanes[lane].ticket, after_epoch=after_epoch)
    assert reports is not None
    return [found["epoch"] for found in reports]


def opened(table: LaneTable, worker: Member, holding: dict[str, int], reports=()) -> dict[str, int]:
    """Exchange as a worker does, and return what it holds afterwards."""
    commands = table.exchange(worker, reports=reports, holding=holding)
    kept = {lane: placement for lane, placement in holding.items() if lane not in commands.close}
    return {**kept, **{lane: placement for lane, placement, _ in commands.open}}


def test_a_lane_goes_to_a_worker_and_its_reports_to_the_trial_once_and_in_order():
    table = table_with("t0000")
    holding = opened(table, member(), {})
    assert list(holding) == ["t0000"]
    table.exchange(member(), reports=[report("t0000", 1)], holding=holding)
    assert epochs(table, "t0000") == [1]
    # The worker was started again in between and replays.
    table.exchange(member(), reports=[report("t0000", 1), report("t0000", 2)], holding=holding)
    assert epochs(table, "t0000") == [1, 2]
    assert epochs(table, "t0000", after_epoch=1) == [2]


def test_what_a_worker_holds_is_not_opened_again():
    table = table_with("t0000")
    holding = opened(table, member(), {})
    commands = table.exchange(member(), reports=[], holding=holding)
    assert not commands.open
    assert not commands.close


def test_a_lost_answer_is_mended_by_the_next_exchange():
    table = table_with("t0000")
    first = table.exchange(member(), reports=[], holding={})
    again = table.exchange(member(), reports=[], holding={})
    assert first.open == again.open


def test_a_final_report_frees_the_place_and_is_delivered_whatever_epoch_it_names():
    table = table_with("t0000", "t0001")
    worker = member(lanes=1)
    holding = opened(table, worker, {})
    reports = [report("t0000", 3), report("t0000", 3, state="out_of_memory")]
    assert list(opened(table, worker, {}, reports)) == ["t0001"]
    assert list(holding) == ["t0000"]
    assert epochs(table, "t0000", after_epoch=3) == [3]


def test_a_released_lane_is_closed():
    table = table_with("t0000")
    holding = opened(table, member(), {})
    table.release("t0000", ticket="ticket-t0000")
    assert table.exchange(member(), reports=[], holding=holding).close == ["t0000"]
    assert table.reports("t0000", ticket="ticket-t0000", after_epoch=0) is None


def test_only_the_last_submitter_may_release_or_read():
    table = table_with("t0000")
    table.submit("t0000", config=CONFIG, ticket="new")
    table.release("t0000", ticket="ticket-t0000")
    assert table.reports("t0000", ticket="ticket-t0000", after_epoch=0) is None
    assert table.reports("t0000", ticket="new", after_epoch=0) == []


def test_a_new_submitter_reads_from_the_first_epoch_without_opening_again():
    table = table_with("t0000")
    holding = opened(table, member(), {})
    table.exchange(member(), reports=[report("t0000", 1), report("t0000", 2)], holding=holding)
    table.submit("t0000", config=CONFIG, ticket="new")
    assert epochs(table, "t0000") == [1, 2]
    assert not table.exchange(member(), reports=[], holding=holding).open


def test_a_lane_given_back_and_taken_again_is_opened_again_so_that_it_replays():
    table = table_with("t0000")
    holding = opened(table, member(), {})
    table.release("t0000")
    table.submit("t0000", config=CONFIG, ticket="new")
    commands = table.exchange(member(), reports=[], holding=holding)
    assert commands.close == ["t0000"]
    assert [lane for lane, _, _ in commands.open] == ["t0000"]


def test_a_dispatcher_that_lost_everything_gets_its_lanes_back():
    worker, before = member(), table_with("t0000")
    holding = opened(before, worker, {})
    after = LaneTable()
    # The worker comes first: what nobody asked for is closed, its report goes nowhere.
    holding = opened(after, worker, holding, [report("t0000", 4)])
    assert holding == {}
    after.submit("t0000", config=CONFIG, ticket="again")
    holding = opened(after, worker, holding)
    opened(after, worker, holding, [report("t0000", epoch) for epoch in (1, 2, 3, 4)])
    assert epochs(after, "t0000", after_epoch=3) == [4]


def test_a_table_that_replaces_a_lost_one_has_the_lane_opened_again_whatever_its_number():
    first = table_with("t0000")
    holding = opened(first, member(), {})
    opened(first, member(), holding, reports=[report("t0000", 1), report("t0000", 2)])
    second = LaneTable(first_placement=max(holding.values()) + 1)
    second.submit("t0000", config=CONFIG, ticket="again")
    # Epochs 1 and 2 are known to nobody but the worker: it must be told to open the lane, and so replay them.
    assert [name for name, *_ in second.exchange(member(), reports=[report("t0000", 3)], holding=holding).open] == ["t0000"]


def test_every_dispatcher_counts_placements_from_a_number_of_its_own():
    tables = [Dispatcher()._table for _ in range(2)]
    for table in tables:
        table.submit("t0000", config=CONFIG, ticket="t")
    first, second = (opened(table, member(), {})["t0000"] for table in tables)
    assert first != second


def test_the_lanes_of_a_replaced_worker_go_first():
    table = table_with("t0000", "t0001", "t0002")
    opened(table, member("a", lanes=2), {})
    assert table.pending() == ["t0002"]
    holding = opened(table, member("b", lanes=2), {})
    assert list(holding) == ["t0000", "t0001"]
    assert table.restarts == 1


def test_reports_of_a_worker_that_was_replaced_are_not_heard():
    table = table_with("t0000")
    opened(table, member("a"), {})
    opened(table, member("b"), {})
    table.lanes["t0000"].worker = "b"
    table._post(report("t0000", 5), worker="a")
    assert epochs(table, "t0000") == []


def test_lanes_are_shared_out_between_workers():
    table = LaneTable()
    left, right = member("a", rank=0), member("b", rank=1)
    opened(table, left, {})
    opened(table, right, {})
    for lane in ("t0000", "t0001", "t0002", "t0003"):
        table.submit(lane, config=CONFIG, ticket=lane)
    assert len(opened(table, left, {})) == 2
    assert len(opened(table, right, {})) == 2


def test_a_lane_that_keeps_killing_its_worker_is_trained_alone_and_then_fails():
    table = table_with("t0000", "t0001")
    names = (f"w{number}" for number in count())
    for _ in range(2):
        assert len(opened(table, member(next(names)), {})) == 2
    table.last_error = "SegmentationFault"
    for _ in range(2):
        assert list(opened(table, member(next(names)), {})) == ["t0000"]
    # Its neighbour died with it twice and is tried alone too; alone it reports, and is trusted again.
    worker = member(next(names))
    holding = opened(table, worker, {})
    assert list(holding) == ["t0001"]
    opened(table, worker, holding, [report("t0001", 1)])
    last = table.lanes["t0000"].reports[-1]
    assert last["state"] == "failed"
    assert last["reason"] == f"the training worker died {DEATHS_FAILED} times while it trained this lane: SegmentationFault"
    assert table.lanes["t0001"].deaths == 0


def test_workers_that_start_again_and_again_without_a_report_are_broken():
    table = table_with("t0000")
    table.last_error = "FileNotFoundError: history.jsonl"
    for number in range(STARTS_WITHOUT_PROGRESS + 1):
        assert not table.broken
        opened(table, member(f"w{number}"), {})
    assert table.broken.endswith("never reported an epoch: FileNotFoundError: history.jsonl")


def test_a_worker_waits_for_trials_that_lag_behind():
    table = table_with("t0000")
    holding = opened(table, member(), {})
    table.exchange(member(), reports=[report("t0000", epoch) for epoch in range(1, BACKLOG_REPORTS + 1)], holding=holding)
    assert table.crowded("w")
    table.reports("t0000", ticket="ticket-t0000", after_epoch=1)
    assert not table.crowded("w")


@pytest.mark.parametrize("waiting", [(), ("t0000",)])
def test_when_stopping_nothing_is_opened_any_more(waiting):
    table = table_with(*waiting)
    table.stopping = True
    commands = table.exchange(member(), reports=[], holding={})
    assert commands.stop
    assert not commands.open
