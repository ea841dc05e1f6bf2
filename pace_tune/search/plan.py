"""What a sweep takes and how much there is to do, said before anything starts."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pace_tune.cluster.lane_limit import MOST
from pace_tune.cluster.resources import Request, gpus_per_worker, refuse_infeasible
from pace_tune.search.database import open_study
from pace_tune.study.study_config import Study
from pace_tune.study.sweep_database import database_url, has_database
from pace_tune.wording import counted


@dataclass(frozen=True)
class Plan:
    """How a study would be executed."""

    study: Study
    request: Request
    closed: int = 0
    """Trials that ended before."""
    begun: int = 0
    """Trials that were begun before, and go on."""

    @property
    def rounds(self) -> int | None:
        """How often all lanes are filled; None where only the time ends the sweep, or the workers find out how many lanes there are."""
        trials = self.study.search.trials
        return None if trials is None or self.request.auto_lanes else math.ceil(max(0, trials - self.closed) / self.request.slots)

    @property
    def announcement(self) -> str:
        """One line for people."""
        study, request = self.study, self.request
        workers = counted(request.workers, "worker")
        lanes = f"x {counted(request.lanes, 'lane')} = {request.slots} at once"
        at_once = f"{workers} {'with as many lanes as pay' if request.auto_lanes else lanes}"
        timed = f"trials for {study.search.time_budget_s:g} s" if study.search.time_budget_s else ""
        size = counted(study.search.trials, "trial") if study.search.trials is not None else timed
        rounds = "" if self.rounds is None else f", {counted(self.rounds, 'round')}"
        parts = [f"{self.closed} done before"] * (self.closed > 0) + [f"{self.begun} begun that go on"] * (self.begun > 0)
        before = f" ({', '.join(parts)})" if parts else ""
        return f"sweep {study.name}: {size}{before}, {at_once}{rounds}; {study.metric} {study.mode}; {study.folder}"

    def as_mapping(self) -> dict[str, Any]:
        """Return the same for programs."""
        request = self.request
        lanes: dict[str, Any] = {"lanes": request.lanes, "slots": request.slots, **({"auto_lanes": True} if request.auto_lanes else {})}
        taken = {"workers": request.workers, **lanes, **request.bundle()}
        return {"sweep": self.study.name, "trials": self.study.search.trials, "closed": self.closed, "rounds": self.rounds, **taken}


def request_of(study: Study, *, nodes: Sequence[Mapping[str, float]] | None = None) -> Request:
    """Return what a study asks of a cluster; ``auto`` is decided by the nodes, and no GPU where they are not known yet."""
    asked, workers = study.resources.gpus_per_worker, study.resources.workers
    gpus = gpus_per_worker(asked, workers=workers, nodes=nodes or ())
    processes = study.resources.processes_per_worker or max(1, int(gpus))
    lanes = study.resources.lanes
    most = MOST if lanes == "auto" else lanes
    return Request(workers, most, study.resources.cpus_per_worker, gpus, processes, auto_lanes=lanes == "auto")


def plan_sweep(study: Study, *, nodes: Sequence[Mapping[str, float]] | None = None) -> Plan:
    """Return how a study would be executed, without starting or writing anything.

    Args:
        study: What would be executed.
        nodes: What each node of the cluster has; None is this machine, whose GPUs are not looked for.

    Raises:
        ConfigError: It could never be placed.

    Example:
        >>> study = Study.load("search_spaces/digits.yaml")
        >>> plan_sweep(study, nodes=[{"CPU": 8}]).rounds
        2
    """
    request = request_of(study, nodes=nodes)
    if nodes is None:
        nodes = [{"CPU": os.cpu_count() or 1, "GPU": request.workers * math.ceil(request.gpus_per_worker)}]
    refuse_infeasible(request, nodes=nodes)
    return Plan(study, request, closed=_closed(study))


def _closed(study: Study) -> int:
    if not has_database(study.folder):
        return 0
    trials = open_study(database_url(study.folder), name=study.name, mode=study.mode).get_trials(deepcopy=False)
    return sum(trial.state.is_finished() for trial in trials)
