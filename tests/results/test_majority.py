import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from pace_tune.benchmarks.folder import Folder
from pace_tune.results.best import find_best
from pace_tune.results.majority import Floor, score_floor, winner_floor, winner_floor_text
from tests.benchmarks.layouts import png
from tests.results.planned_sweeps import Planned


def confirmed(folder, metric="test/accuracy", kept=True):
    (folder / "confirm" / "pace-s0").mkdir(parents=True)
    (folder / "confirm.json").write_text(json.dumps({"metric": metric, "scores": [{"recipe": "pace", "seed": 0, "lane": "pace-s0"}]}))
    if kept:
        file = folder / "confirm" / "pace-s0" / "predictions.npz"
        np.savez(file, probabilities=np.eye(4), targets=np.array([2, 0, 2, 1]))
    return folder


def test_the_floor_is_the_share_of_the_commonest_test_class(tmp_path):
    assert score_floor(confirmed(tmp_path)) == Floor(0.5, 4)


def test_matthews_correlation_has_its_floor_by_definition(tmp_path):
    assert score_floor(confirmed(tmp_path, "test/matthews", kept=False)) == Floor(0.0)


@pytest.mark.parametrize(("metric", "kept"), [("test/f1", True), ("test/accuracy", False)])
def test_of_other_scores_or_without_predictions_nothing_is_said(metric, kept, tmp_path):
    assert score_floor(confirmed(tmp_path, metric, kept)) is None
    assert score_floor(tmp_path / "nowhere") is None


@pytest.fixture
def winner(tmp_path, sweep_in):
    """Of one's own photos: two of three in val are cats, two of four in test."""
    counts = {("train", "cat"): 1, ("train", "dog"): 5, ("val", "cat"): 2, ("val", "dog"): 1, ("test", "cat"): 2, ("test", "dog"): 2}
    for (split, name), count in counts.items():
        for number in range(count):
            png(tmp_path / "photos" / split / name / f"{number}.png", seed=len(split) + 10 * number)
    (best,) = find_best(sweep_in(Planned(value=2 / 3), name="own", task="folder", data=str(tmp_path / "photos")).parent)
    return best


def test_a_winner_that_is_no_better_than_its_commonest_class_is_called_so(winner):
    said = "Saying the commonest class every time: 0.6667 on 3 examples of val."
    assert winner_floor_text(winner) == f"{said} The winner is no better, it may have learned nothing."
    # A mean in single precision.
    assert winner_floor_text(replace(winner, value=float(np.float32(2 / 3)))).endswith("nothing.")
    assert winner_floor_text(replace(winner, value=1.0)) == said
    assert winner_floor(replace(winner, metric="val/matthews")) == Floor(0.0)
    assert winner_floor_text(replace(winner, metric="val/f1")) == ""


def test_only_val_is_looked_at_for_the_winners_floor(winner, monkeypatch):
    looked, numbers = [], Folder.class_numbers
    monkeypatch.setattr(Folder, "class_numbers", lambda task, split, **more: looked.append(split) or numbers(task, split, **more))
    assert winner_floor(winner) == Floor(2 / 3, 3)
    assert looked == ["val"]


def test_data_that_is_not_on_this_machine_is_no_error(winner, tmp_path):
    shutil.rmtree(tmp_path / "photos")
    assert winner_floor_text(winner) == ""
