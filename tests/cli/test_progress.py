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
    with EpochProgress() as progress:
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
    with EpochProgress() as progress:
        for report in reports("pace-s0", 40):
            progress.show(report, label=report["lane"])
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("pace-s0 epoch 2/40")
    assert 10 < len(said) < 40


def test_quiet_says_nothing(capsys):
    with EpochProgress(quiet=True) as progress:
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
