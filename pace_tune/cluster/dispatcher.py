"""The dispatcher: one small actor per sweep that brings trials and training workers together.

It holds nothing that cannot be lost: after a restart the trials submit their lanes again, and the workers open them again and
replay what they reported.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Literal

import ray
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayActorError, RayError

from pace_tune.cluster.lanes import Commands, LaneTable, Member, Report

NAMESPACE = "pace-tune"
CALL_TIMEOUT_S = 60.0
"""Beyond the time that a call may wait on purpose."""
FIND_TIMEOUT_S = 120.0
"""How long a lost dispatcher is looked for."""

again = ray.method(max_task_retries=-1)
"""What trials wait for without end: Ray asks a dispatcher that was started again by itself."""


class Dispatcher:
    """The actor around a `LaneTable`: waiting, heartbeats, and what the driver may ask."""

    def __init__(self) -> None:
        self._table = LaneTable(first_placement=time.time_ns())
        self._changed: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._beats: dict[str, float] = {}
        self._waits: dict[str, str] = {}
        self._halted = False

    @again
    async def submit(self, name: str, config: Mapping[str, Any], ticket: str) -> None:
        """Take a lane in for the trial that holds the ticket."""
        self._table.submit(name, config=config, ticket=ticket)
        self._wake(*self._table.workers.values())

    @again
    async def reports(self, name: str, ticket: str, after_epoch: int, wait_s: float) -> list[Report] | Literal["halted"] | None:
        """Return what a trial has not seen, waiting for it a while; None where the lane is not its own (any more)."""

        def found() -> list[Report] | None:
            return self._table.reports(name, ticket=ticket, after_epoch=after_epoch)

        # Asking says how far it has read: a worker may be waiting for that.
        lane = self._table.lanes.get(name)
        found()
        if lane is not None and lane.worker is not None:
            self._wake(lane.worker)
        await self._until(name, lambda: self._halted or found() != [], wait_s)
        return "halted" if self._halted else found()

    async def release(self, name: str, ticket: str | None = None) -> None:
        """Give a lane back."""
        self._table.release(name, ticket=ticket)
        self._wake(name, *self._table.workers.values())

    async def exchange(self, member: Member, reports: list[Report], holding: Mapping[str, int], wait_s: float) -> Commands:
        """Take a worker's reports and say what to do; an idle worker waits here for something to do."""
        worker, table = member.worker, self._table
        self._beats[worker] = time.monotonic()
        commands = table.exchange(member, reports=reports, holding=holding)
        self._wake(*{report["lane"] for report in reports})
        if holding:
            await self._until(worker, lambda: not table.crowded(worker), wait_s)
        elif not (commands.open or commands.stop):
            await self._until(worker, lambda: bool(table.pending()) or table.stopping, wait_s)
        if commands.open or commands.close or commands.stop:
            return commands
        return table.exchange(member, reports=[], holding=holding)

    async def beat(self, worker: str, waits_for: str = "") -> None:
        """Note that a worker is alive, in the middle of an epoch, and what it waits for outside of Ray."""
        self._beats[worker], self._waits[worker] = time.monotonic(), waits_for

    async def report_broken(self, reason: str) -> None:
        """Note that no worker can be set up: the sweep cannot go on."""
        self._table.broken = reason

    async def report_error(self, reason: str) -> None:
        """Note why a worker is about to die."""
        self._table.last_error = reason
        self._table.errors += 1

    async def status(self) -> dict[str, Any]:
        """Return what the driver shows and watches."""
        now = time.monotonic()
        live = set(self._table.workers.values())
        silent_s = [now - beat for worker, beat in self._beats.items() if worker in live]
        return {
            "workers": len(live),
            "lanes": sum(self._table.limits.values()),
            "silent_s": min(silent_s, default=None),
            "pending": self._table.pending(),
            "training": [lane.name for lane in self._table.lanes.values() if lane.worker is not None],
            "restarts": self._table.restarts,
            "waits_for": next((self._waits[worker] for worker in live if self._waits.get(worker)), ""),
            "error": self._table.last_error,
            "errors": self._table.errors,
            "broken": self._table.broken,
        }

    async def halt(self) -> None:
        """Let every waiting trial return: the driver is leaving."""
        self._halted = True
        self._wake(*self._changed)

    async def stop(self) -> None:
        """Tell the workers to end."""
        self._table.stopping = True
        self._wake(*self._changed)

    def _wake(self, *keys: str) -> None:
        for key in keys:
            if key in self._changed:
                self._changed[key].set()

    async def _until(self, key: str, ready: Callable[[], bool], wait_s: float) -> None:
        deadline = time.monotonic() + wait_s
        while not ready() and (left_s := deadline - time.monotonic()) > 0:
            event = self._changed[key]
            event.clear()
            try:
                await asyncio.wait_for(event.wait(), left_s)
            except TimeoutError:
                break
        self._changed.pop(key, None)


class DispatcherClient:
    """A dispatcher by name, found again (or made again) when it dies.

    Args:
        name: The actor's name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._handle: ActorHandle[Any] | None = None

    def call(self, method: str, *args: Any, wait_s: float = 0.0) -> Any:
        """Call a method and return its result; every method may be called twice.

        Raises:
            RayActorError: The dispatcher could not be found again within `FIND_TIMEOUT_S`.
        """
        deadline = time.monotonic() + FIND_TIMEOUT_S + wait_s
        while True:
            try:
                return ray.get(getattr(self._actor(), method).remote(*args), timeout=CALL_TIMEOUT_S + wait_s)
            except (RayActorError, GetTimeoutError):
                self._handle = None
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def future(self, method: str, *args: Any) -> ray.ObjectRef[Any]:
        """Call a method and return its result to be; for those who wait for many."""
        return getattr(self._actor(), method).remote(*args)  # type: ignore[no-any-return]

    def tell(self, method: str, *args: Any) -> None:
        """Call a method without waiting; if the dispatcher is just then dead, the call is lost."""
        with contextlib.suppress(RayError, ValueError):
            self.future(method, *args)

    def forget(self) -> None:
        """Look for the dispatcher anew at the next call."""
        self._handle = None

    def kill(self) -> None:
        """End the actor, if there is one."""
        with contextlib.suppress(RayError, ValueError):
            ray.kill(ray.get_actor(self.name, namespace=NAMESPACE), no_restart=True)
        self._handle = None

    def _actor(self) -> ActorHandle[Any]:
        if self._handle is None:
            # num_cpus=0: it must be placed even where lanes take the whole machine.
            cls: Any = ray.remote(num_cpus=0, max_restarts=-1)(Dispatcher)
            options = {"name": self.name, "namespace": NAMESPACE, "get_if_exists": True, "max_concurrency": 10_000}
            self._handle = cls.options(**options).remote()
        assert self._handle is not None
        return self._handle
