"""Which lane is where: the dispatcher's book-keeping, plain and synchronous, so that it is tested without Ray.

A trial *submits* a lane and asks for its reports; a worker *exchanges*: it hands in reports, says what it holds, and is told
what to open and close. What a worker should hold is kept as data and compared with what it says it holds, so a lost message
or a lost dispatcher is mended by the next exchange.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeAlias

Report: TypeAlias = Mapping[str, Any]

BACKLOG_REPORTS = 3
"""A worker waits while a trial has not read this many reports of it: early stopping must not run behind the training."""
DEATHS_ALONE = 2
"""A lane whose worker died this often without progress is trained alone, so that it takes no other lane down with it."""
DEATHS_FAILED = 4
"""A lane whose worker died this often without progress has failed."""
STARTS_WITHOUT_PROGRESS = 5
"""Workers that start this often and never report are broken: the machine, not a lane, is at fault."""


@dataclass
class Lane:
    """One lane as the dispatcher sees it."""

    name: str
    config: Mapping[str, Any]
    ticket: str
    """Who submitted it last; an earlier submitter has no say any more."""
    reports: list[Report] = field(default_factory=list)
    worker: str | None = None
    """The incarnation that should hold it."""
    placement: int = 0
    """Changes with every placement, so that a lane given back and taken again is opened again."""
    read_epoch: int = 0
    """Its trial has seen all reports up to here."""
    deaths: int = 0
    """Workers that died under it since its last new report."""

    @property
    def epoch(self) -> int:
        """The last epoch reported."""
        return int(self.reports[-1]["epoch"]) if self.reports else 0

    @property
    def done(self) -> bool:
        """Whether its last report is final."""
        return bool(self.reports) and self.reports[-1]["state"] != "running"

    def add(self, report: Report) -> bool:
        """Keep a report unless it is known already; say whether it was new."""
        if self.done or (report["state"] == "running" and report["epoch"] <= self.epoch):
            return False
        self.reports.append(report)
        self.deaths = 0
        return True

    def unread(self, after_epoch: int) -> list[Report]:
        """Return the reports beyond an epoch; a final one counts as beyond whatever epoch it names."""
        return [report for report in self.reports if report["epoch"] > after_epoch or report["state"] != "running"]


@dataclass(frozen=True)
class Member:
    """A worker as it introduces itself."""

    worker: str
    """The incarnation: a worker that comes back after a crash has another one."""
    rank: int
    """Its place in the group; the incarnation that had it before is dead."""
    lanes: int
    """How many it trains at once."""


@dataclass
class Commands:
    """What a worker should do before its next epoch: close first, then open."""

    close: list[str] = field(default_factory=list)
    open: list[tuple[str, int, Mapping[str, Any]]] = field(default_factory=list)
    """Lane, placement, run configuration."""
    stop: bool = False


class LaneTable:
    """All lanes of a sweep, and the workers that train them.

    Args:
        first_placement: Where placements are counted from. A table that replaces a lost one must not use its numbers
            again: a worker would take the new placement for the one it holds, and not replay what the lost table knew.

    Example:
        >>> table = LaneTable()
        >>> table.submit("t0000", config={"seed": 0}, ticket="a")
        >>> table.exchange(Member("w", rank=0, lanes=4), reports=[], holding={}).open
        [('t0000', 1, {'seed': 0})]
    """

    def __init__(self, *, first_placement: int = 1) -> None:
        self.lanes: dict[str, Lane] = {}
        self.workers: dict[int, str] = {}
        self.limits: dict[int, int] = {}
        """Rank -> how many lanes that worker takes, as it said last."""
        self.stopping = False
        self.broken = ""
        self.restarts = 0
        self.last_error = ""
        """What the last worker that raised said; one that was killed says nothing."""
        self.errors = 0
        """How often one said so."""
        self._placements = count(first_placement)
        self._queue: list[str] = []
        self._starts_without_progress = 0

    # Trials.

    def submit(self, name: str, *, config: Mapping[str, Any], ticket: str) -> None:
        """Take a lane in, or give one that is here already to a new submitter."""
        lane = self.lanes.get(name)
        if lane is None:
            self.lanes[name] = Lane(name, config, ticket)
            self._queue.append(name)
        else:
            lane.ticket, lane.read_epoch = ticket, 0

    def reports(self, name: str, *, ticket: str, after_epoch: int) -> list[Report] | None:
        """Return what a trial has not seen yet, or None where the lane is not this submitter's."""
        lane = self.lanes.get(name)
        if lane is None or lane.ticket != ticket:
            return None
        lane.read_epoch = max(lane.read_epoch, after_epoch)
        return lane.unread(after_epoch)

    def release(self, name: str, *, ticket: str | None = None) -> None:
        """Give a lane back. Without a ticket whoever owns it is not asked."""
        lane = self.lanes.get(name)
        if lane is not None and ticket in (None, lane.ticket):
            del self.lanes[name]
            self._queue = [queued for queued in self._queue if queued != name]

    # Workers.

    def exchange(self, member: Member, *, reports: Iterable[Report], holding: Mapping[str, int]) -> Commands:
        """Take a worker's reports and say what it should do.

        Args:
            member: Which worker it is.
            reports: What its lanes reported since the last exchange.
            holding: Lane -> placement of everything it has open.
        """
        if self.workers.get(member.rank) != member.worker:
            self._replace(member.rank, member.worker)
        self.limits[member.rank] = member.lanes
        for report in reports:
            self._post(report, worker=member.worker)
        if not self.stopping:
            self._place(member)
        return self._difference(member.worker, holding)

    def backlog(self, worker: str) -> int:
        """Return the most reports that one trial of this worker has not read."""
        return max((lane.epoch - lane.read_epoch for lane in self._held_by(worker)), default=0)

    def crowded(self, worker: str) -> bool:
        """Say whether a worker should let its trials catch up first."""
        return not self.stopping and self.backlog(worker) >= BACKLOG_REPORTS

    def pending(self) -> list[str]:
        """Return the lanes that wait for a worker, first come first."""
        return list(self._queue)

    def _held_by(self, worker: str) -> list[Lane]:
        return [lane for lane in self.lanes.values() if lane.worker == worker]

    def _replace(self, rank: int, worker: str) -> None:
        before, self.workers[rank] = self.workers.get(rank), worker
        self._starts_without_progress += 1
        if self._starts_without_progress > STARTS_WITHOUT_PROGRESS * max(1, len(self.workers)):
            why = f": {self.last_error}" if self.last_error else ""
            self.broken = f"the training workers were started {self._starts_without_progress} times and never reported an epoch{why}"
        if before is None:
            return
        self.restarts += 1
        orphans = self._held_by(before)
        for lane in orphans:
            lane.worker = None
            lane.deaths += 1
            if lane.deaths >= DEATHS_FAILED:
                lane.add(_died(lane, self.last_error))
        # They go first: their trials have waited already.
        self._queue = [lane.name for lane in orphans if not lane.done] + self._queue

    def _post(self, report: Report, *, worker: str) -> None:
        lane = self.lanes.get(report["lane"])
        if lane is None or lane.worker != worker:
            return
        if lane.add(report):
            self._starts_without_progress = 0
        if lane.done:
            lane.worker = None

    def _place(self, member: Member) -> None:
        held = self._held_by(member.worker)
        # Not more than its share, so that a worker that asks early leaves lanes for the others.
        share = math.ceil((len(self._queue) + sum(lane.worker is not None for lane in self.lanes.values())) / max(1, len(self.workers)))
        while self._queue and len(held) < min(member.lanes, share):
            lane = self.lanes[self._queue[0]]
            if held and (_alone(lane) or _alone(held[0])):
                return
            del self._queue[0]
            lane.worker, lane.placement = member.worker, next(self._placements)
            held.append(lane)

    def _difference(self, worker: str, holding: Mapping[str, int]) -> Commands:
        should = {lane.name: lane for lane in self._held_by(worker)}
        close = [name for name, placement in holding.items() if name not in should or should[name].placement != placement]
        opened = [lane for name, lane in should.items() if holding.get(name) != lane.placement]
        return Commands(close, [(lane.name, lane.placement, lane.config) for lane in opened], self.stopping)


def _alone(lane: Lane) -> bool:
    return lane.deaths >= DEATHS_ALONE


def _died(lane: Lane, error: str) -> Report:
    last = lane.reports[-1] if lane.reports else {"epochs": 0}
    reason = f"the training worker died {lane.deaths} times while it trained this lane{': ' + error if error else ''}"
    return {"lane": lane.name, "epoch": lane.epoch, "epochs": last["epochs"], "state": "failed", "reason": reason, "metrics": {}}
