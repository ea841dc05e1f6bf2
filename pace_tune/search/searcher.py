"""Ray Tune's view of the book: proposals for its trials, results from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ray.tune.search import Searcher

from pace_tune.search.book import Book
from pace_tune.search.entry import Outcome

OUTCOMES: dict[str, Outcome] = {
    "finished": "finished",
    # Still running and told to end: early stopping.
    "running": "pruned",
    "diverged": "diverged",
    "out_of_memory": "out_of_memory",
    "failed": "failed",
}


class Reading:
    """What a Tune result, flattened by Tune, says about a lane.

    Args:
        result: Of `pace_tune.search.trial.Seat.results`.
        metric: The metric that is optimised.
    """

    def __init__(self, result: Mapping[str, Any], *, metric: str) -> None:
        self.epoch = int(result.get("report/epoch", 0))
        self.value: float | None = result.get(f"report/metrics/{metric}")
        self.outcome = OUTCOMES[result.get("report/state", "running")]
        self.reason = str(result.get("report/reason", ""))


class StudySearcher(Searcher):
    """Hands the trials of a book to Tune and writes down what comes back.

    It keeps nothing in Tune's snapshot: a sweep goes on from its book.

    Args:
        book: The sweep's trials.
        slots: Returns how many may be open at once.
        dispatcher: Name of the dispatcher, for the trials.
    """

    def __init__(self, book: Book, *, slots: Callable[[], int], dispatcher: str) -> None:
        super().__init__()
        self.book, self.slots, self.dispatcher = book, slots, dispatcher
        self._numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | Any | None:
        """Return a trial's configuration; None while all slots are taken, `FINISHED` when there are no more trials."""
        if len(self._numbers) >= self.slots():
            return None
        entry = self.book.next()
        if entry is None:
            return Searcher.FINISHED
        self._numbers[trial_id] = entry.number
        return {"lane": entry.lane, "dispatcher": self.dispatcher, "run": dict(entry.run)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Write a value down."""
        number = self._numbers.get(trial_id)
        report = Reading(result, metric=self.book.study.metric)
        if number is not None:
            self.book.report(number, epoch=report.epoch, value=report.value)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Close a trial."""
        number = self._numbers.pop(trial_id, None)
        if number is None:
            return
        if error:
            self.book.tell(number, outcome="failed", reason="the dispatcher died under it repeatedly")
            return
        report = Reading(result or {}, metric=self.book.study.metric)
        self.book.report(number, epoch=report.epoch, value=report.value)
        self.book.tell(number, outcome=report.outcome, value=report.value, reason=report.reason)

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Keep nothing: the book is in its database."""

    def restore_from_dir(self, checkpoint_dir: str) -> None:
        """Read nothing."""

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing."""

    def restore(self, checkpoint_path: str) -> None:
        """Read nothing."""
