"""A process that hangs is ended; one that computes, reads or waits for something known is not."""

import os
import threading
import time
from pathlib import Path

import pytest

from pace_tune.cluster.watchdog import VARIABLE, Watchdog
from pace_tune.patience import WAITS


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv(VARIABLE, "1")
    return []


def watched(ended: list[str], seconds: float, work) -> list[str]:
    dog = Watchdog(ended.append)
    dog.start()
    with dog.busy("a lane was opened"):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not ended:
            work()
    dog.stop()
    return ended


def test_a_hung_read_ends_the_process(ended: list[str], tmp_path: Path):
    os.mkfifo(tmp_path / "data")
    threading.Thread(target=(tmp_path / "data").read_bytes, daemon=True).start()
    assert watched(ended, 20, lambda: time.sleep(0.1)) == ["nothing was computed or read for 1 s while a lane was opened"]
    (tmp_path / "data").write_bytes(b"")


def test_work_keeps_it_alive(ended: list[str]):
    assert watched(ended, 3, lambda: sum(range(100_000))) == []


def test_many_short_sleeps_are_no_hang(ended: list[str]):
    dog = Watchdog(ended.append)
    dog.start()
    for _ in range(15):
        with dog.busy("an epoch was trained"):
            time.sleep(0.2)
    dog.stop()
    assert ended == []


def test_reading_keeps_it_alive(ended: list[str], tmp_path: Path):
    (tmp_path / "data").write_bytes(bytes(2**21))

    def read() -> None:
        (tmp_path / "data").read_bytes()
        time.sleep(0.02)

    assert watched(ended, 3, read) == []


def test_a_known_wait_keeps_it_alive(ended: list[str]):
    WAITS.note("the storage")
    try:
        assert watched(ended, 3, lambda: time.sleep(0.1)) == []
    finally:
        WAITS.note("")


def test_it_can_be_turned_off(ended: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(VARIABLE, "0")
    assert watched(ended, 2, lambda: time.sleep(0.1)) == []
