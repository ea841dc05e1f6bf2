"""A sweep that is ended before it trains: at once, with one line, and the same command goes on."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from tests.results.planned_sweeps import Planned, write_sweep

from .conftest import ROOT, hear_interrupts

SMALL = ["search.trials=2", "resources.lanes=2", "optim.epochs=1", "optim.warmup_epochs=0", "measure.every_epochs=0", "resources.workers=1"]
AT_ONCE_S = 20.0
"""A busy machine's few seconds; Ray by itself takes a minute."""


class Started:
    """`pace-tune sweep` in a process of its own, its lines read as they come."""

    def __init__(self, folder: Path, *more: str) -> None:
        settings = [part for setting in (*SMALL, *more) for part in ("--set", setting)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pace_tune", "sweep", str(ROOT / "search_spaces" / "digits.yaml"), "--json", *settings],
            cwd=folder,
            env={key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"} | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=hear_interrupts,  # noqa: PLW1509  (no other thread runs here)
        )
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        self.said.extend(iter(self.process.stderr.readline, ""))

    def wait_for(self, start: str) -> None:
        deadline = time.monotonic() + 120
        while not any(line.startswith(start) for line in self.said):
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.05)

    def wait_for_event(self, name: str) -> None:
        """Read events until one of that name."""
        assert any(json.loads(line)["event"] == name for line in iter(self.process.stdout.readline, "")), self.said

    def end(self, timeout_s: float) -> tuple[int, str]:
        out = self.process.stdout.read() if self.process.wait(timeout_s) is not None else ""
        self._reader.join(10)
        return self.process.returncode, out


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("line", "later_s"), [("starting Ray", 0.0), ("starting Ray", 3.0), ("waiting for 1 worker", 0.0), ("waiting for 1 worker", 3.0)]
)
def test_sigterm_before_the_workers_are_up(line, later_s, workplace):
    first = Started(workplace)
    try:
        first.wait_for(line)
        time.sleep(later_s)
        before, family = len(first.said), psutil.Process(first.process.pid).children(recursive=True)
        first.process.send_signal(signal.SIGTERM)
        status, _ = first.end(AT_ONCE_S)
    finally:
        first.process.kill()
    assert status == 130
    said = [told for told in first.said[before:] if not told.startswith("waiting for 1 worker")]
    assert len(said) == 1, said
    assert said[0].startswith("Interrupted")
    assert said[0].endswith("the same command goes on.\n")
    assert not psutil.wait_procs(family, timeout=30)[1]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_second_signal_while_trials_are_trained_ends_it_at_once_and_cleanly(workplace):
    first = Started(workplace, "optim.epochs=400")
    try:
        first.wait_for_event("report")
        for _ in range(2):
            first.process.send_signal(signal.SIGINT)
            time.sleep(0.3)
        status, _ = first.end(AT_ONCE_S)
    finally:
        first.process.kill()
    assert status == 130, first.said
    assert first.said[-1] == "Interrupted; the same command goes on.\n"
    assert not any("core_worker" in line or "Traceback" in line for line in first.said), first.said


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_ctrl_c_in_confirm_reaches_its_processes_too_and_prints_no_stack(workplace):
    write_sweep(workplace / "pace-runs", [Planned(epochs=200)], epochs=200)
    process = subprocess.Popen(
        [sys.executable, "-m", "pace_tune", "confirm", "digits", "--seeds", "2", "--processes", "2"],
        cwd=workplace,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=hear_interrupts,  # noqa: PLW1509  (no other thread runs here)
    )
    try:
        said = list(itertools.takewhile(lambda line: " epoch " not in line, iter(process.stderr.readline, "")))
        os.killpg(process.pid, signal.SIGINT)
        last = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in last
    assert last.splitlines()[-1] == "Interrupted; runs are kept as far as they are, and the same command goes on.", (said, last)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_same_command_goes_on(workplace):
    first = Started(workplace)
    try:
        first.wait_for("waiting for 1 worker")
        first.process.send_signal(signal.SIGTERM)
        first.end(AT_ONCE_S)
    finally:
        first.process.kill()
    again = Started(workplace)
    status, out = again.end(300)
    assert status == 0, again.said
    events = [json.loads(told) for told in out.splitlines()]
    assert sorted(event["trial"] for event in events if event["event"] == "end" and event["outcome"] == "finished") == ["t0000", "t0001"]
    # Two trials of one epoch can be over before anything looked at how many workers are up: that line need not come.
    assert any(line.startswith("waiting for 1 worker") for line in again.said)
