"""A sweep that ended while it started, or is starting now, has no trials, and disturbs no other sweep."""

import sqlite3

import pytest

from pace_tune.cli.main import run
from pace_tune.errors import ConfigError, DataError
from pace_tune.results.best import comparable, find_best
from pace_tune.results.sweep_data import find_sweeps, open_study, read_sweep
from pace_tune.search.lease import Lease
from pace_tune.search.warm_start import warm_points
from pace_tune.study.sweep_database import database_url
from tests.results.planned_sweeps import STUDY, Planned
from tests.search.studies import study


def no_file(folder):
    pass


def empty_file(folder):
    (folder / "optuna.db").touch()


def lease_only(folder):
    with Lease(database_url(folder), sweep=folder.name):
        pass


def tables_only(folder):
    with sqlite3.connect(folder / "optuna.db") as connection:
        connection.execute("CREATE TABLE studies (study_id INTEGER)")
    connection.close()


@pytest.fixture(params=[no_file, empty_file, lease_only, tables_only])
def begun(request, tmp_path):
    folder = tmp_path / "sentences"
    folder.mkdir()
    (folder / "study.yaml").write_text(STUDY.format(task="digits", epochs=10))
    request.param(folder)
    return folder


def test_it_is_a_sweep_without_trials_and_is_left_as_it_is(begun):
    files = {path.name: path.read_bytes() for path in begun.iterdir()}
    sweep = read_sweep(begun)
    assert (sweep.name, sweep.task, sweep.metric, sweep.trials) == ("sentences", "digits", "val/accuracy", ())
    assert {path.name: path.read_bytes() for path in begun.iterdir()} == files
    with pytest.raises(DataError, match=r"^no trial yet in sentences\.$"):
        open_study(begun)


def test_other_sweeps_are_found_beside_it(begun, sweep_in):
    photos = sweep_in(Planned(value=0.8), name="photos")
    assert find_sweeps(begun.parent) == [photos, begun]
    assert [best.sweep for best in find_best(begun.parent)] == ["photos"]
    assert [best.sweep for best in find_best(begun.parent, "photos")] == ["photos"]


def test_asked_for_its_winner_it_says_that_there_is_no_trial(begun, capsys):
    with pytest.raises(DataError, match=r"^no trial yet in sentences\.$"):
        comparable(begun.parent, "sentences")
    assert run(["best", "sentences", "--output", str(begun.parent)]) == 2
    assert "no trial yet in sentences." in capsys.readouterr().err


def test_a_report_on_all_sweeps_is_written(begun, sweep_in, tmp_path):
    sweep_in(Planned(value=0.8), name="photos")
    assert run(["report", "--output", str(tmp_path), "--no-track"]) == 0
    assert "photos" in (tmp_path / "report.html").read_text()


def test_it_has_nothing_to_propose_to_another_sweep(begun):
    if (begun / "optuna.db").exists():
        with pytest.raises(ConfigError, match="no trial yet in the sweep"):
            warm_points(study(begun.parent, name="mine", search={"warm_start_from": ["sentences"]}))
