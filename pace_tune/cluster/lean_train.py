"""Ray Train with nothing beside its workers: the controller runs in a thread of the driver, and helper processes are left out.

Each process that Ray Train starts for itself imports Ray Train, which takes seconds of a core, and the workers' processes start after
them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.callbacks.state_manager import StateManagerCallback
from ray.train.v2._internal.execution.controller.controller import TrainController
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy
from ray.train.v2._internal.execution.worker_group.worker_group import WorkerGroup
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from pace_tune.cluster.held import no_other_ray, silence


class LeftError(BaseException):
    """Workers were to start, but the sweep is being left. Not an `Exception`: Ray Train would try again after one."""


class LeanPolicy(FixedScalingPolicy):
    """A fixed number of workers, asked for by their placement group alone, which makes a cluster grow as well as anything.

    Ray Train says it a second time, to a process made for that, and starts no worker before that process is there.
    """

    def after_controller_start(self, train_run_context: Any) -> None:
        """Make no such process."""

    def _maybe_send_resource_request(self) -> None:
        pass


class _Workers(WorkerGroup):
    """Workers that know no controller to report checkpoints to: theirs is no actor, and they report to the dispatcher."""

    def _init_train_context_on_workers(
        self, workers: Sequence[Any], sync_actor: Any, train_context_args: Mapping[str, Sequence[Any]]
    ) -> None:
        shared = {
            "train_run_context": self._train_run_context,
            "synchronization_actor": sync_actor,
            "storage_context": self._storage_context,
            "worker_callbacks": self._worker_callbacks_to_propagate,
            "controller_actor": None,
        }
        own = [{name: values[i] for name, values in train_context_args.items()} for i in range(len(workers))]
        ray.get(
            [
                worker.actor.init_train_context.remote(distributed_context=worker.distributed_context, **shared, **mine)
                for worker, mine in zip(workers, own, strict=True)
            ]
        )


class _Controller(TrainController):
    """A controller that starts no workers once the sweep is being left, and looks at none once it is abandoned."""

    worker_group_cls = _Workers

    def __init__(self, *, ending: threading.Event, abandoned: threading.Event, **settings: Any) -> None:
        self._ending, self._abandoned = ending, abandoned
        super().__init__(**settings)

    async def _run_control_loop_iteration(self) -> None:
        if self._abandoned.is_set():
            raise LeftError
        await super()._run_control_loop_iteration()  # type: ignore[no-untyped-call]

    def _start_worker_group(self, *args: Any, **kwargs: Any) -> None:
        if self._ending.is_set():
            raise LeftError
        super()._start_worker_group(*args, **kwargs)


class LeanTrainer(DataParallelTrainer):
    """The plain trainer, with its controller in the calling thread and without three helper processes.

    One serves Ray data sets; one frees the workers' places when the controller is killed, which Ray does itself when the driver's job
    ends; for the third see `LeanPolicy`. Ray Train's own dashboard shows runs by their controller's actor, which this one is not.

    Attributes:
        ending: Set when the sweep is being left.
        abandoned: Set when nobody waits for the workers any more.
    """

    ending: threading.Event
    abandoned: threading.Event

    def _initialize_and_run_controller(self, **settings: Any) -> Any:
        policy = LeanPolicy(self.scaling_config)  # type: ignore[arg-type]  # Ray has two classes of one name
        # What a controller of its own process would have written into a log; the dispatcher says why a worker died.
        with no_other_ray.on(), silence("ray.train").on():
            controller = _Controller(ending=self.ending, abandoned=self.abandoned, **{**settings, "scaling_policy": policy})
            asyncio.run(controller.run())  # type: ignore[no-untyped-call]
        return controller.get_result()

    def _create_default_callbacks(self) -> list[Any]:
        useless = (DatasetsCallback, PlacementGroupCleanerCallback, StateManagerCallback)
        return [callback for callback in super()._create_default_callbacks() if not isinstance(callback, useless)]
