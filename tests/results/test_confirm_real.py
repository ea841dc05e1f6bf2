"""Against the real worker: a planned sweep's winner is trained on digits and scored on its test split."""

import numpy as np
import pytest

from pace_tune.files import PREDICTIONS
from pace_tune.results.best import find_best
from pace_tune.results.confirm import confirm
from pace_tune.results.confirm_file import CONFIRMED_RUNS, write_confirmation
from pace_tune.results.report.parts import Picture, Table
from pace_tune.results.report.reliability import reliability_diagram
from pace_tune.results.sweep_data import read_sweep
from tests.results.planned_sweeps import Planned


def test_a_winner_is_retrained_scored_and_found_again(sweep_in, tmp_path):
    (best,) = find_best(sweep_in(Planned(epochs=2), epochs=2).parent)
    reports = []
    first = confirm(best, seeds=2, objectives=("plain",), storage=tmp_path / "confirm", threads=1, on_report=reports.append)
    assert {report["epoch"] for report in reports} == {1, 2}
    assert len(reports) == 8
    assert [(score.recipe, score.seed, score.state) for score in first.scores] == [
        *(("pace", 0, "finished"), ("pace", 1, "finished"), ("plain", 0, "finished"), ("plain", 1, "finished")),
    ]
    assert all(0.0 < score.value < 1.0 for score in first.scores)
    # Called again, nothing is left to train, and the checkpoints give the same scores.
    again = confirm(best, seeds=2, objectives=("plain",), storage=tmp_path / "confirm", threads=1)
    assert [score.value for score in again.scores] == pytest.approx([score.value for score in first.scores])


def test_the_report_shows_how_calibrated_each_confirmed_recipe_is(sweep_in):
    folder = sweep_in(Planned(epochs=2), epochs=2)
    (best,) = find_best(folder.parent)
    confirmation = confirm(best, seeds=2, objectives=("plain",), storage=folder / CONFIRMED_RUNS, threads=1)
    write_confirmation(folder, confirmation)
    for score in confirmation.scores:
        with np.load(folder / CONFIRMED_RUNS / score.lane / PREDICTIONS) as kept:
            assert np.allclose(kept["probabilities"].sum(axis=1), 1, atol=1e-5)
            assert (kept["probabilities"].argmax(axis=1) == kept["targets"]).mean() == pytest.approx(score.value)
    picture, table = reliability_diagram(read_sweep(folder)).parts
    assert isinstance(picture, Picture)
    assert isinstance(table, Table)
    assert [(row["recipe"], row["seeds"]) for row in table.rows] == [("pace", 2), ("plain", 2)]
    titles = [axes.get_title(loc="left") or axes.get_title() for axes in picture.draw().axes]
    assert [title.split(", ECE 0.")[0] for title in titles] == ["pace", "plain"]
