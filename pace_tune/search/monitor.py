"""Watches a sweep from a thread: what trials wait for, and whether anything can still move."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

from ray.exceptions import RayError

from pace_tune.cluster.dispatcher import DispatcherClient
from pace_tune.cluster.warm_workers import WarmWorkers
from pace_tune.wording import counted

INTERVAL_S = 1.0
PATIENCE_S = 30.0
"""A wait that is longer is worth a line; it is said again after twice the time, and so on."""
STALL_VARIABLE = "PACE_TUNE_STALL_S"
STALL_S = 600.0
"""Without a sign of life of any worker for so long the sweep is given up; it can be resumed."""


class Monitor:
    """Asks the dispatcher every second.

    Args:
        dispatcher: Its name.
        workers: The training workers.
        say: Takes one line for the user.
        progress: Takes one line on what is waited for.
        wanted: How many workers there should be.
    """

    def __init__(
        self,
        dispatcher: str,
        workers: WarmWorkers,
        *,
        say: Callable[[str], None],
        progress: Callable[[str], None] = lambda _: None,
        wanted: int = 1,
    ) -> None:
        self.problem = ""
        """Why the sweep cannot go on."""
        self.status: dict[str, Any] = {}
        self._client, self._workers, self._say = DispatcherClient(dispatcher), workers, say
        self._stall_s = float(os.environ.get(STALL_VARIABLE, STALL_S))
        self._alive_at = time.monotonic()
        self._said_at, self._patience_s = self._alive_at, PATIENCE_S
        self._progress, self._wanted, self._ready = progress, wanted, 0
        self._restarts, self._errors = 0, 0
        self._outage = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)

    def start(self) -> None:
        """Start watching."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(2 * INTERVAL_S)

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL_S) and not self.problem:
            try:
                self.look(self._client.call("status"))
            except RayError:
                # The dispatcher is being found again; the bound on silence holds meanwhile.
                self.look({})

    def look(self, status: dict[str, Any]) -> None:
        """Take in what the dispatcher says."""
        self.status = status or self.status
        now = time.monotonic()
        room = "" if status.get("training") else self._workers.lack_room()
        # Another sweep has it, or a node is on its way: however long that takes, nothing is broken.
        self._alive_at = now if room else self._alive_at
        if status.get("silent_s") is not None:
            self._alive_at = max(self._alive_at, now - status["silent_s"])
        if status.get("broken"):
            self.problem = status["broken"]
        elif self._workers.error is not None:
            self.problem = f"the training workers ended: {self._workers.error}"
        elif now - self._alive_at > self._stall_s:
            last = f" (the last one said: {self.status['error']})" if self.status.get("error") else ""
            self.problem = f"no training worker gave a sign of life for {self._stall_s:g} s{last}; set {STALL_VARIABLE} to wait longer"
        self._tell_ready(int(status.get("workers", 0)))
        self._tell_restarts(status)
        self._tell_outage(status.get("waits_for", self._outage))
        self._tell_waits(status, now, room=room)

    def _tell_ready(self, workers: int) -> None:
        if self._ready < workers <= self._wanted:
            self._ready = workers
            self._progress(f"{workers} of {self._wanted} training workers ready")

    def _tell_restarts(self, status: dict[str, Any]) -> None:
        restarts, errors = int(status.get("restarts", self._restarts)), int(status.get("errors", self._errors))
        # A dispatcher that was made again counts from 0.
        self._errors = min(self._errors, errors)
        if restarts > self._restarts:
            # A worker that was killed says nothing: the reason of an earlier death is not its.
            reason = f" ({status['error']})" if errors > self._errors else ""
            self._say(f"a training worker died{reason} and was started again; its lanes go on where they were")
            self._errors = errors
        self._restarts = restarts

    def _tell_outage(self, outage: str) -> None:
        if outage and not self._outage:
            self._say(f"a training worker waits for {outage}")
        elif self._outage and not outage:
            self._say("the training worker has what it waited for")
        self._outage = outage

    def _tell_waits(self, status: dict[str, Any], now: float, *, room: str) -> None:
        waiting = status.get("pending", [])
        wait = f"room for {room} on the cluster" if room else self._reason(status) if waiting else ""
        if not wait:
            self._said_at, self._patience_s = now, PATIENCE_S
        elif now - self._said_at > self._patience_s:
            self._said_at, self._patience_s = now, 2 * self._patience_s
            who = counted(len(waiting), "trial") if waiting else "the sweep is"
            self._say(f"{who} waiting for {wait}")

    def _reason(self, status: dict[str, Any]) -> str:
        if not status.get("workers"):
            return "the training workers to start (placement, imports, backbone and data)"
        if not status.get("training"):
            return "a training worker to take them"
        # Others are trained meanwhile: this is an ordinary queue.
        return ""
