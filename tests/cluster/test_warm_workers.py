"""Ray Train's controller may give up where a machine is too busy: another one takes its place."""

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray.train

from pace_tune.cluster import warm_workers
from pace_tune.cluster.lean_train import LeftError
from pace_tune.cluster.resources import Request
from pace_tune.cluster.warm_workers import CONTROLLER_FAILURES, WarmWorkers
from pace_tune.cluster.worker_loop import WorkerPlan


def workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, outcomes: list[Exception | None]) -> tuple[WarmWorkers, list[Any]]:
    """Workers whose trainers end as told, and the trainers that were made."""
    made: list[Any] = []

    def trainer(plan: WorkerPlan, **settings: Any) -> Any:
        made.append(settings)

        def fit() -> None:
            outcome = outcomes[len(made) - 1]
            if outcome is not None:
                raise outcome

        return SimpleNamespace(fit=fit)

    monkeypatch.setattr(warm_workers, "_trainer", trainer)
    monkeypatch.setattr(warm_workers, "CONTROLLER_PAUSE_S", 0.0)
    return WarmWorkers(WorkerPlan("d", 1, {}, str(tmp_path)), request=Request(), storage=tmp_path), made


def run_out(some: WarmWorkers) -> None:
    until = time.monotonic() + 20
    while some.running() and time.monotonic() < until:
        time.sleep(0.01)
    assert not some.running()


def test_another_controller_takes_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    lost = ray.train.ControllerError(RuntimeError("the actor is not schedulable"))
    some, made = workers(monkeypatch, tmp_path, [lost, lost, None])
    some.start()
    run_out(some)
    assert len(made) == 3
    assert some.error is None


def test_what_never_starts_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    lost = ray.train.ControllerError(RuntimeError("the actor is not schedulable"))
    some, made = workers(monkeypatch, tmp_path, [lost] * 20)
    some.start()
    run_out(some)
    assert len(made) == CONTROLLER_FAILURES
    assert some.error is lost


def test_any_other_error_is_the_user_s_to_see(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    some, made = workers(monkeypatch, tmp_path, [ValueError("no"), None])
    some.start()
    run_out(some)
    assert len(made) == 1
    assert isinstance(some.error, ValueError)


def test_none_takes_over_where_the_sweep_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    lost = ray.train.ControllerError(RuntimeError("the cluster is gone"))
    some, made = workers(monkeypatch, tmp_path, [lost] * 20)
    monkeypatch.setattr(warm_workers, "CONTROLLER_PAUSE_S", 60.0)
    some.start()
    assert some.join(20)
    assert len(made) == 1


def test_no_part_of_ray_train_asks_for_a_controller_that_is_an_actor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("RAY_TRAIN_ENABLE_STATE_TRACKING", "1")
    plan = WorkerPlan("d", 1, {}, str(tmp_path))
    trainer = warm_workers._trainer(plan, request=Request(), storage=tmp_path, ending=threading.Event(), abandoned=threading.Event())
    assert "StateManagerCallback" not in {type(callback).__name__ for callback in trainer._create_default_callbacks()}


def test_workers_are_not_started_again_where_the_sweep_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def fit(_: Any) -> None:
        raise LeftError

    monkeypatch.setattr("pace_tune.cluster.lean_train.LeanTrainer.fit", fit)
    some = WarmWorkers(WorkerPlan("d", 1, {}, str(tmp_path)), request=Request(), storage=tmp_path)
    some.start()
    run_out(some)
    assert some.error is None
