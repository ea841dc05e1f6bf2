"""A sweep that cannot be read is named in a warning and hides no other; whoever asks for it is told why."""

import pytest

from pace_tune.cli.main import run
from pace_tune.errors import ConfigError, DataError, PaceTuneWarning
from pace_tune.results.best import choose_sweeps, find_best
from tests.results.planned_sweeps import Planned


def no_database(folder):
    (folder / "optuna.db").write_text("not a database")


def no_study(folder):
    (folder / "study.yaml").write_text("task: [")


@pytest.fixture(params=[no_database, no_study])
def damaged(request, sweep_in):
    folder = sweep_in(Planned(value=0.9), name="broken")
    request.param(folder)
    return folder


@pytest.fixture
def output(damaged, sweep_in):
    sweep_in(Planned(value=0.8), name="photos")
    return damaged.parent


def test_the_others_are_shown_and_it_is_named(output, damaged, capsys):
    with pytest.warns(PaceTuneWarning, match=f"left out: {damaged}/"):
        assert [best.sweep for best in find_best(output)] == ["photos"]
    for command in (["best"], ["best", "digits"], ["report", "--no-track"], ["ls", "sweeps"]):
        assert run([*command, "--output", str(output)]) == 0
        said = capsys.readouterr()
        assert "photos" in said.out
        assert str(damaged) in said.err + said.out
        assert "Warning" not in said.err


def test_whoever_names_a_sound_sweep_hears_nothing_of_it(output, recwarn):
    assert [sweep.name for sweep in choose_sweeps(output, "photos")] == ["photos"]
    assert not [one for one in recwarn if one.category is PaceTuneWarning]


@pytest.mark.parametrize("name", ["broken", "studies/broken.yaml"])
def test_whoever_asks_for_it_is_told_why_it_cannot_be_read(output, damaged, name, capsys):
    with pytest.raises((ConfigError, DataError), match=str(damaged)):
        find_best(output, name)
    assert run(["best", name, "--output", str(output)]) == 2
    assert str(damaged) in capsys.readouterr().err


def test_where_no_other_is_there_it_is_the_mistake(damaged):
    with pytest.raises((ConfigError, DataError), match=str(damaged)):
        find_best(damaged.parent)
