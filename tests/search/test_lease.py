"""Two drivers never run one sweep."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pace_tune.search import lease as module
from pace_tune.search.lease import Lease, SweepDrivenError
from tests.conftest import ROOT

HOLD = """
import sys, time
from pace_tune.search.lease import Lease
with Lease(sys.argv[1], sweep="s"):
    print("held", flush=True)
    time.sleep(60)
"""
LINE = r"^the sweep 's' is being run by process \d+ on \S+; nothing was started\.$"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'optuna.db'}"


def quick(url: str, *, sweep: str = "s", expiry_s: float = 1.0) -> Lease:
    return Lease(url, sweep=sweep, beat_s=0.1, expiry_s=expiry_s)


def test_a_second_driver_gets_one_line_and_the_first_goes_on(url: str):
    with quick(url) as first:
        with pytest.raises(SweepDrivenError, match=LINE), quick(url):
            pass
        assert not first.lost
        with quick(url, sweep="another"):
            pass
    with quick(url):
        pass


def test_a_driver_that_does_not_beat_is_replaced_and_notices(url: str, monkeypatch: pytest.MonkeyPatch):
    silent = Lease(url, sweep="s", beat_s=2.0, expiry_s=1.0)
    with silent:
        began = time.monotonic()
        with quick(url, expiry_s=0.5):
            assert time.monotonic() - began >= 0.5
            silent._thread.join(10)
            assert "took the sweep over" in silent.lost
        # Leaving, it takes nothing from whoever has it now.


def test_nobody_waits_for_a_driver_that_was_killed_on_this_machine(url: str):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, url], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(SweepDrivenError, match=f"process {holder.pid} "), Lease(url, sweep="s"):
        pass
    holder.kill()
    holder.wait(10)
    began = time.monotonic()
    with Lease(url, sweep="s"):
        assert time.monotonic() - began < 5.0


def test_of_two_who_take_a_dead_drivers_row_one_succeeds(url: str):
    first, second = quick(url), quick(url)
    first._make_table()
    assert first._insert()
    row = first._read()
    assert [second._write(row, ("second", 0)), first._write(row, ("third", 0))] == [True, False]
    assert not second._insert()


def test_a_process_of_another_machine_is_never_taken_for_dead():
    owner = {**module._process(2**22 + 1), "started": "1", "id": "x"}
    assert module._dead(json.dumps(owner))
    assert not module._dead(json.dumps({**owner, "machine": "another"}))
    assert not module._dead(json.dumps({**owner, "machine": ""}))
