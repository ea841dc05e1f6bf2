"""What tracking costs training: the same sweep with a store that answers, with one that does not, and untracked.

    python benchmarks/tracking_overhead.py

The sides take turns. A side's step time is the median of its epochs while all lanes train, by the clock and in the worker's CPU time;
the ratios are of one round, and their median, lowest and highest are printed. Beside them stands the CPU time of the tracking itself,
in the driver, over that of the training.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from driver_costs import keep, let_ray_find_workers

DEAD = "http://127.0.0.1:9"
SIDES = ("untracked", "answers", "dead")


class Untracked:
    """Has the methods of `pace_tune.tracking.tracker.Tracker`, and tracks nothing."""

    ended_lanes: frozenset[str] = frozenset()

    def __init__(self, *args: Any, **options: Any) -> None: ...

    def start(self) -> None:
        """Do nothing."""

    def started(self, *args: Any) -> None:
        """Do nothing."""

    def reported(self, *args: Any, **options: Any) -> None:
        """Do nothing."""

    def ended(self, *args: Any, **options: Any) -> None:
        """Do nothing."""

    def close(self, *args: Any, **options: Any) -> int:
        """Say that nothing is missing."""
        return 0


class Meter:
    """CPU seconds that the tracking takes in this process: in the calls of its tracker and in its writer's thread."""

    def __init__(self) -> None:
        self.cpu_s = 0.0
        self._lock = threading.Lock()

    def metered(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function whose CPU time counts."""

        def call(*args: Any, **options: Any) -> Any:
            began = time.thread_time()
            try:
                return fn(*args, **options)
            finally:
                with self._lock:
                    self.cpu_s += time.thread_time() - began

        return call


def the_study(output: Path, side: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the study: one full group of lanes, each to its end."""
    return {
        "name": side,
        "task": {"name": "digits", "shots": 10, "val_per_class": 10},
        "backbone": "vit_nano_cifar10",
        "method": {"name": "lora_add", "rank": 4},
        "objective": {"name": "pace", "sigma": {"float": [0.1, 2.0]}},
        "optim": {"lr": {"float": [1e-3, 1e-2], "log": True}, "epochs": options.epochs, "warmup_epochs": 0, "batch_size": 16},
        "search": {"trials": options.lanes, "sampler": "random", "seed": 0, "early_stopping": {"name": "none"}},
        "resources": {"workers": 1, "lanes": options.lanes, "threads": 1},
        "tracking": {"uri": DEAD if side == "dead" else None},
        "output": str(output),
    }


def sweep(side: str, options: argparse.Namespace) -> dict[str, float]:
    """Run one side's sweep; return the seconds of an epoch and what the tracking took."""
    from pace_tune.search import sweep as sweeps
    from pace_tune.study.study_config import Study
    from pace_tune.tracking.tracker import Tracker
    from pace_tune.tracking.writer import Writer

    meter = Meter()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        epochs = Path(folder) / "epochs.txt"
        parts = [mock.patch.dict(os.environ, TIMED_EPOCHS=str(epochs))]
        if side == "untracked":
            parts.append(mock.patch.object(sweeps, "Tracker", Untracked))
        metered = [(Tracker, name) for name in ("start", "started", "reported", "ended")] + [(Writer, "_run")]
        parts += [mock.patch.object(owner, name, meter.metered(getattr(owner, name))) for owner, name in metered]
        with _all(parts):
            sweeps.run_sweep(Study.parse(the_study(Path(folder), side, options)), quiet=True, worker="timed_worker:TimedWorker")
        rows = [tuple(map(float, line.split())) for line in epochs.read_text(encoding="utf-8").splitlines()]
    # The first epochs fill caches, and the store is made meanwhile.
    whole = [row for row in rows if row[2] == options.lanes][len(rows) // 4 :]
    wall_s, cpu_s = (statistics.median(row[column] for row in whole) for column in (0, 1))
    return {"wall_s": wall_s, "cpu_s": cpu_s, "tracking_cpu": meter.cpu_s / sum(cpu for _, cpu, _ in rows)}


def _all(parts: list[Any]) -> Any:
    from contextlib import ExitStack

    stack = ExitStack()
    for part in parts:
        stack.enter_context(part)
    return stack


def main() -> None:
    """Run the rounds and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lanes", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    let_ray_find_workers()
    rounds = [{side: sweep(side, options) for side in SIDES[turn % 3 :] + SIDES[: turn % 3]} for turn in range(options.rounds)]
    figures: dict[str, Any] = {"epoch_s_untracked": statistics.median(found["untracked"]["wall_s"] for found in rounds)}
    for side in SIDES[1:]:
        figures[side] = {"tracking_cpu_over_training_cpu": statistics.median(found[side]["tracking_cpu"] for found in rounds)}
        for clock in ("wall_s", "cpu_s"):
            ratios = sorted(found[side][clock] / found["untracked"][clock] for found in rounds)
            figures[side][f"step_{clock}"] = [round(ratio, 3) for ratio in (statistics.median(ratios), ratios[0], ratios[-1])]
    print(json.dumps(figures, indent=1))
    keep(options.json, figures=figures)


if __name__ == "__main__":
    main()
