"""Against the real worker: a planned sweep's winner is trained on digits and scored on its test split."""

import pytest

from pace_tune.results.best import find_best
from pace_tune.results.confirm import confirm
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
