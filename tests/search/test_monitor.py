import os
import signal
from types import SimpleNamespace

import pytest

from pace_tune.search import monitor as monitor_module
from pace_tune.search.interrupt import Interruptible
from pace_tune.search.monitor import STALL_VARIABLE, Monitor


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(monitor_module, "time", made)
    return made


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def watch(clock, said) -> Monitor:
    return Monitor("dispatcher", workers(), say=said.append)


def workers(**changes) -> SimpleNamespace:
    return SimpleNamespace(**{"error": None, "lack_room": lambda: "", **changes})


def status(**changes) -> dict:
    return {
        "workers": 1,
        "silent_s": 0.0,
        "pending": [],
        "training": ["t0000"],
        "restarts": 0,
        "broken": "",
        "error": "",
        "errors": 0,
        **changes,
    }


def test_a_wait_for_the_workers_is_said_once_in_a_while(watch, clock, said):
    for _ in range(100):
        clock.now += 1
        watch.look(status(workers=0, silent_s=None, pending=["t0000", "t0001"], training=[]))
    assert said == ["2 trials waiting for the training workers to start (placement, imports, backbone and data)"] * 2


def test_an_ordinary_queue_is_no_wait(watch, clock, said):
    for _ in range(100):
        clock.now += 1
        watch.look(status(pending=["t0001"]))
    assert said == []


def test_a_sweep_that_finds_no_room_says_so_and_is_not_given_up(clock, said, monkeypatch):
    monkeypatch.setenv(STALL_VARIABLE, "50")
    taken = ["2 workers of 1 CPU"]
    watch = Monitor("dispatcher", workers(lack_room=lambda: taken[0]), say=said.append)
    for _ in range(70):
        clock.now += 1
        watch.look(status(workers=0, silent_s=None, training=[]))
    assert said == ["the sweep is waiting for room for 2 workers of 1 CPU on the cluster"]
    assert not watch.problem
    taken[0] = ""
    clock.now += 51
    watch.look(status(workers=0, silent_s=None, training=[]))
    assert "no training worker gave a sign of life for 50 s" in watch.problem


def test_a_worker_that_died_is_told_with_its_reason(watch, said):
    watch.look(status(restarts=1, error="ValueError: no", errors=1))
    watch.look(status(restarts=1, error="ValueError: no", errors=1))
    # Killed, and said nothing.
    watch.look(status(restarts=2, error="ValueError: no", errors=1))
    # The dispatcher died too.
    watch.look(status())
    watch.look(status(restarts=1))
    assert said == [
        "a training worker died (ValueError: no) and was started again; its lanes go on where they were",
        *["a training worker died and was started again; its lanes go on where they were"] * 2,
    ]


def test_silence_ends_the_sweep(clock, said, monkeypatch):
    monkeypatch.setenv(STALL_VARIABLE, "50")
    watch = Monitor("dispatcher", workers(), say=said.append)
    clock.now += 40
    watch.look(status(silent_s=5.0))
    clock.now += 40
    watch.look(status(silent_s=45.0))
    assert not watch.problem
    clock.now += 11
    # The dispatcher does not answer either.
    watch.look({})
    assert watch.problem.startswith("no training worker gave a sign of life for 50 s")


def test_workers_that_ended_or_cannot_work_end_the_sweep(clock, said):
    watch = Monitor("dispatcher", workers(error=RuntimeError("gone")), say=said.append)
    watch.look(status())
    assert watch.problem == "the training workers ended: gone"
    other = Monitor("dispatcher", workers(), say=said.append)
    other.look(status(broken="no weights"))
    assert other.problem == "no weights"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_before_there_is_work_to_finish_the_first_signal_ends_it(number):
    with Interruptible(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)


def test_workers_that_come_up_are_told_each_once(clock, said):
    progress: list[str] = []
    watch = Monitor("dispatcher", workers(), say=said.append, progress=progress.append, wanted=2)
    for up in (0, 1, 1, 2, 2, 1, 2):
        watch.look(status(workers=up))
    assert progress == ["1 of 2 training workers ready", "2 of 2 training workers ready"]
    assert said == []


def test_the_first_ctrl_c_asks_and_the_second_insists():
    said: list[str] = []
    before = signal.getsignal(signal.SIGINT)
    with Interruptible() as interrupt:
        interrupt.hold(said.append)
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.asked
        assert len(said) == 1
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGINT) is before
