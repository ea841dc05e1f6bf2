"""Calibration error and temperatures on probabilities whose truth is known."""

import pytest
import torch

from pace_tune.theory.calibration import calibration_error, fitted_temperature, tempered_loss
from tests.theory.toys import DOUBLE, rng


@pytest.fixture(scope="module")
def sample():
    """Logits, and targets drawn from their own probabilities."""
    logits = 2 * torch.randn(20_000, 5, generator=rng(), dtype=DOUBLE)
    return logits, torch.multinomial(logits.softmax(dim=-1), 1, generator=rng(1))[:, 0]


def test_true_probabilities_have_no_error(sample):
    logits, targets = sample
    assert calibration_error(logits, targets) < 0.015
    assert calibration_error(logits / 4, targets) > 0.2
    assert calibration_error(4 * logits, targets) > 0.1


@pytest.mark.parametrize("temperature", [0.3, 1.0, 5.0])
def test_the_temperature_that_was_applied_is_found(sample, temperature: float):
    logits, targets = sample
    assert fitted_temperature(temperature * logits, targets) == pytest.approx(temperature, rel=0.03)


def test_the_tempered_loss_does_not_depend_on_the_scale(sample):
    logits, targets = sample
    plain = tempered_loss(logits, targets)
    assert tempered_loss(7 * logits, targets) == pytest.approx(plain, rel=1e-3)
    assert plain == pytest.approx(float(torch.nn.functional.cross_entropy(logits, targets)), rel=1e-3)
