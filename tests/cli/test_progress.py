"""A log gets a line now and then: ten a run, two for each of several."""

import pytest

from pace_tune.cli.output import begin
from pace_tune.cli.progress import EpochProgress


def reports(lane: str, epochs: int):
    for epoch in range(1, epochs + 1):
        state = "running" if epoch < epochs else "finished"
        yield {"lane": lane, "epoch": epoch, "epochs": epochs, "state": state, "metrics": {"train/loss": 1 / epoch}}


@pytest.mark.parametrize(("lanes", "lines"), [(["pace-s0", "plain-s0", "plain-s1"], 6), ([""], 10)])
def test_a_log_has_few_lines_and_the_last_epoch_of_every_run(lanes, lines, capsys):
    with EpochProgress(epochs=100 * len(lanes)) as progress:
        for lane in lanes:
            for report in reports(lane, 100):
                progress.show(report, label=lane)
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == lines
    assert said.err.count("epoch 100/100") == len(lanes)
    assert "\x1b" not in said.err, "no colours in a pipe"


def test_a_slow_run_says_something_between_its_few_lines(capsys, monkeypatch):
    clock = iter(range(0, 10_000, 20))
    monkeypatch.setattr("pace_tune.cli.progress.time.monotonic", lambda: next(clock))
    with EpochProgress(epochs=40) as progress:
        for report in reports("pace-s0", 40):
            progress.show(report, label=report["lane"])
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("pace-s0 epoch 2/40")
    assert 10 < len(said) < 40


def test_a_log_says_what_is_left_of_all_runs(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("pace_tune.cli.progress.time.monotonic", lambda: clock[0])
    with EpochProgress(epochs=20) as progress:
        for first, second in zip(reports("a", 10), reports("b", 10), strict=True):
            clock[0] += 60
            for report in (first, second):
                progress.show(report, label=report["lane"])
    said = capsys.readouterr().err.splitlines()
    assert next(line for line in said if "b epoch 5/10" in line).endswith("  about 5 min left")
    assert said[-1].startswith("b epoch 10/10")
    assert "left" not in said[-1]


def test_epochs_of_before_do_not_count_as_quick_ones(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("pace_tune.cli.progress.time.monotonic", lambda: clock[0])
    with EpochProgress(epochs=200) as progress:
        *_, last = reports("there", 100)
        progress.show(last, label="there")
        for report in list(reports("a", 100))[69:]:
            clock[0] += 60
            progress.show(report, label="a")
    assert next(line for line in capsys.readouterr().err.splitlines() if "a epoch 90/" in line).endswith("about 10 min left")


def test_a_run_that_ended_early_leaves_less_to_do(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("pace_tune.cli.progress.time.monotonic", lambda: clock[0])
    with EpochProgress(epochs=20) as progress:
        progress.show({"epoch": 1, "epochs": 10, "state": "diverged", "metrics": {}}, label="a")
        for report in reports("b", 10):
            clock[0] += 60
            progress.show(report, label="b")
    (half,) = (line for line in capsys.readouterr().err.splitlines() if "b epoch 5/10" in line)
    assert half.endswith("about 5 min left")


def test_a_narrow_terminal_keeps_the_count_of_epochs(capsys, monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "80")
    metrics = {"train/loss": 2.1178, "val/accuracy": 0.254, "val/loss": 2.0544}
    with EpochProgress(epochs=8) as progress:
        for epoch in range(1, 4):
            progress.show({"epoch": epoch, "epochs": 8, "state": "running", "metrics": metrics})
            progress._bars.refresh()
    assert "3/8" in capsys.readouterr().err


def test_quiet_says_nothing(capsys):
    with EpochProgress(epochs=3, quiet=True) as progress:
        for report in reports("", 3):
            progress.show(report)
    assert capsys.readouterr() == ("", "")


def test_what_begins_is_said_on_stderr_plain_in_a_log(capsys, monkeypatch):
    begin("exporting digits")
    assert capsys.readouterr() == ("", "exporting digits ...\n")
    monkeypatch.setenv("FORCE_COLOR", "1")
    begin("exporting digits")
    said = capsys.readouterr()
    assert "exporting digits ..." in said.err
    assert "\x1b" in said.err
    assert said.out == ""


def test_an_interrupted_sweep_says_what_it_keeps():
    from pace_tune.cli.commands.sweep import _kept

    assert _kept({"open": 4, "pruned": 2}) == " with 2 trials pruned, 4 begun and kept"
    assert _kept({"finished": 1}) == " with 1 trial finished"
    assert _kept({"open": 1}) == " with 1 trial begun and kept"
    assert _kept({}) == ""
