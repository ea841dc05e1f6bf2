"""A Ray that does not start is said in a line."""

import signal
from typing import Any

import pytest
import ray
from ray._private import utils as ray_utils

from pace_tune.cluster.embedded import STARTS, RayStartError, connected
from pace_tune.cluster.resources import Request


class SlowRay:
    """Stands for `ray.init` on a machine that is too busy."""

    def __init__(self, *, failures: int) -> None:
        self.failures, self.calls = failures, 0

    def __call__(self, **options: Any) -> None:
        self.calls += 1
        if self.calls <= self.failures:
            raise RuntimeError("The current node timed out during startup.\nThis could happen because some processes are slow.")


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that is in no cluster."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name, stand_in in {"is_initialized": lambda: False, "shutdown": lambda: None, "nodes": list}.items():
        monkeypatch.setattr(ray, name, stand_in)


@pytest.mark.usefixtures("apart")
def test_a_slow_start_is_tried_again(monkeypatch: pytest.MonkeyPatch):
    start = SlowRay(failures=STARTS - 1)
    monkeypatch.setattr(ray, "init", start)
    with connected(Request()) as nodes:
        assert nodes == []
    assert start.calls == STARTS


@pytest.mark.usefixtures("apart")
def test_ray_leaves_sigterm_alone(monkeypatch: pytest.MonkeyPatch):
    before = signal.getsignal(signal.SIGTERM)
    # What `ray.init` does, twice.
    monkeypatch.setattr(ray, "init", lambda **_: ray_utils.set_sigterm_handler(lambda *_: None))
    try:
        with connected(Request()):
            assert signal.getsignal(signal.SIGTERM) is before
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("apart")
def test_an_interrupted_start_ends_what_it_started_and_is_not_tried_again(monkeypatch: pytest.MonkeyPatch):
    calls: list[str] = []

    def start(**_: Any) -> None:
        calls.append("init")
        raise KeyboardInterrupt

    monkeypatch.setattr(ray, "init", start)
    monkeypatch.setattr(ray, "shutdown", lambda: calls.append("shutdown"))
    with pytest.raises(KeyboardInterrupt), connected(Request(), say=calls.append):
        pass
    assert calls == ["starting Ray ...", "init", "shutdown"]


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize(
    ("address", "calls", "line"),
    [
        (None, STARTS, "Ray did not start on this machine: The current node timed out during startup."),
        ("10.0.0.1:6379", 1, "no Ray cluster can be reached at 10.0.0.1:6379: The current node timed out during startup."),
    ],
)
def test_what_ray_says_is_one_line(monkeypatch: pytest.MonkeyPatch, address: str | None, calls: int, line: str):
    start = SlowRay(failures=9)
    monkeypatch.setattr(ray, "init", start)
    with pytest.raises(RayStartError) as caught, connected(Request(), address=address):
        pass
    assert str(caught.value) == line
    assert start.calls == calls
