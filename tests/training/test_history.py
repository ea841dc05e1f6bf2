"""A lane's reports on disk: cut back to the checkpoint after a crash."""

from pace_tune.storage import open_storage
from pace_tune.training.history import REPORTS, History


def report(epoch, state="running"):
    return {"lane": "t0", "epoch": epoch, "epochs": 9, "state": state, "reason": "", "metrics": {"val/accuracy": epoch / 10}}


def history_of(folder, *reports) -> History:
    history = History(open_storage(folder / "t0"))
    for one in reports:
        history.append(one)
    return history


def test_a_crash_between_report_and_checkpoint_leaves_no_report_too_many(tmp_path):
    history = history_of(tmp_path, report(1), report(2), report(3))
    assert history.until(2) == [report(1), report(2)]
    # And for good: what the epoch reports when it is trained again is not a second time there.
    history.append(report(3))
    assert history.until(3) == [report(1), report(2), report(3)]


def test_a_finished_report_without_its_checkpoint_is_forgotten_too(tmp_path):
    assert history_of(tmp_path, report(1), report(2, "finished")).until(1) == [report(1)]


def test_half_a_line_is_not_a_report(tmp_path):
    history = history_of(tmp_path, report(1))
    history.storage.append(REPORTS, b'{"lane": "t0", "epo')
    assert history.until(5) == [report(1)]
    history.append(report(2))
    assert history.until(5) == [report(1), report(2)]


def test_how_a_lane_failed_stays(tmp_path):
    reports = [report(1), report(2, "diverged")]
    assert history_of(tmp_path, *reports).until(1) == reports
    assert list((tmp_path / "t0").iterdir()) == [tmp_path / "t0" / "history.jsonl"]


def test_a_new_lane_has_none(tmp_path):
    assert History(open_storage(tmp_path / "t1")).until(0) == []
