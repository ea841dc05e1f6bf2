"""What a warm training worker does from the start of a sweep to its end. This is the only place where the door is opened."""

from __future__ import annotations

import importlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Protocol

import ray.util
from ray.exceptions import RayError

from pace_tune.cluster.dispatcher import DispatcherClient
from pace_tune.cluster.lane_limit import LaneLimit
from pace_tune.cluster.lanes import Commands, Member, Report
from pace_tune.cluster.watchdog import Watchdog
from pace_tune.errors import PaceTuneError
from pace_tune.patience import WAITS, OutageError

Seat = dict[str, Any]
"""A process's place among those that train each batch together, see `pace_tune.training.team.Seat`."""
NOT_SET_UP = "the training worker could not be set up"
"""How the driver is told what every other worker would meet too."""
IDLE_WAIT_S = 5.0
BEAT_INTERVAL_S = 5.0


class Door(Protocol):
    """The learning half, seen from here: see `pace_tune.worker.Worker`."""

    def open(self, lane: str, config: Mapping[str, Any]) -> list[Report]:
        """Take a run as a lane; return the reports that it made before."""

    def close(self, lane: str) -> None:
        """Give a lane back."""

    def advance(self) -> list[Report]:
        """Train every open lane for one epoch."""

    def memory_share(self) -> float:
        """Return the share of the device's memory that was in use at the peak, 0 where nobody counts."""

    def follow(self) -> None:
        """Do what the leader of the team does, until it says stop."""

    def stop(self) -> None:
        """Send the others of the team home."""


@dataclass(frozen=True)
class WorkerPlan:
    """All that a warm worker has to know, as plain values."""

    dispatcher: str
    """The dispatcher's name."""
    lanes: int
    """How many it trains at once."""
    setup: Mapping[str, Any]
    """What all lanes share: task, backbone, data."""
    storage: str
    """Where the lanes are kept, a folder or ``s3://bucket/prefix``."""
    threads: int | None = None
    """Threads of the numerical library; None leaves its default."""
    device: str | None = None
    """Where to train; None lets the worker choose."""
    worker: str = "pace_tune.worker:Worker"
    """``module:Class`` of the door; tests and simulations pass another one."""
    processes: int = 1
    """How many train each batch together."""
    auto_lanes: bool = False
    """Whether `lanes` is the most, and it finds by itself how many of them pay."""

    def as_mapping(self) -> dict[str, Any]:
        """Return the plan as the mapping that `run_worker` takes."""
        return asdict(self)


def run_worker(plan: Mapping[str, Any]) -> None:
    """Serve lanes until the dispatcher says stop. Ray Train runs this once in every worker."""
    from ray.train import get_context

    known, rank = WorkerPlan(**plan), get_context().get_world_rank()
    seat = None if known.processes == 1 else _seat(rank, size=known.processes)
    serve(known, rank=rank // known.processes, seat=seat)


def serve(plan: WorkerPlan, *, rank: int, seat: Seat | None = None) -> None:
    """Serve lanes until the dispatcher says stop, as one member of the group or as one process of a member."""
    client = DispatcherClient(plan.dispatcher)
    member = Member(f"{rank}-{uuid.uuid4().hex[:12]}", rank=rank, lanes=plan.lanes)
    watchdog = Watchdog(partial(_give_up, plan.dispatcher))
    watchdog.start()
    try:
        with watchdog.busy("backbone and data were loaded"):
            door = load_door(plan, seat=seat)
    except Exception as error:  # noqa: BLE001  (whatever it is, starting again would meet it again: the driver should hear it)
        client.call("report_broken", f"{NOT_SET_UP}: {_said(error)}")
        return
    if seat is not None and seat["rank"] > 0:
        door.follow()
        return
    stopped = threading.Event()
    threading.Thread(target=_beat, args=(plan.dispatcher, member.worker, stopped), daemon=True).start()
    try:
        Session(door, client, member, watchdog, limit=LaneLimit(plan.lanes) if plan.auto_lanes else None).run()
        if seat is not None:
            door.stop()
    except OutageError as error:
        # No lane is at fault, and another worker would meet it too.
        client.call("report_broken", str(error))
    except Exception as error:
        # Ray Train starts the group again; this is how the driver hears why.
        client.call("report_error", f"{type(error).__name__}: {error}")
        raise
    finally:
        watchdog.stop()
        stopped.set()


def _said(error: Exception) -> str:
    # What is raised on purpose is a sentence; of anything else its kind is half of what is known.
    return str(error).rstrip(".") if isinstance(error, PaceTuneError) else f"{type(error).__name__}: {error}"


def load_door(plan: WorkerPlan, *, seat: Seat | None = None) -> Door:
    """Import the door and load what the lanes share."""
    module, _, name = plan.worker.partition(":")
    seated = {} if seat is None else {"seat": seat}
    settings = {"storage": plan.storage, "threads": plan.threads, "device": plan.device, **seated}
    door: Door = getattr(importlib.import_module(module), name)(plan.setup, **settings)
    return door


def _seat(rank: int, *, size: int) -> Seat:
    """Return the place of one of Ray Train's workers in its team; all teams meet at the first worker."""
    from ray.train.collective import broadcast_from_rank_zero

    host, port = broadcast_from_rank_zero(_free_address() if rank == 0 else None)
    return {"rank": rank % size, "size": size, "host": host, "port": port, "hosts": rank == 0, "name": f"team-{rank // size}"}


def _free_address() -> tuple[str, int]:
    host = ray.util.get_node_ip_address()
    with socket.socket() as free:
        free.bind((host, 0))
        return host, free.getsockname()[1]


class Session:
    """One incarnation of a worker: its door, and the lanes it holds.

    Args:
        door: Where the training happens.
        client: The dispatcher.
        member: How it introduces itself.
        watchdog: Ends the process when the door hangs.
        limit: Finds out how many lanes pay; None takes as many as `member` says.
    """

    def __init__(
        self, door: Door, client: DispatcherClient, member: Member, watchdog: Watchdog | None = None, *, limit: LaneLimit | None = None
    ) -> None:
        self.door, self.client, self.member, self.limit = door, client, member, limit
        self.watchdog = watchdog or Watchdog(lambda _: None)
        self.holding: dict[str, int] = {}
        self._unsent: list[Report] = []

    def run(self) -> None:
        """Exchange, then train an epoch, until told to stop."""
        while not (commands := self.exchange()).stop:
            with self.watchdog.busy("a lane was opened"):
                self.obey(commands)
            if self.holding:
                with self.watchdog.busy("an epoch was trained"):
                    self.keep(self._epoch())
        for lane in list(self.holding):
            self.door.close(lane)

    def _epoch(self) -> list[Report]:
        lanes, started = len(self.holding), time.perf_counter()
        reports = self.door.advance()
        if self.limit is not None:
            self.limit.observe(lanes, time.perf_counter() - started, memory_share=self.door.memory_share())
        return reports

    def exchange(self) -> Commands:
        """Hand in the reports and take the commands; what could not be handed in stays for the next time."""
        member = self.member if self.limit is None else replace(self.member, lanes=self.limit.lanes)
        commands: Commands = self.client.call("exchange", member, self._unsent, self.holding, IDLE_WAIT_S, wait_s=IDLE_WAIT_S)
        self._unsent = []
        return commands

    def obey(self, commands: Commands) -> None:
        """Close and open lanes as told."""
        for lane in commands.close:
            if self.holding.pop(lane, None) is not None:
                self.door.close(lane)
        for lane, placement, config in commands.open:
            self.holding[lane] = placement
            self.keep(self._open(lane, config))

    def keep(self, reports: list[Report]) -> None:
        """Keep reports for the next exchange; a lane whose report is final is closed already."""
        self._unsent += reports
        for report in reports:
            if report["state"] != "running":
                self.holding.pop(report["lane"], None)

    def _open(self, lane: str, config: Mapping[str, Any]) -> list[Report]:
        try:
            return self.door.open(lane, config)
        except OutageError:
            raise
        except Exception as error:  # noqa: BLE001  (one lane that cannot start must not end the others)
            reason = f"{type(error).__name__}: {error}"
            return [{"lane": lane, "epoch": 0, "epochs": 0, "state": "failed", "reason": reason, "metrics": {}}]


def _give_up(dispatcher: str, reason: str) -> None:
    """End this process at once; Ray Train starts another one, and the lanes go on there."""
    with suppress(RayError):
        DispatcherClient(dispatcher).call("report_error", reason)
    os._exit(1)


def _beat(dispatcher: str, worker: str, stopped: threading.Event) -> None:
    # An epoch may take longer than anyone likes to wait before asking whether the worker still lives.
    while not stopped.wait(BEAT_INTERVAL_S):
        # A client of its own each time: a dispatcher that was made again is found.
        DispatcherClient(dispatcher).tell("beat", worker, WAITS.now())
