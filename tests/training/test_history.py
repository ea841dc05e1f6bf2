"""A lane's reports on disk: cut back to the checkpoint after a crash, one of each epoch whoever writes."""

import json

import pytest

from pace_tune.storage import Storage, open_storage
from pace_tune.training.reports import REPORTS, Reports
from tests import servers


def report(epoch, state="running"):
    return {"lane": "t0", "epoch": epoch, "epochs": 9, "state": state, "reason": "", "metrics": {"val/accuracy": epoch / 10}}


def lines(*reports) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in reports)


def reports_of(folder, *reports) -> Reports:
    made = Reports(open_storage(folder / "t0"))
    for one in reports:
        assert made.append(one)
    return made


def again(reports: Reports) -> Reports:
    """What another process sees."""
    return Reports(reports.storage)


def test_a_crash_between_report_and_checkpoint_leaves_no_report_too_many(tmp_path):
    reports_of(tmp_path, report(1), report(2), report(3))
    reports = Reports(open_storage(tmp_path / "t0"))
    assert reports.until(2) == [report(1), report(2)]
    # And for good: what the epoch reports when it is trained again is not a second time there.
    reports.append(report(3))
    assert again(reports).until(3) == [report(1), report(2), report(3)]


def test_a_finished_report_without_its_checkpoint_is_forgotten_too(tmp_path):
    assert reports_of(tmp_path, report(1), report(2, "finished")).until(1) == [report(1)]


def test_half_a_line_is_not_a_report(tmp_path):
    reports = reports_of(tmp_path, report(1))
    reports.storage.write(REPORTS, lines(report(1)) + b'{"lane": "t0", "epo')
    assert reports.until(5) == [report(1)]
    reports.append(report(2))
    assert again(reports).until(5) == [report(1), report(2)]


def test_how_a_lane_failed_stays(tmp_path):
    reports = [report(1), report(2, "diverged")]
    assert reports_of(tmp_path, *reports).until(1) == reports
    assert list((tmp_path / "t0").iterdir()) == [tmp_path / "t0" / "history.jsonl"]


def test_a_new_lane_has_none(tmp_path):
    assert Reports(open_storage(tmp_path / "t1")).until(0) == []


def test_what_a_store_kept_without_saying_so_is_there_once(tmp_path, monkeypatch):
    """The store dies over its answer: the write is tried again."""
    with servers.s3_here(tmp_path) as server:
        storage = open_storage("s3://sweeps/t0")
        reports, once, write = Reports(storage), [True], type(storage)._write

        def forgets(self: Storage, name: str, data: bytes) -> None:
            write(self, name, data)
            if once and once.pop():
                raise OSError("connection lost")

        monkeypatch.setattr(type(storage), "_write", forgets)
        reports.append(report(1))
        reports.append(report(2))
        assert not once
        assert storage.read(REPORTS) == lines(report(1), report(2))
        assert server is not None


@pytest.mark.parametrize(
    ("there", "read"),
    [
        ([1, 2, 2, 3], [1, 2, 3]),
        ([1, 2, 4], [1, 2]),
        ([2, 3], []),
    ],
    ids=["twice", "a gap", "no beginning"],
)
def test_each_epoch_is_read_once_and_nothing_behind_a_gap(tmp_path, there, read):
    storage = open_storage(tmp_path)
    storage.write(REPORTS, lines(*map(report, there)))
    assert Reports(storage).until(9) == [report(epoch) for epoch in read]


def test_a_worker_that_was_given_up_adds_nothing_to_what_another_one_has_trained(tmp_path):
    given_up = reports_of(tmp_path, report(1))
    other = again(given_up)
    assert other.until(1) == [report(1)]
    other.append(report(2))
    other.append(report(3))
    assert not given_up.append(report(2))
    assert again(other).until(9) == [report(1), report(2), report(3)]


def test_what_a_worker_that_was_given_up_cut_off_comes_back(tmp_path):
    """It had read the file before its network was cut, and writes it when the network is back."""
    other = reports_of(tmp_path, report(1), report(2), report(3))
    other.storage.write(REPORTS, lines(report(1), report(2)))
    assert other.append(report(4))
    assert again(other).until(9) == [report(epoch) for epoch in (1, 2, 3, 4)]
