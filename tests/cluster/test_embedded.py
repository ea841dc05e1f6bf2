"""A Ray that does not start is said in a line."""

from typing import Any

import pytest
import ray

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
