"""Waiting shows how far it is, but only when there is something to wait for."""

from pace_tune.benchmarks import waiting as module
from pace_tune.benchmarks.waiting import waiting


def test_quick_work_shows_nothing(capsys):
    assert list(waiting(range(5), total=5, label="decoding")) == list(range(5))
    assert capsys.readouterr().err == ""


def test_slow_work_says_how_far_it_is_and_loses_nothing(capsys, monkeypatch):
    monkeypatch.setattr(module, "QUIET_S", 0.0)
    monkeypatch.setattr(module, "LINE_EVERY_S", 0.0)
    assert list(waiting(iter("abc"), total=3, label="decoding cats")) == ["a", "b", "c"]
    assert "decoding cats: 3 of 3" in capsys.readouterr().err
