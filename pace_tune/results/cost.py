"""What a sweep cost: how long its lanes were held, and how much of its workers that was."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pace_tune.results.sweep_data import Sweep

EVENTS = Path("spool", "events.jsonl")
STARTS, STOPS = ("start", "metrics"), ("end", "pause")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of a sweep.

    Args:
        lane_s: Seconds that each trial held a lane, by the trial's name; pauses between drivers left out.
        lanes_per_worker: Lanes that share a worker.
        gpus_per_worker: GPUs that a worker holds; 0 on a CPU.
    """

    lane_s: Mapping[str, float]
    lanes_per_worker: int
    gpus_per_worker: float

    @property
    def total_lane_s(self) -> float:
        """Seconds over all lanes."""
        return sum(self.lane_s.values())

    @property
    def worker_hours(self) -> float:
        """Hours of a worker with every lane taken; lanes that stood empty count for nothing."""
        return self.total_lane_s / self.lanes_per_worker / 3600

    @property
    def gpu_hours(self) -> float:
        """Hours of GPU; 0 on a CPU."""
        return self.worker_hours * self.gpus_per_worker


def cost_of(sweep: Sweep) -> Cost:
    """Return what a sweep cost so far, from the events that it wrote down for tracking; empty where there are none."""
    gpus = sweep.fixed.get("resources.gpus_per_worker", "auto")
    if gpus == "auto":
        # Memory of a GPU is reported where there is one.
        gpus = 1 if any("speed/gpu_memory_gib" in trial.metrics for trial in sweep.trials) else 0
    lanes = sweep.fixed.get("resources.lanes") or 1
    if lanes == "auto":
        # The workers found it out; what the sweep came to use is what it settled on.
        lanes = max(1, most_at_once(_events(sweep.folder / EVENTS)) // int(sweep.fixed.get("resources.workers") or 1))
    return Cost(lane_s=lane_seconds(_events(sweep.folder / EVENTS)), lanes_per_worker=int(lanes), gpus_per_worker=float(gpus))


def most_at_once(events: Iterable[Mapping[str, Any]]) -> int:
    """Return the most lanes that were held at the same time."""
    held: set[str] = set()
    most = 0
    for event in events:
        if event["kind"] in STARTS and event.get("lane") is not None:
            held.add(event["lane"])
        elif event["kind"] in STOPS:
            held.discard(event.get("lane", ""))
        most = max(most, len(held))
    return most


def lane_seconds(events: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return how long each lane was held: from each start to the end or pause after it, or to its last sign of life.

    A driver that was killed leaves no pause; the next one starts the lane again.
    """
    total_ms: dict[str, int] = {}
    seen_ms: dict[str, int | None] = {}
    for event in events:
        lane, kind, now = event.get("lane"), event["kind"], int(event.get("time_ms", 0))
        if lane is None or kind not in (*STARTS, *STOPS):
            continue
        before = seen_ms.get(lane)
        if before is not None and kind != "start":
            total_ms[lane] = total_ms.get(lane, 0) + now - before
        seen_ms[lane] = None if kind in STOPS else now
    return {lane: ms / 1000 for lane, ms in sorted(total_ms.items())}


def _events(path: Path) -> Iterable[Mapping[str, Any]]:
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):  # a line without its end is being written
                yield json.loads(line)
