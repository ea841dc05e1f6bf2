"""Clocks and memory of the benchmarks."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pace_tune.training.host_memory import keep_freed_memory

if TYPE_CHECKING:
    from sides import Case


@dataclass(frozen=True)
class Clock:
    """What time means on a device: CPU time of this process, or wall time between synchronisations."""

    device: str
    read: Callable[[], float]
    label: str

    @classmethod
    def on(cls, device: str | None, *, kind: str) -> Clock:
        """Return the clock of a device, one thread on the CPU, where the process keeps its memory for both sides as a worker does."""
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        torch.set_num_threads(1)
        if device == "cpu":
            keep_freed_memory()
        wall = kind == "wall" or device != "cpu"
        return cls(device, time.perf_counter if wall else time.process_time, "wall time" if wall else "CPU time of one thread")

    def of(self, fn: Callable[[], object]) -> float:
        """Return the seconds that a call takes."""
        self._finish()
        started = self.read()
        fn()
        self._finish()
        return self.read() - started

    def _finish(self) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize()


def cpu_load() -> float:
    """Return the load average of the last minute."""
    return round(os.getloadavg()[0], 1)


def memory_ratio(case: Case, lanes: int) -> dict[str, float]:
    """Return peak memory of K lanes over K times that of one lane, each in a process of its own.

    On the CPU it is the private memory (unique set size): K processes share the libraries' pages, and are not charged for them.
    """
    several, one = (_in_process(case, count) for count in (lanes, 1))
    return {"ratio": several / (lanes * one), "lanes_mib": several, "process_mib": one}


def _in_process(case: Case, lanes: int) -> float:
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_peak_mib, (case, lanes))


def _peak_mib(case: Case, lanes: int) -> float:
    from sides import ours

    torch.set_num_threads(1)
    if case.device == "cpu":
        keep_freed_memory()
    step = ours(case, "pace", lanes=lanes)
    peaks = []
    for _ in range(3):
        step()
        peaks.append(_memory_mib(case.device))
    return max(peaks)


def _memory_mib(device: str) -> float:
    if device != "cpu":
        free, total = torch.cuda.mem_get_info()
        return (total - free) / 2**20
    status = Path("/proc/self/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    # The high-water mark less what is shared with other processes of the same libraries.
    return (int(fields["VmHWM"].split()[0]) - int(fields["RssFile"].split()[0])) / 1024
