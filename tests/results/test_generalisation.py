"""A planted truth: the gap grows with the gradient norm by itself, and with the FP-distance only because both follow the fit."""

import pytest

from pace_tune.results.generalisation import Point, at_loss, measured, relations, target_loss
from pace_tune.results.sweep_data import Trial, read_sweep
from tests.results.planted_sweep import write_planted


def trial(*losses: float, measure: float = 1.0) -> Trial:
    reports = tuple(
        {
            "epoch": 5 * i,
            "epochs": 30,
            "state": "running",
            "metrics": {"val/loss": loss + 0.5, "gap/loss": 0.5, "measure/grad_norm": measure * i},
        }
        for i, loss in enumerate(losses, start=1)
    )
    return Trial(number=0, state="finished", reason="", value=0.5, chosen={}, settings={}, reports=reports)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    sweep = read_sweep(write_planted(tmp_path_factory.mktemp("runs")))
    return {relation.measure: relation for relation in relations(sweep.trials)}


def test_a_measure_that_truly_goes_with_the_gap_does_so_at_matched_loss_too(planted):
    found = planted["measure/grad_norm"]
    assert found.raw.low > 0
    assert found.matched.low > 0.8
    assert found.partial.low > 0


def test_one_that_only_follows_the_fit_loses_its_correlation_at_matched_loss(planted):
    found = planted["measure/fp_distance"]
    assert found.raw.low > 0
    assert not found.matched.sure
    assert not found.partial.sure


def test_what_was_not_measured_is_left_out(planted):
    assert set(planted) == {"measure/grad_norm", "measure/fp_distance"}
    assert relations([trial()]) == []


def test_points_are_read_between_the_measurements_around_the_loss():
    (found,) = at_loss([measured(trial(2.0, 1.0, 0.5))], 1.5)
    assert isinstance(found, Point)
    assert (found.epoch, found.train_loss) == (7.5, 1.5)
    assert found.values["measure/grad_norm"] == pytest.approx(1.5)


def test_trials_that_start_below_the_loss_or_never_reach_it_are_left_out():
    curves = [measured(trial(*losses)) for losses in ((0.4, 0.1), (2.0, 1.8), (2.0, 0.2))]
    assert len(at_loss(curves, 0.5)) == 1


def test_the_loss_is_one_that_three_quarters_of_the_trials_pass():
    curves = [measured(trial(2.0, lowest)) for lowest in (0.1, 0.2, 0.3, 0.4)]
    assert target_loss(curves) == pytest.approx(0.3)
