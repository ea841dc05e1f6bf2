"""The warm training workers of a sweep: one Ray Train run, started once, that takes lanes until the sweep ends."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import ray.train
import ray.util
from ray.exceptions import RayError

from pace_tune.cluster.lean_train import LeanTrainer, LeftError
from pace_tune.cluster.resources import Request
from pace_tune.cluster.worker_loop import WorkerPlan, run_worker

STOP_TIMEOUT_S, ABANDON_TIMEOUT_S = 60.0, 3.0
CONTROLLER_FAILURES = 5
"""So many of Ray Train's controllers in a row may give up, each within `CONTROLLER_LASTS_S` of the one before."""
CONTROLLER_LASTS_S, CONTROLLER_PAUSE_S = 600.0, 5.0
TRAIN_ENVIRONMENT = {
    # Seconds between looks at the workers: bounds how long a death goes unnoticed, and how long start and end take.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    # Another process; a node that is taken away is a dead worker to us, and its lanes go on elsewhere.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # These need the dashboard, which an embedded cluster does not start.
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
}


class WarmWorkers:
    """The training workers of one sweep, running in a thread of the driver.

    Args:
        plan: What each worker should know.
        request: How many, and what each one takes.
        storage: Folder for Ray Train's own files.
    """

    def __init__(self, plan: WorkerPlan, *, request: Request, storage: Path) -> None:
        self.error: BaseException | None = None
        self._request = request
        self._ending, self._abandoned = threading.Event(), threading.Event()
        self._trainer = partial(_trainer, plan, request=request, storage=storage, ending=self._ending, abandoned=self._abandoned)
        self._thread = threading.Thread(target=self._fit, name="warm-workers", daemon=True)

    def start(self) -> None:
        """Start the workers; returns at once."""
        self._thread.start()

    def running(self) -> bool:
        """Whether the workers have not all ended."""
        return self._thread.is_alive()

    def leave(self) -> None:
        """Start no workers any more."""
        self._ending.set()

    def abandon(self, timeout_s: float = ABANDON_TIMEOUT_S) -> None:
        """Look at the workers no more, whatever they do: asking a Ray that is gone ends this process."""
        self.leave()
        self._abandoned.set()
        if self.running():
            self._thread.join(timeout_s)

    def join(self, timeout_s: float = STOP_TIMEOUT_S) -> bool:
        """Wait until the workers, told to stop by the dispatcher, have ended; say whether they have."""
        self.leave()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def lack_room(self) -> str:
        """Return what finds no room on the cluster just now, empty where the workers have their places."""
        wanted = [_rounded(self._request.bundle())] * self._request.places
        with contextlib.suppress(RayError):
            for group in ray.util.placement_group_table().values():
                # Whose it is Ray does not say; another sweep that asks for the same waits for the same.
                if group["state"] in {"PENDING", "RESCHEDULING"} and [_rounded(each) for each in group["bundles"].values()] == wanted:
                    return str(self._request)
        return ""

    def _fit(self) -> None:
        failures, began = 0, time.monotonic()
        while True:
            try:
                self._trainer().fit()
            except ray.train.ControllerError as error:
                # It gives up where a node is too busy to start a process, which passes; the lanes wait in the dispatcher.
                failures = 1 if time.monotonic() - began > CONTROLLER_LASTS_S else failures + 1
                if failures >= CONTROLLER_FAILURES or self._ending.wait(CONTROLLER_PAUSE_S):
                    self.error = error
                    return
                began = time.monotonic()
            except LeftError:
                return
            except BaseException as error:  # noqa: BLE001  (a thread's error is lost unless it is kept)
                self.error = error
                return
            else:
                return


def _rounded(bundle: Mapping[str, float]) -> dict[str, float]:
    # Ray keeps four digits.
    return {name: round(amount, 3) for name, amount in bundle.items()}


def _trainer(plan: WorkerPlan, *, request: Request, storage: Path, ending: threading.Event, abandoned: threading.Event) -> LeanTrainer:
    for name, value in TRAIN_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # The plain trainer, not TorchTrainer: processes that train together are a team of the learning half's own, not all of them.
    trainer = LeanTrainer(
        run_worker,
        train_loop_config=plan.as_mapping(),
        scaling_config=ray.train.ScalingConfig(
            num_workers=request.places,
            use_gpu=request.gpus_per_worker > 0,
            resources_per_worker=request.bundle(),
        ),
        run_config=ray.train.RunConfig(
            # A new name each time: the lanes' own files are what is resumed, Train's checkpoints are not used.
            name=f"workers-{uuid.uuid4().hex[:8]}",
            storage_path=str(storage),
            # The dispatcher fails the lane, or the sweep, that keeps killing its worker; a count of deaths here would add up over days.
            failure_config=ray.train.FailureConfig(max_failures=-1),
        ),
    )
    trainer.ending, trainer.abandoned = ending, abandoned
    return trainer
