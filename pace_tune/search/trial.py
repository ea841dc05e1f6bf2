"""A Tune trial: a seat at the dispatcher. It has no process of its own, so that a trial costs no start of one."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from ray import ObjectRef
from ray.actor import ActorClass
from ray.air.execution import AcquiredResources, ResourceManager, ResourceRequest
from ray.air.execution._internal import RayActorManager
from ray.air.execution.resources.fixed import FixedAcquiredResources
from ray.tune import Trainable

from pace_tune.cluster.dispatcher import DispatcherClient
from pace_tune.cluster.lanes import Report

WAIT_S = 60.0
"""One wait for reports; there may be any number of them."""
Answer: TypeAlias = "list[Report] | Literal['halted'] | None"
"""What the dispatcher has for a trial, see `pace_tune.cluster.dispatcher.Dispatcher.reports`."""


class LaneTrial(Trainable):
    """What the trials of a sweep are called in Tune; none is ever made, see `Seat`."""


class Seat:
    """What Tune takes for the actor of a trial: it calls the dispatcher, and the lane's reports are its steps.

    Args:
        config: ``{"lane": "t0007", "dispatcher": name, "run": run configuration as a mapping}``.
        client: Of that dispatcher, shared by all seats: Ray keeps some hundred objects for every time that an actor is looked up.
    """

    def __init__(self, config: dict[str, Any], *, client: DispatcherClient) -> None:
        self.lane, self.run = str(config["lane"]), config["run"]
        self.epoch = self.steps = 0
        # Tells this submission from an earlier one of the same trial.
        self.ticket = uuid.uuid4().hex
        self._client = client
        # Tune calls them by name, as methods of an actor.
        self.__ray_ready__ = _Remote(self.submit)
        self.train = _Remote(lambda: self._client.future("reports", self.lane, self.ticket, self.epoch, WAIT_S))
        self.stop = _Remote(lambda: self._client.future("release", self.lane, self.ticket))
        self.get_auto_filled_metrics = _Remote(lambda **_: {})

    def submit(self) -> ObjectRef[Any]:
        """Hand the lane over; a dispatcher that was made again knows nothing of it, and its worker replays what it reported."""
        return self._client.future("submit", self.lane, self.run, self.ticket)

    def results(self, answer: Answer) -> list[dict[str, Any]]:
        """Return what the dispatcher answered as Tune's results, one for each report; none where it has to be asked again."""
        if answer is None:
            self.submit()
        return [self._result(report) for report in answer or () if isinstance(report, dict)]

    def _result(self, report: Report) -> dict[str, Any]:
        self.epoch, self.steps = max(self.epoch, int(report["epoch"])), self.steps + 1
        return {"report": report, "done": report["state"] != "running", "training_iteration": self.steps}


class _Remote:
    """Has the form of an actor's method."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.remote = call


class _SeatClass(ActorClass[Any]):
    """Has the form of an actor's class, and makes seats."""

    def __init__(self, clients: dict[str, DispatcherClient]) -> None:
        """Nothing to prepare: there is no class that Ray would have to know."""
        self._clients = clients

    def options(self, **_: Any) -> _SeatClass:
        """Take no place on the cluster."""
        return self

    def remote(self, *, config: dict[str, Any], **_: Any) -> Seat:  # type: ignore[override]
        """Make a seat."""
        name = str(config["dispatcher"])
        return Seat(config, client=self._clients.setdefault(name, DispatcherClient(name)))


class Unlimited(ResourceManager):
    """Tune's manager of resources, for trials that take none; how many there are is the searcher's to say. It keeps nothing of them."""

    def request_resources(self, resource_request: ResourceRequest) -> None:
        """Note nothing."""

    def cancel_resource_request(self, resource_request: ResourceRequest) -> None:
        """Forget nothing."""

    def has_resources_ready(self, resource_request: ResourceRequest) -> bool:
        """Say that there is room."""
        return True

    def acquire_resources(self, resource_request: ResourceRequest) -> AcquiredResources:
        """Give what is asked for."""
        return FixedAcquiredResources(bundles=resource_request.bundles, resource_request=resource_request)

    def free_resources(self, acquired_resource: AcquiredResources) -> None:
        """Take nothing back."""

    def clear(self) -> None:
        """Forget nothing."""


class Seats(RayActorManager):
    """Tune's manager of actors, for trials that are none."""

    def __init__(self, resource_manager: ResourceManager) -> None:
        super().__init__(resource_manager)
        self._clients: dict[str, DispatcherClient] = {}

    def forget(self) -> None:
        """Look for dispatchers anew: a call of one failed."""
        for client in self._clients.values():
            client.forget()

    def add_actor(self, cls: Any, *args: Any, **kwargs: Any) -> Any:
        """Take a trial in."""
        return super().add_actor(_SeatClass(self._clients), *args, **kwargs)

    def cleanup(self) -> None:
        """Forget all trials: there is nothing to kill."""
        for tracked in self.live_actors:
            self._cleanup_actor(tracked)
        super().cleanup()  # type: ignore[no-untyped-call]

    def _try_kill_actor(self) -> bool:
        if not self._live_actors_to_kill:
            return False
        self._actor_stop_resolved(self._live_actors_to_kill.pop())
        return True
