"""Runs trained to their end on this machine, outside of any sweep: in this process, or spread over a few."""

from __future__ import annotations

import multiprocessing
import os
import queue
import shutil
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pace_tune.errors import PaceTuneError

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from pace_tune.worker import Worker

Report = Mapping[str, Any]
Configs = Mapping[str, Mapping[str, Any]]
OnReport = Callable[[Report], None]

LANES = 8
"""Runs trained together in a process; more wait for their turn, so that memory is bounded."""
_POLL_S = 1.0


@dataclass(frozen=True)
class Ended:
    """A run's last report, and its scores on the asked split where it finished."""

    report: Report
    scores: Mapping[str, float] | None


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where runs train.

    Args:
        storage: Folder of their checkpoints.
        split: Split that finished runs are scored on.
        processes: How many share the runs, one thread each; 1 trains in this process.
        threads: Torch threads of a single process; None leaves the choice to torch.
    """

    storage: str
    split: str
    processes: int = 1
    threads: int | None = None


def local_processes() -> int:
    """Return how many processes use this machine well: one on a GPU, else one per core."""
    return 1 if shutil.which("nvidia-smi") else os.cpu_count() or 1


def train_runs(configs: Configs, *, place: Place, on_report: OnReport) -> dict[str, Ended]:
    """Train every run to its end and score the finished ones. Called again, it goes on from their checkpoints.

    Args:
        configs: Lane name -> run, all of one task, backbone and data.
        on_report: Called with each report, from this process.

    Raises:
        PaceTuneError: A process died, or its own error.
    """
    processes = min(place.processes, len(configs))
    if processes <= 1:
        return dict(_train(configs, place, on_report))
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    results: Any = context.Queue()
    names = list(configs)
    shares = [{name: configs[name] for name in names[i::processes]} for i in range(processes)]
    children = [context.Process(target=_child, args=(share, place, results), daemon=True) for share in shares]
    with _interrupts_left_to_us():
        for child in children:
            child.start()
    try:
        return _gather(results, children, waiting=set(names), on_report=on_report)
    finally:
        for child in children:
            child.terminate()
            child.join()


@contextmanager
def _interrupts_left_to_us() -> Iterator[None]:
    """Let the processes that are started here ignore Ctrl-C, which a terminal sends to all: we end them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _gather(results: Any, children: Sequence[BaseProcess], *, waiting: set[str], on_report: OnReport) -> dict[str, Ended]:
    ended: dict[str, Ended] = {}
    while waiting:
        try:
            found = results.get(timeout=_POLL_S)
        except queue.Empty:
            dead = [child for child in children if child.exitcode not in (None, 0)]
            if dead:
                raise PaceTuneError(f"a training process ended with status {dead[0].exitcode}.") from None
            continue
        if isinstance(found, Exception):
            raise found
        if isinstance(found, tuple):
            lane, ended[found[0]] = found
            waiting.discard(lane)
        else:
            on_report(found)
    return ended


def _child(configs: Configs, place: Place, results: Any) -> None:
    alone = Place(storage=place.storage, split=place.split, threads=1)
    try:
        for end in _train(configs, alone, results.put):
            results.put(end)
    except PaceTuneError as error:
        # Errors with arguments of their own do not all unpickle; the sentence is what matters.
        results.put(PaceTuneError(str(error)))


def _train(configs: Configs, place: Place, on_report: OnReport) -> Iterable[tuple[str, Ended]]:
    from pace_tune.worker import Worker

    first = next(iter(configs.values()))
    worker = Worker({part: first[part] for part in ("task", "backbone", "data")}, storage=place.storage, threads=place.threads)
    for lane, report in _to_the_end(worker, configs, on_report).items():
        finished = report["state"] == "finished"
        yield lane, Ended(report, worker.score(lane, place.split) if finished else None)  # type: ignore[arg-type]


def _to_the_end(worker: Worker, configs: Configs, on_report: OnReport) -> dict[str, Report]:
    """Train every run and return its last report."""
    ends: dict[str, Report] = {}
    waiting, running = list(configs), set[str]()

    def take(reports: Iterable[Report]) -> None:
        for report in reports:
            on_report(report)
            if report["state"] != "running":
                ends[report["lane"]] = report
                running.discard(report["lane"])

    while waiting or running:
        while waiting and len(running) < LANES:
            lane = waiting.pop(0)
            running.add(lane)
            # Of a run that goes on the last report says where it stands.
            take(worker.open(lane, configs[lane])[-1:])
        if running:
            reports = worker.advance()
            if not reports:
                raise PaceTuneError(f"the worker stopped reporting while {', '.join(sorted(running))} had not ended.")
            take(reports)
    return ends
