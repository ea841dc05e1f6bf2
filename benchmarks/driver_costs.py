"""What the benchmarks of whole sweeps share: when trials ended, what the driver took meanwhile, and how figures are kept."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Sample:
    """This process at a moment."""

    at: float
    mib: float
    cpu_s: float
    """Since it started, all of its threads together."""


def finish_times(folder: Path) -> list[float]:
    """Return when each trial of a sweep's folder ended, in order."""
    trials = optuna.load_study(study_name=folder.name, storage=f"sqlite:///{folder / 'optuna.db'}").get_trials()
    return sorted(trial.datetime_complete.timestamp() for trial in trials if trial.datetime_complete)


def per_trial(ends: list[float], *, part: int) -> dict[str, float]:
    """Return seconds per trial over all, over the first and over the last trials."""
    first, last = ends[: part + 1], ends[-part - 1 :]
    seconds = {"s_per_trial": _mean_gap(ends), f"s_first_{part}": _mean_gap(first), f"s_last_{part}": _mean_gap(last)}
    return {**seconds, "last_over_first": _mean_gap(last) / _mean_gap(first)}


def cpu_per_trial(samples: list[Sample], ends: list[float], *, part: int) -> dict[str, float]:
    """Return the driver's CPU seconds per trial while the first trials ended, from the tenth part on, and while the last did."""

    def spent(first: int, last: int) -> float:
        between = [sample.cpu_s for sample in samples if ends[first] <= sample.at <= ends[last]]
        # So few trials end within a second or two, between two samples.
        return (between[-1] - between[0]) / (last - first) if len(between) > 1 else float("nan")

    early, late = spent(part // 10, part), spent(len(ends) - part, len(ends) - part // 10)
    return {f"driver_cpu_s_first_{part}": early, f"driver_cpu_s_last_{part}": late, "driver_cpu_last_over_first": late / early}


def by_hundred(ends: list[float]) -> list[float]:
    """Return the seconds per trial of each hundred."""
    return [round(_mean_gap(ends[start : start + 101]), 4) for start in range(0, len(ends) - 99, 100)]


def _mean_gap(ends: list[float]) -> float:
    return (ends[-1] - ends[0]) / (len(ends) - 1)


@contextmanager
def sampled(every_s: float = 1.0) -> Iterator[list[Sample]]:
    """Sample this process's resident memory and CPU time while the context is open."""
    samples: list[Sample] = []
    over = threading.Event()

    def sample() -> None:
        while not over.wait(every_s):
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            samples.append(Sample(time.time(), pages * os.sysconf("SC_PAGE_SIZE") / 2**20, time.process_time()))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()


def growth(samples: list[Sample], ends: list[float], *, after: float = 0.1) -> float:
    """Return the driver's growth in MiB per 100 trials by least squares, a first part of the trials left out."""
    started = ends[int(len(ends) * after)]
    moments = [(sample.at, sample.mib) for sample in samples]
    points = [(sum(end <= at for end in ends) / 100, mib) for at, mib in moments if started <= at <= ends[-1]]
    if len(points) < 3:
        return float("nan")
    mean_x, mean_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else float("nan")


def let_ray_find_workers() -> None:
    """Put this folder and the repository where Ray's processes look for modules."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH")]))


def keep(path: Path | None, **figures: Any) -> None:
    """Write figures to a file, with when and how they were measured; None is no file."""
    if path is not None:
        about = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "command": " ".join(sys.argv), "load": os.getloadavg()[0]}
        path.write_text(json.dumps(about | figures, indent=1) + "\n", encoding="utf-8")
