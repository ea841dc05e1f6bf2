"""Real processes are killed; afterwards nothing is lost, nothing is there twice, and the values are those of a quiet sweep."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pace_tune.search.book import Book
from pace_tune.search.sweep import run_sweep
from pace_tune.study.study_config import Study
from pace_tune.study.sweep_database import database_url
from pace_tune.tracking.spool import CURSOR_FILE, EVENTS_FILE, Spool
from tests.conftest import ROOT
from tests.search.fake_worker import EPOCH_S, curve
from tests.search.run_one import the_study
from tests.search.stores import assert_each_trial_is_everywhere_once, lanes_in_optuna, worker_pid
from tests.search.studies import FAKE, study

pytestmark = pytest.mark.slow

SCENE_TIMEOUT_S = 200.0
# Ray's own agents look now and then whether their parent is there.
RAY_AGENTS = ("ray::RuntimeEnvAgent",)


class Driver:
    """A sweep in a process of its own."""

    def __init__(self, output: Path, *, trials: int, epochs: int, stopping: str = "none", epoch_s: float = 0.1) -> None:
        arguments = [str(output), str(trials), str(epochs), stopping]
        # With it, Ray's processes find the doubles of the learning half.
        environment = {**os.environ, EPOCH_S: str(epoch_s), "PYTHONPATH": str(ROOT)}
        environment.pop("RAY_ADDRESS", None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.search.run_one", *arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        self.lines.extend(iter(self.process.stdout.readline, ""))

    def events(self, kind: str) -> list[dict]:
        found = [json.loads(line) for line in list(self.lines) if line.startswith("{")]
        return [event for event in found if event["event"] == kind]

    def wait_for(self, condition, what: str) -> None:
        deadline = time.monotonic() + SCENE_TIMEOUT_S
        while not condition():
            assert self.process.poll() is None, f"ended while waiting for {what}: {''.join(self.lines[-30:])}"
            assert time.monotonic() < deadline, f"waited too long for {what}: {''.join(self.lines[-30:])}"
            time.sleep(0.05)

    def family(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []

    def member(self, title: str) -> psutil.Process:
        return next(process for process in self.family() if _title(process).startswith(title))

    def finish(self) -> dict:
        """Wait for the end and return the result."""
        self.process.wait(SCENE_TIMEOUT_S)
        self._reader.join(10)
        assert self.process.returncode == 0, "".join(self.lines[-40:])
        return self.events("result")[0]


def _title(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


@pytest.fixture
def drivers() -> Iterator[list[Driver]]:
    """Every driver of a test; those that are left are ended with all of their processes."""
    started: list[Driver] = []
    yield started
    for driver in started:
        family = driver.family()
        driver.process.kill()
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def assert_values_are_those_of_a_quiet_sweep(study: Study, quiet: Path) -> None:
    """Proposals as another driver makes them, and the whole curve of each."""
    reference = Study.parse({**study.as_mapping(), "output": str(quiet)}, name=study.name)
    reference.folder.mkdir(parents=True)
    book = Book(reference, url=database_url(reference.folder))
    found = lanes_in_optuna(study)
    while (entry := book.next()) is not None:
        expected = {epoch: curve(entry.run, epoch)["val/accuracy"] for epoch in range(1, study.max_epochs + 1)}
        assert found[entry.lane].intermediate_values == expected


def gone(processes: list[psutil.Process], *, but: tuple[str, ...] = ()) -> None:
    """Wait until processes have ended by themselves; end those whose titles may take longer."""
    patient = [process for process in processes if _title(process).startswith(but)] if but else []
    _, alive = psutil.wait_procs([process for process in processes if process not in patient], timeout=30)
    assert not alive, [_title(process) for process in alive]
    for process in patient:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def test_the_driver_is_killed_three_times(tmp_path, drivers):
    size = {"trials": 12, "epochs": 6}
    for kill in range(3):
        driver = Driver(tmp_path, **size)
        drivers.append(driver)
        # Replays of the trials before count as reports too.
        driver.wait_for(lambda: len(driver.events("end")) >= kill + 1 and len(driver.events("report")) > 8, "some trials")  # noqa: B023
        time.sleep(random.Random(kill).random())
        family = driver.family()
        driver.process.send_signal(signal.SIGKILL)
        gone(family, but=RAY_AGENTS)
    drivers.append(Driver(tmp_path, **size))
    assert drivers[-1].finish() == {"event": "result", "state": "finished", "untracked": 0}
    what = the_study(tmp_path, stopping="none", **size)
    assert_each_trial_is_everywhere_once(what, trials=size["trials"])
    assert_values_are_those_of_a_quiet_sweep(what, tmp_path / "quiet")


def test_workers_and_the_dispatcher_are_killed(tmp_path, drivers):
    size = {"trials": 12, "epochs": 6}
    driver = Driver(tmp_path, **size, epoch_s=0.3)
    drivers.append(driver)
    what = the_study(tmp_path, stopping="none", **size)

    def reports() -> int:
        return len(driver.events("report"))

    for title in ("ray::Dispatcher", "worker", "ray::Dispatcher", "worker", "ray::Dispatcher"):
        before = reports()
        driver.wait_for(lambda: reports() > before + 4, f"reports after {title}")  # noqa: B023
        victim = worker_pid(what.folder) if title == "worker" else driver.member(title).pid
        os.kill(victim, signal.SIGKILL)
    assert driver.finish() == {"event": "result", "state": "finished", "untracked": 0}
    assert_each_trial_is_everywhere_once(what, trials=size["trials"])
    assert_values_are_those_of_a_quiet_sweep(what, tmp_path / "quiet")
    assert any("a training worker died" in event["text"] for event in driver.events("note"))


def test_a_driver_killed_under_early_stopping_repeats_its_decisions(tmp_path, drivers):
    size = {"trials": 16, "epochs": 9, "stopping": "asha"}
    first = Driver(tmp_path, **size)
    drivers.append(first)
    first.wait_for(lambda: sum(event["outcome"] == "pruned" for event in first.events("end")) >= 3, "pruned trials")
    pruned = {event["trial"]: event["epoch"] for event in first.events("end") if event["outcome"] == "pruned"}
    family = first.family()
    first.process.send_signal(signal.SIGKILL)
    gone(family, but=RAY_AGENTS)
    # As if no end had been tracked: every trial is handed out again.
    spool = tmp_path / "small" / "spool"
    events, _ = Spool(spool).read(0)
    (spool / EVENTS_FILE).write_text("".join(json.dumps(event) + "\n" for event in events if event["kind"] != "end"))
    (spool / CURSOR_FILE).unlink(missing_ok=True)
    drivers.append(Driver(tmp_path, **size))
    drivers[-1].finish()
    what = the_study(tmp_path, **size)
    assert_each_trial_is_everywhere_once(what, trials=16)
    found = lanes_in_optuna(what)
    assert {lane: found[lane].last_step for lane in pruned} == pruned


def test_ctrl_c_stops_cleanly_and_leaves_no_process(tmp_path, drivers):
    size = {"trials": 12, "epochs": 6}
    driver = Driver(tmp_path, **size, epoch_s=0.3)
    drivers.append(driver)
    driver.wait_for(lambda: len(driver.events("end")) >= 2, "some trials")
    family = driver.family()
    began = time.monotonic()
    driver.process.send_signal(signal.SIGINT)
    assert driver.finish()["state"] == "interrupted"
    assert time.monotonic() - began < 40
    gone(family)
    drivers.append(Driver(tmp_path, **size))
    assert drivers[-1].finish()["state"] == "finished"
    assert_each_trial_is_everywhere_once(the_study(tmp_path, stopping="none", **size), trials=12)


def test_trials_have_no_process_and_what_serves_them_never_loads_torch(tmp_path, drivers):
    driver = Driver(tmp_path, trials=8, epochs=6, epoch_s=0.3)
    drivers.append(driver)
    driver.wait_for(lambda: len(driver.events("report")) >= 8, "reports")
    titles = [_title(process).split()[0].split(".")[0] for process in driver.family() if _title(process).startswith("ray::")]
    assert not [title for title in titles if "Trial" in title]
    # One worker, and not a process more for the four trials that run at once.
    assert titles.count("ray::RayTrainWorker") == 1
    scripts = [_title(process) for process in driver.family()]
    unused = ("dashboard.py", "agent.py", "monitor.py", "ray::DashboardAgent", "_AutoscalingCoordinatorActor")
    assert not [script for script in scripts if any(name in script for name in unused)]
    dispatcher = driver.member("ray::Dispatcher")
    assert "torch" not in Path(f"/proc/{dispatcher.pid}/maps").read_text()
    assert dispatcher.memory_full_info().uss < 200 * 1024**2
    driver.finish()


def test_a_trial_that_kills_its_worker_fails_alone(ray_cluster, mlflow_store, tmp_path):
    weights = {"optim": {"weight_decay": {"choice": [1e-4, 0.4, 0.5]}}}
    search = {"warm_start": [{"optim.weight_decay": value} for value in (0.4, 1e-4, 1e-4)], "early_stopping": {"name": "none"}}
    tracking = {"uri": mlflow_store, "experiment": tmp_path.name}
    what = study(tmp_path, trials=5, search=search, tracking=tracking, resources={"lanes": 4}, **weights)
    result = run_sweep(what, quiet=True, worker=FAKE)
    outcomes = {entry.lane: entry.outcome for entry in result.trials}
    assert outcomes == {**dict.fromkeys(("t0000", "t0001", "t0003", "t0004"), "finished"), "t0002": "failed"}
    assert "died 4 times" in result.trials[2].reason
