import numpy as np
import pytest

from pace_tune.results.calibration import find_predictions, read_reliability, reliability


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


def test_predictions_are_found_in_the_lanes_of_a_sweep(tmp_path):
    for place in ("lanes/t0001", "confirm/pace-s0"):
        (tmp_path / place).mkdir(parents=True)
        np.savez(tmp_path / place / "predictions.npz", probabilities=np.eye(3), targets=np.arange(3))
    found = dict(find_predictions(tmp_path))
    assert list(found) == ["pace-s0", "t0001"]
    assert read_reliability(found["t0001"]).count == 3
