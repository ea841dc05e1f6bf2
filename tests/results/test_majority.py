import json

import numpy as np
import pytest

from pace_tune.results.majority import Floor, score_floor


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
