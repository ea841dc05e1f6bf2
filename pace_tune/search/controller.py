"""Tune's controller for trials that have no process (see `pace_tune.search.trial`); it forgets those that ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, cast

from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial

from pace_tune.search.trial import Seat, Seats, Unlimited


class LaneController(TuneController):
    """Does two things that Tune's own does not.

    It waits for reports of the dispatcher, where Tune's own starts a process for each trial and waits for its steps.

    And it forgets trials that ended, where Tune keeps each one with a copy of it as JSON for its snapshots, 15 kB and more, looks
    through all of them, and writes all of them each time. Nobody reads them: a sweep goes on from its book.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "resource_manager_factory": Unlimited})
        self._actor_manager = Seats(resource_manager=Unlimited())

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
        cast(Seats, self._actor_manager).forget()
        super()._process_trial_failure(trial, exception)

    def _on_training_result(self, trial: Trial, answer: Any) -> None:
        if answer == "halted":
            # The driver is leaving.
            return
        seat = cast(Seat, trial.temporary_state.ray_actor)
        if results := seat.results(answer):
            super()._on_training_result(trial, results)  # type: ignore[no-untyped-call]
        else:
            self._schedule_trial_train(trial)


@contextmanager
def mended() -> Iterator[None]:
    """Have `tune.run` use it, which takes no other controller than its own."""
    module: Any = import_module("ray.tune.tune")
    own, module.TuneController = module.TuneController, LaneController
    try:
        yield
    finally:
        module.TuneController = own
