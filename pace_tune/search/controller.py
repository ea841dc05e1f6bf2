"""Tune's controller, mended: it forgets trials that ended, writes no snapshots, and starts a trial again that got a dying process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial


class LaneController(TuneController):
    """Does three things that Tune's own does not.

    A trial that ended is forgotten, where Tune keeps each one with a copy of it as JSON for its snapshots, 15 kB and more, looks through
    all of them, and writes all of them each time. Nobody reads them: a sweep goes on from its book.

    A death that happens while a process is given its next trial counts as a failure of which there may be several. A process is
    reused by a reset, during which Tune holds its new trial for pending; and of a pending trial that fails Tune thinks that it
    cannot be started at all, and ends it for good. After a node was lost that was every trial that had just been given one of its
    processes.
    """

    _handled: Exception | None = None
    """The last failure; Tune is told of the death of a process twice, once for it and once for what it did."""

    def checkpoint(self, force: bool = False, wait: bool = False) -> None:
        """Write no snapshot but the forced one at the end, in which `tune.run` looks for its result: it is empty."""
        if force:
            super().checkpoint(force=force, wait=wait)

    def on_step_end(self) -> None:
        """Forget the trials that ended. Until here Tune itself still looks at them."""
        super().on_step_end()  # type: ignore[no-untyped-call]
        if self._stopped_trials or self._failed_trials:
            self._forget()

    def _forget(self) -> None:
        for trial in (*self._stopped_trials, *self._failed_trials):
            self._live_trials.discard(trial)
            self._trials_to_cache.discard(trial)
            self._trial_metadata.pop(trial.trial_id, None)
            self._queued_trial_decisions.pop(trial.trial_id, None)
        # The list itself is handed to callbacks.
        self._trials[:] = [trial for trial in self._trials if not trial.is_finished()]
        self._stopped_trials.clear()
        self._failed_trials.clear()

    def _process_trial_failure(self, trial: Trial, exception: Any) -> None:
        if exception is self._handled:
            return
        self._handled = exception
        if trial in self._resetting_trials:
            self._resetting_trials.remove(trial)
            self._set_trial_status(trial, Trial.RUNNING)
        super()._process_trial_failure(trial, exception)


@contextmanager
def mended() -> Iterator[None]:
    """Have `tune.run` use it, which takes no other controller than its own."""
    module: Any = import_module("ray.tune.tune")
    own, module.TuneController = module.TuneController, LaneController
    try:
        yield
    finally:
        module.TuneController = own
