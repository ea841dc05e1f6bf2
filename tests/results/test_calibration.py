import json

import numpy as np
import pytest

from pace_tune.results.calibration import find_predictions, pooled, read_reliability, reliability


def test_someone_who_is_right_as_often_as_sure_is_calibrated():
    draw = np.random.default_rng(0)
    sure = draw.uniform(0.5, 1.0, 20_000)
    right = draw.random(20_000) < sure
    probabilities = np.stack([sure, 1 - sure], axis=1)
    found = reliability(probabilities, np.where(right, 0, 1))
    assert found.ece < 0.015
    assert all(abs(said - true) < 0.05 for said, true, count in found.bins if count > 500)


def test_the_error_is_the_distance_between_sure_and_right():
    probabilities = np.array([[0.9, 0.1]] * 4)
    found = reliability(probabilities, np.array([0, 0, 1, 1]))
    assert found.bins == ((pytest.approx(0.9), 0.5, 4),)
    assert found.ece == pytest.approx(0.4)
    assert reliability(np.array([[1.0, 0.0]]), np.array([0])).ece == 0


def test_predictions_of_a_confirmation_are_found_by_recipe(tmp_path):
    scores = [{"recipe": recipe, "seed": seed, "lane": f"{recipe}-s{seed}"} for recipe in ("pace", "plain") for seed in range(2)]
    (tmp_path / "confirm.json").write_text(json.dumps({"scores": [*scores, {"recipe": "noise", "seed": 0, "lane": "noise-s0"}]}))
    for lane in ("pace-s0", "pace-s1", "plain-s0", "left-over-s0"):
        (tmp_path / "confirm" / lane).mkdir(parents=True)
        np.savez(tmp_path / "confirm" / lane / "predictions.npz", probabilities=np.eye(3), targets=np.arange(3))
    found = find_predictions(tmp_path)
    assert {recipe: [file.parent.name for file in files] for recipe, files in found.items()} == {
        "pace": ["pace-s0", "pace-s1"],
        "plain": ["plain-s0"],
    }
    assert read_reliability(found["pace"][0]).count == 3
    assert not find_predictions(tmp_path / "nowhere")


def test_several_runs_together_are_as_calibrated_as_all_their_examples():
    draw = np.random.default_rng(1)
    said, targets = draw.dirichlet(np.ones(4), 300), draw.integers(0, 4, 300)
    whole = reliability(said, targets)
    together = pooled([reliability(said[part], targets[part]) for part in (slice(0, 100), slice(100, 300))])
    assert together.count == whole.count
    assert together.ece == pytest.approx(whole.ece)
    assert np.allclose(together.bins, whole.bins)
