"""Tune's controller, mended: a trial that was given a process of another trial, which then died, is started again like any other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial


class LaneController(TuneController):
    """Counts such a death as a failure of which there may be several.

    A process is reused by a reset, during which Tune holds its new trial for pending; and of a pending trial that fails Tune
    thinks that it cannot be started at all, and ends it for good. After a node was lost that was every trial that had just been given
    one of its processes.
    """

    _handled: Exception | None = None
    """The last failure; Tune is told of the death of a process twice, once for it and once for what it did."""

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
