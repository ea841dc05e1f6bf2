import json
import math
from pathlib import Path

import optuna
import pytest

from pace_tune.errors import DataError
from pace_tune.results.sweep_data import find_sweeps, read_history, read_sweep
from pace_tune.search.book import Book
from pace_tune.study.sweep_database import database_url
from pace_tune.study.sweep_folder import claim_folder
from tests.results.planned_sweeps import Planned, write_history
from tests.search.studies import study


def test_trials_come_with_state_value_settings_and_reports(sweep_in):
    sweep = read_sweep(sweep_in(Planned(value=0.8), Planned(objective="plain", value=0.7, state="pruned", epochs=3)))
    first, second = sweep.trials
    assert (sweep.name, sweep.task, sweep.metric, sweep.higher_is_better) == ("digits", "digits", "val/accuracy", True)
    assert (first.lane, first.state, first.value, first.epoch, first.objective) == ("t0000", "finished", 0.8, 10, "pace")
    assert first.settings["objective.lambda"] == 0.5
    assert first.settings["optim.epochs"] == 10
    assert (second.state, second.epoch, second.objective) == ("pruned", 3, "plain")
    assert "objective.lambda" not in second.chosen


@pytest.mark.parametrize("state", ["diverged", "out_of_memory", "failed"])
def test_what_broke_a_trial_is_its_state(sweep_in, state):
    trial = read_sweep(sweep_in(Planned(state=state, epochs=2, reason="loss is nan at step 7"))).trials[0]
    assert (trial.state, trial.reason, trial.ran_fully) == (state, "loss is nan at step 7", False)


def test_one_that_diverged_keeps_its_last_epoch_though_the_books_call_it_pruned(tmp_path):
    fixed = study(tmp_path, trials=2)
    claim_folder(fixed)
    book = Book(fixed, url=database_url(fixed.folder))
    entry = book.next()
    book.report(entry.number, epoch=1, value=0.4)
    book.tell(entry.number, outcome="diverged", reason="loss is nan")
    write_history(fixed.folder / "lanes" / entry.lane, Planned(state="diverged", epochs=2), number=0, epochs=10)
    trial = read_sweep(fixed.folder).trials[0]
    assert (trial.state, trial.epoch) == ("diverged", 2)


def test_a_running_and_a_waiting_trial_are_read(sweep_in):
    running, waiting = read_sweep(sweep_in(Planned(state="running", epochs=4, value=0.4), Planned(state="waiting"))).trials
    assert (running.state, running.value, waiting.state, waiting.value, waiting.reports) == ("running", 0.4, "waiting", None, ())


def test_reading_changes_nothing(sweep_in):
    folder = sweep_in(Planned(), Planned(state="running"))
    before = (folder / "optuna.db").read_bytes()
    read_sweep(folder)
    assert (folder / "optuna.db").read_bytes() == before


def test_ranks_go_by_value_then_validation_loss_and_skip_what_did_not_run_fully(sweep_in):
    planned = [
        Planned(value=0.8, loss=0.4),
        Planned(value=0.8, loss=0.3),
        Planned(value=0.99, state="pruned", epochs=4),
        Planned(value=0.9, loss=9.0),
        Planned(value=0.95, epochs=9),  # told as complete, though an epoch is missing
        Planned(value=math.inf),
    ]
    assert [trial.number for trial in read_sweep(sweep_in(*planned)).ranked] == [3, 1, 0]


def test_a_lower_value_wins_where_the_study_minimises(sweep_in):
    assert [t.number for t in read_sweep(sweep_in(Planned(value=0.8), Planned(value=0.2), direction="minimize")).ranked] == [1, 0]


def test_the_metric_is_the_one_the_study_names(sweep_in):
    folder = sweep_in(Planned(extra={"best/matthews": 0.3}))
    study = optuna.load_study(study_name="digits", storage=f"sqlite:///{folder / 'optuna.db'}")
    study.set_metric_names(["val/matthews"])
    assert read_sweep(folder).metric == "val/matthews"


def test_a_history_survives_a_kill_in_the_middle_of_a_line_and_epochs_trained_again(tmp_path: Path):
    path = tmp_path / "history.jsonl"
    first, second = ({"epoch": epoch, "metrics": {"a": epoch}} for epoch in (1, 2))
    path.write_text("\n".join([json.dumps(first), '{"epoch": 2, "me', json.dumps(first), json.dumps(second)]))
    assert [(report["epoch"], report["metrics"]["a"]) for report in read_history(path)] == [(1, 1), (2, 2)]


def test_frames_hold_a_row_per_trial_and_a_row_per_epoch(sweep_in):
    sweep = read_sweep(sweep_in(Planned(), Planned(objective="plain", epochs=3, state="pruned")))
    frame, curves = sweep.frame(), sweep.curves()
    assert list(frame["lane"]) == ["t0000", "t0001"]
    assert {"method.rank", "objective.name", "val/accuracy", "measure/fp_distance"} <= set(frame)
    assert len(curves) == 13
    assert set(curves["objective"]) == {"pace", "plain"}


def test_sweeps_are_found_by_their_files(sweep_in, tmp_path):
    folder = sweep_in(Planned())
    (tmp_path / "notes").mkdir()
    assert find_sweeps(tmp_path) == [folder]


def test_a_folder_without_a_sweep_is_one_clear_line(tmp_path, sweep_in):
    with pytest.raises(DataError, match=r"no sweep here, `study.yaml` is missing"):
        read_sweep(tmp_path)
    folder = sweep_in(Planned())
    (folder / "optuna.db").write_text("not a database")
    with pytest.raises(DataError, match="cannot read this study database"):
        read_sweep(folder)
