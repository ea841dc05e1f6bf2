"""The scripts in `benchmarks/` are run by hand and seldom: what they lean on must not move under them."""

import runpy
from pathlib import Path

import pytest

from pace_tune.tracking.tracker import Tracker

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(BENCHMARKS.glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_finds_all_that_it_imports(script: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    assert runpy.run_path(str(script))["__doc__"]


def test_the_tracker_that_tracks_nothing_has_all_of_the_real_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    untracked = runpy.run_path(str(BENCHMARKS / "tracking_overhead.py"))["Untracked"]
    # The sweep does not flush: that is for a sweep that was complete.
    assert {name for name in dir(Tracker) if not name.startswith("_")} - {"flush"} <= set(dir(untracked))
