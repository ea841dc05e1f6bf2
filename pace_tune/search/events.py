"""What happens in a sweep, told to those who want to know: the tracker and the display."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback

from pace_tune.cluster.dispatcher import DispatcherClient
from pace_tune.cluster.lanes import Report
from pace_tune.search.book import Book
from pace_tune.search.entry import Entry, lane_number


class Listener(Protocol):
    """Someone who wants to know."""

    def started(self, entry: Entry) -> None:
        """A trial started, or goes on."""

    def reported(self, entry: Entry, report: Report) -> None:
        """A trial reported an epoch; after a restart it may do so again."""

    def ended(self, entry: Entry) -> None:
        """A trial ended; its outcome is known."""


class SweepEvents(Callback):
    """Tune's callback: passes on what happens, and gives a lane back as soon as its trial ends.

    Args:
        book: The sweep's trials.
        client: The dispatcher.
        listeners: Who wants to know.
        leave: Returns an error when the sweep should be left in the middle; it is raised out of Tune's loop.
    """

    def __init__(
        self, book: Book, client: DispatcherClient, listeners: Sequence[Listener], *, leave: Callable[[], Exception | None]
    ) -> None:
        self.book, self.client, self.listeners, self.leave = book, client, listeners, leave

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Leave if asked to."""
        error = self.leave()
        if error is not None:
            # Trials that wait for a report would be waited for.
            self.client.call("halt")
            raise error

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Pass on."""
        for listener in self.listeners:
            listener.started(self._entry(trial))

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any) -> None:
        """Pass on."""
        if "report" in result:
            for listener in self.listeners:
                listener.reported(self._entry(trial), result["report"])

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Pass on, and give the lane back before anything else is done."""
        self._end(trial)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Pass on."""
        self._end(trial)

    def _end(self, trial: Trial) -> None:
        entry = self._entry(trial)
        self.client.tell("release", entry.lane)
        for listener in self.listeners:
            listener.ended(entry)

    def _entry(self, trial: Trial) -> Entry:
        return self.book.entries[lane_number(trial.config["lane"])]


class NoProgress(TrialProgressCallback):
    """In the place of the callback that Tune adds where there is none of its kind, which prints nothing here and keeps every trial."""

    def on_trial_result(self, *_: Any, **info: Any) -> None:
        """Keep nothing."""

    def on_trial_error(self, *_: Any, **info: Any) -> None:
        """Keep nothing."""

    def on_trial_complete(self, *_: Any, **info: Any) -> None:
        """Keep nothing."""


class Tracking:
    """Passes what happens on to the tracker.

    Args:
        tracker: Of the sweep.
    """

    def __init__(self, tracker: Any) -> None:
        self.tracker = tracker

    def started(self, entry: Entry) -> None:
        """Track the start."""
        self.tracker.started(entry.lane, entry.run)

    def reported(self, entry: Entry, report: Report) -> None:
        """Track a report."""
        self.tracker.reported(entry.lane, epoch=int(report["epoch"]), metrics=report["metrics"])

    def ended(self, entry: Entry) -> None:
        """Track the end."""
        self.tracker.ended(entry.lane, outcome=entry.outcome or "failed", reason=entry.reason)
