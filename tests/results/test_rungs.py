from pace_tune.results.report.rungs import rungs as section
from pace_tune.results.report.write import write_report
from pace_tune.results.rungs import rung_epochs, rungs_of, spared_at, value_at
from pace_tune.results.sweep_data import read_sweep
from tests.results.planned_sweeps import Planned
from tests.results.planted_sweep import RUNGS, write_planted


def test_rungs_are_those_of_the_study(tmp_path):
    # The default warm-up is longer than a tenth of thirty epochs.
    folder = write_planted(tmp_path, trials=3)
    study = folder / "study.yaml"
    study.write_text(study.read_text().replace("trials: 16", "trials: 16, early_stopping: {grace_epochs: 4}"))
    assert rung_epochs(read_sweep(folder)) == list(RUNGS)
    study.write_text(study.read_text().replace("{grace_epochs: 4}", "none"))
    assert rung_epochs(read_sweep(folder)) == []


def test_what_happened_at_a_rung_is_counted(tmp_path):
    sweep = read_sweep(write_planted(tmp_path))
    first, second = rungs_of(sweep, RUNGS)
    pruned = [trial for trial in sweep.trials if trial.state == "pruned"]
    assert (first.alive, first.stopped + second.stopped) == (40, len(pruned))
    assert second.alive == 40 - first.stopped - 1  # one diverged between
    assert first.agreement.rho < second.agreement.rho
    assert first.winner_place == 1


def test_a_trial_that_trained_on_until_it_heard_is_stopped_at_its_rung(sweep_in):
    sweep = read_sweep(sweep_in(Planned(), Planned(state="pruned", epochs=3, after=1), Planned(state="pruned", epochs=9)))
    assert [(rung.alive, rung.stopped) for rung in rungs_of(sweep, (3, 9))] == [(3, 1), (2, 1)]


def test_a_value_that_was_not_reported_is_none(sweep_in):
    (trial,) = read_sweep(sweep_in(Planned(epochs=3, state="pruned"))).trials
    assert value_at(trial, "val/accuracy", 9) is None
    assert value_at(trial, "val/accuracy", 3) == 0.9


def quick_ones(stopped_at):
    return [Planned(value=0.8, state="pruned", epochs=stopped_at) for _ in range(7)]


def test_a_winner_that_only_its_being_a_reference_took_past_a_rung_is_called_so(sweep_in):
    sweep = read_sweep(sweep_in(Planned(value=0.9), Planned(value=0.5), Planned(value=0.6), *quick_ones(3)))
    spared = spared_at(sweep, rungs_of(sweep, (3, 9)))
    assert (spared.epoch, spared.winner_place, spared.alive) == (3, 8, 10)
    lead = section(sweep).lead
    assert lead.startswith("The winner is a reference, which is seen to its end")
    assert "`search.early_stopping.grace_epochs`" in lead
    page = write_report([sweep], sweep.folder / "report.html").path.read_text()
    assert "<code>search.early_stopping.grace_epochs</code>" in page


def test_a_winner_that_rungs_let_through_is_spared_nowhere(sweep_in):
    searched = read_sweep(sweep_in(Planned(value=0.5), Planned(value=0.6), Planned(value=0.9), *quick_ones(3)))
    assert spared_at(searched, rungs_of(searched, (3, 9))) is None
    leading = read_sweep(sweep_in(Planned(value=0.9), Planned(value=0.5), Planned(value=0.6), name="leading"))
    assert spared_at(leading, rungs_of(leading, (3, 9))) is None
    assert spared_at(leading, []) is None
