"""A Tune trial: a thin process without torch that hands its run to a warm worker and passes the reports on."""

from __future__ import annotations

import uuid
from collections import deque
from typing import Any

from ray.tune import Trainable

from pace_tune.cluster.dispatcher import DispatcherClient
from pace_tune.cluster.lanes import Report

WAIT_S = 20.0
"""One wait for a report; there may be any number of them."""


class LaneTrial(Trainable):
    """Waits for a lane's reports, one step for each.

    Its configuration is ``{"lane": "t0007", "dispatcher": name, "run": run configuration as a mapping}``.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Hand the lane over."""
        self.lane: str = config["lane"]
        self.run_mapping = config["run"]
        self.epoch = 0
        self.ended = False
        self._unread: deque[Report] = deque()
        # Tells this submission from those of other processes that had the same trial before.
        self.ticket = uuid.uuid4().hex
        self.client = DispatcherClient(config["dispatcher"])
        self._submit()

    def step(self) -> dict[str, Any]:
        """Wait for the next report and return it as Tune's result."""
        report = self._next_report()
        if report is None:
            # The driver is leaving, and does not read this.
            return {"done": True}
        self.epoch = max(self.epoch, int(report["epoch"]))
        self.ended = report["state"] != "running"
        return {"report": report, "done": self.ended}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Become another trial in the same process."""
        self.cleanup()
        self.setup(new_config)
        return True

    def cleanup(self) -> None:
        """Give the lane back."""
        self.client.tell("release", self.lane, self.ticket)

    def _submit(self) -> None:
        self.client.call("submit", self.lane, self.run_mapping, self.ticket)

    def _next_report(self) -> Report | None:
        while not self._unread:
            reports = self.client.call("reports", self.lane, self.ticket, self.epoch, WAIT_S, wait_s=WAIT_S)
            if reports == "halted":
                return None
            if reports is None:
                # A new dispatcher knows nothing: the worker opens the lane again and replays it.
                self._submit()
            else:
                self._unread.extend(reports)
        return self._unread.popleft()
