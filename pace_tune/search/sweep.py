"""A study being executed: started, gone on with, interrupted, extended, all by the same call."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pace_tune.cluster.dispatcher import DispatcherClient
from pace_tune.cluster.embedded import connected
from pace_tune.cluster.resources import Request, refuse_infeasible
from pace_tune.cluster.warm_workers import STOP_TIMEOUT_S, WarmWorkers
from pace_tune.cluster.worker_loop import NOT_SET_UP, WorkerPlan
from pace_tune.errors import PaceTuneError
from pace_tune.search.book import Book
from pace_tune.search.early_stopping import LaneScheduler
from pace_tune.search.entry import Entry
from pace_tune.search.events import Listener, SweepEvents, Tracking
from pace_tune.search.experiment import run_experiment
from pace_tune.search.interrupt import Interruptible
from pace_tune.search.lease import Lease
from pace_tune.search.live import Display, display, progress_of, style_of
from pace_tune.search.live_table import Footprint
from pace_tune.search.monitor import Monitor
from pace_tune.search.plan import Plan, request_of
from pace_tune.search.searcher import StudySearcher
from pace_tune.search.warm_start import warm_points
from pace_tune.study.study_config import Study
from pace_tune.study.sweep_database import database_url, has_database
from pace_tune.study.sweep_folder import begins_anew, check_folder, claim_folder, clear_folder
from pace_tune.tracking.tracker import CLOSE_TIMEOUT_S, Tracker

WORKER = "pace_tune.worker:Worker"
SHARED = ("task", "backbone", "data")
"""What a training worker loads once, for all of its lanes."""


class SweepFailedError(PaceTuneError):
    """The sweep cannot go on; what it did is kept, and the same call resumes it."""


class SweepInterruptedError(PaceTuneError):
    """The user asked to stop."""


@dataclass(frozen=True)
class SweepResult:
    """What a sweep came to."""

    name: str
    folder: Path
    state: Literal["finished", "interrupted"]
    metric: str
    mode: Literal["max", "min"]
    trials: tuple[Entry, ...]
    """In the order in which they were proposed."""
    best: Entry | None
    elapsed_s: float
    untracked_bytes: int = 0
    """What the tracking store does not have yet; the next start of the sweep writes it."""
    was_complete: bool = False
    """Whether nothing was left to do."""

    @property
    def counts(self) -> dict[str, int]:
        """How many trials ended in each way."""
        return dict(Counter(entry.outcome or "open" for entry in self.trials))


def run_sweep(
    study: Study, *, quiet: bool = False, json_lines: bool = False, worker: str = WORKER, address: str | None = None
) -> SweepResult:
    """Execute a study: start it, or go on where it stopped; a finished one returns its result at once.

    Args:
        study: What to execute. A larger `search.trials` extends a finished sweep.
        quiet: Show nothing.
        json_lines: Show one JSON object for each thing that happens.
        worker: ``module:Class`` of the door to the learning half.
        address: Of the Ray cluster; None is the one that this process is in, or a new one on this machine.

    Returns:
        The result so far when the user interrupted it, else the final one.

    Raises:
        ConfigError: The folder holds another study, or the cluster can never place the workers; nothing was started.
        SweepDrivenError: Another driver runs this sweep.
        SweepFailedError: The training workers cannot work.
        KeyboardInterrupt: A signal came before anything was searched, or a second one; the same call goes on.

    Example:
        >>> result = run_sweep(Study.load("search_spaces/digits.yaml"))  # doctest: +SKIP
        >>> result.best.value  # doctest: +SKIP
    """
    began = time.monotonic()
    check_folder(study)
    style = style_of(quiet=quiet, json_lines=json_lines)
    progress = progress_of(style)
    if difference := begins_anew(study):
        progress(f"no trial of the study in {study.folder} has finished an epoch, and {difference}: it begins anew")
        _forget(study)
    done = _finished(study, began)
    if done is not None:
        return done
    if not has_database(study.folder):
        warm_points(study)  # refuses what is not there before anything starts
    request = request_of(study)
    with Interruptible() as interrupt, connected(request, address=address, say=progress) as nodes:
        interrupt.check()
        request = request_of(study, nodes=nodes)
        refuse_infeasible(request, nodes=nodes)
        folder = claim_folder(study)
        with Lease(database_url(folder), sweep=study.name) as lease:
            book = Book(study, url=database_url(folder))
            footprint = Footprint(request.workers, request.gpus_per_worker)
            shown = display(style, book, footprint=footprint)
            sweep = Sweep(book, folder, request=request, shown=shown, progress=progress, worker=worker, lease=lease)
            state, untracked = sweep.execute(interrupt)
    return _result(book, state, began=began, untracked_bytes=untracked)


class Sweep:
    """The parts of a running sweep, and the order in which they start and end.

    Args:
        book: Its trials.
        folder: Where it lives.
        request: What it takes of the cluster.
        shown: Where it is shown.
        progress: Takes one line on what is waited for.
        worker: ``module:Class`` of the door.
        lease: The right to drive it, held.
    """

    def __init__(
        self, book: Book, folder: Path, *, request: Request, shown: Display, progress: Callable[[str], None], worker: str, lease: Lease
    ) -> None:
        self.book, self.folder, self.request, self.shown, self.progress, self.lease = book, folder, request, shown, progress, lease
        self._epochs_before = book.tally.epochs
        dispatcher = f"pace-dispatcher-{book.study.name}-{book.sweep_id[:8]}"
        self.client = DispatcherClient(dispatcher)
        plan = _plan(book.study, dispatcher=dispatcher, request=request, worker=worker)
        self.workers = WarmWorkers(plan, request=request, storage=folder / "train")
        self.monitor = Monitor(dispatcher, self.workers, say=shown.say, progress=progress, wanted=request.workers)
        self.tracker = Tracker(book.study, folder=folder, sweep_id=book.sweep_id, say=shown.say)
        book.settle(self.tracker.ended_lanes)
        self.searcher = StudySearcher(book, slots=self._slots, dispatcher=dispatcher)

    @property
    def training(self) -> bool:
        """Whether a worker was there: before, nothing is in flight that would be worth a wait."""
        # The monitor looks now and then only; an epoch says so, too.
        return bool(self.monitor.status.get("workers")) or self.book.tally.epochs > self._epochs_before

    def execute(self, interrupt: Interruptible) -> tuple[Literal["finished", "interrupted"], int]:
        """Run to the end or to the interruption; return which it was, and the bytes that are not tracked yet."""
        state: Literal["finished", "interrupted", "failed"] = "failed"
        self.shown.start()
        untracked = 0
        try:
            self.shown.say(announcement(self.book, self.request))
            self._start_or_leave()
            try:
                self._search(interrupt)
                state = "finished"
            except SweepInterruptedError:
                state = "interrupted"
            finally:
                untracked = self._end(state)
        finally:
            # Threads that outlive Ray would start another one, or end this process.
            self.workers.abandon()
            self.monitor.stop()
            self.shown.stop()
        return ("interrupted" if state == "interrupted" else "finished"), untracked

    def _start_or_leave(self) -> None:
        try:
            self._start()
        except BaseException:
            # Where Ray is not ours to end, a worker that comes up later is sent home.
            if self.workers.running():
                self.client.tell("stop")
            raise

    def _start(self) -> None:
        # A driver before us may have left one in the same cluster.
        self.client.kill()
        # Made here, so that it lives as long as this process does; nobody waits for it while the workers' processes start.
        self.client.tell("status")
        self.workers.start()
        self.progress(f"waiting for {self.request}: backbone and data are loaded ...")
        self.monitor.start()
        self.tracker.start()

    def _slots(self) -> int:
        """Return how many trials may be open: one a worker until they said how many lanes pay."""
        return max(self.request.workers, self.monitor.status.get("lanes", 0)) if self.request.auto_lanes else self.request.slots

    def _search(self, interrupt: Interruptible) -> None:
        listeners: Sequence[Listener] = (Tracking(self.tracker), self.shown)
        events = SweepEvents(self.book, self.client, listeners, leave=lambda: self._reason_to_leave(interrupt))
        scheduler = LaneScheduler(self.book)
        interrupt.hold(lambda line: self.shown.say(line) if self.training else None)
        run_experiment(self.searcher, scheduler, events, folder=self.folder, slots=self.request.slots)

    def _reason_to_leave(self, interrupt: Interruptible) -> Exception | None:
        if interrupt.asked:
            return SweepInterruptedError("interrupted")
        if self.lease.lost:
            return SweepFailedError(f"{self.lease.lost}; this one stops.")
        problem = self.monitor.problem.rstrip(".")
        # What keeps a worker from being set up would meet the same command again.
        advice = "Mend that, then start it again." if problem.startswith(NOT_SET_UP) else "The same command goes on."
        return SweepFailedError(f"{problem}. {advice}") if problem else None

    def _end(self, state: Literal["finished", "interrupted", "failed"]) -> int:
        self.monitor.stop()
        self.book.save_time()
        self.client.call("stop")
        early = state == "interrupted" and not self.training
        best = self.book.best()
        # The workers end meanwhile.
        left = self.tracker.close(state, best=best.lane if best else None, timeout_s=0.0 if early else CLOSE_TIMEOUT_S)
        ended = self.workers.join(0.0 if early else STOP_TIMEOUT_S)
        if not (ended or early):
            self.shown.say("the training workers are still in an epoch; they end with Ray")
        if ended or not early:
            # Else it sends home those that come up later.
            self.client.kill()
        if left and not early:
            self.shown.say("tracking: the store did not take everything; the rest is kept and written when the sweep is run again")
        return left


def announcement(book: Book, request: Request) -> str:
    """Return what is said before anything starts: how much there is to do, and how much of it at once."""
    return Plan(book.study, request, closed=book.tally.ended, begun=len(book.tally.open)).announcement


def _plan(study: Study, *, dispatcher: str, request: Request, worker: str) -> WorkerPlan:
    run = study.run({}).as_mapping()
    threads = study.resources.threads or max(1, int(study.resources.cpus_per_worker))
    spread = {"shard_backbone": True} if study.resources.shard_backbone else {}
    how = {key: getattr(study.resources, key) for key in ("precision", "compile", "cuda_graphs")}
    setup = {**{key: run[key] for key in SHARED}, **how, **spread}
    plan = WorkerPlan(dispatcher, request.lanes, setup, study.lanes, threads=threads, worker=worker, processes=request.processes)
    return replace(plan, auto_lanes=request.auto_lanes)


def _forget(study: Study) -> None:
    """Clear the folder of a sweep that nobody drives and that has learned nothing."""
    with Lease(database_url(study.folder), sweep=study.name):
        pass
    clear_folder(study.folder)


def _finished(study: Study, began: float) -> SweepResult | None:
    """Return the result of a sweep that has nothing left to do."""
    if not has_database(study.folder):
        return None
    with Lease(database_url(study.folder), sweep=study.name):
        book = Book(study, url=database_url(study.folder))
        if not book.complete():
            return None
        claim_folder(study)
        tracker = Tracker(study, folder=study.folder, sweep_id=book.sweep_id)
        return replace(_result(book, "finished", began=began, untracked_bytes=tracker.flush()), was_complete=True)


def _result(book: Book, state: Literal["finished", "interrupted"], *, began: float, untracked_bytes: int) -> SweepResult:
    study = book.study
    trials = tuple(book.entries[number] for number in sorted(book.entries))
    elapsed_s = time.monotonic() - began
    return SweepResult(study.name, study.folder, state, study.metric, study.mode, trials, book.best(), elapsed_s, untracked_bytes)
