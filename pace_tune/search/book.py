"""The book of a sweep: its Optuna study. Every proposal goes out once and every result comes in once, whatever dies in between.

A trial is known by its Optuna number everywhere. When a sweep goes on, trials that were open, or whose end was not tracked, are
handed out again under their own number, and their lanes replay what they did. Of a trial that has ended the book keeps some
hundred bytes and reads the rest from the database, should anyone ask.
"""

from __future__ import annotations

import math
import time
import uuid
from collections import deque
from collections.abc import Iterable
from typing import Any, cast

import optuna
from optuna.trial import FrozenTrial, TrialState

from pace_tune.errors import ConfigError
from pace_tune.search.database import open_study
from pace_tune.search.entry import Choices, Entry, Outcome, lane_number
from pace_tune.search.patient_storage import PatientStorage
from pace_tune.search.proposals import draw, first_points, seed_of
from pace_tune.search.samplers import samplers
from pace_tune.search.samplers.sampler import DRAWN
from pace_tune.search.tally import Tally
from pace_tune.study.study_config import Study

OUTCOME = "outcome"
REASON = "reason"
RUN = "run"
OVERRIDE = "override"


class Book:
    """The Optuna study of a sweep.

    Args:
        study: What is searched. Its `search.trials` is how many trials there may be; a sweep is extended by a larger number.
        url: Of the database.
    """

    def __init__(self, study: Study, *, url: str) -> None:
        self.study = study
        self.entries: dict[int, Entry] = {}
        """By number; trials that wait for their turn are not in it."""
        self._sampler = samplers.build(study.search.sampler)
        self._optuna = open_study(url, name=study.name, mode=study.mode)
        self._opened_at = time.monotonic()
        self._waiting: deque[int] = deque()
        self._read()
        self.tally = Tally(sign=self.sign, entries=self.entries.values())
        self._orphans = deque(sorted(self.entries))
        for entry in self.entries.values():
            self._leave(entry)
        self._enqueue()

    @property
    def sign(self) -> float:
        """1 where larger values are better, else -1."""
        return 1.0 if self.study.mode == "max" else -1.0

    # Proposals.

    def settle(self, lanes: Iterable[str]) -> None:
        """Hand these lanes out no more, as far as they ended here too: everyone knows of their end."""
        settled = {number for number in map(lane_number, lanes) if number in self.entries and self.entries[number].outcome is not None}
        self._orphans = deque(number for number in self._orphans if number not in settled)

    def next(self) -> Entry | None:
        """Return the next trial to hand to Tune: one that a driver left, else a new one; None when there are enough."""
        while self._orphans or self._more():
            entry = self.entries[self._orphans.popleft()] if self._orphans else self._ask()
            if entry.outcome is None and not entry.run:
                self._propose(entry)
            # One without a run is one whose values do not go together; Tune never hears of it.
            if entry.run:
                return entry
        return None

    def _more(self) -> bool:
        trials, budget_s = self.study.search.trials, self.study.search.time_budget_s
        if budget_s is not None and self.spent_s >= budget_s:
            return False
        return trials is None or len(self.entries) < trials

    def _ask(self) -> Entry:
        number = self._waiting.popleft() if self._waiting else len(self.entries)
        self._seed(number)
        trial = self._optuna.ask()
        self._open(trial.number, trial._trial_id)
        if trial.number > number:
            # Made while the answer was lost with the database: nobody else has them.
            made = self._optuna.get_trials(deepcopy=False)
            for lost in range(number, trial.number):
                self._open(lost, made[lost]._trial_id)
        self._orphans.extend(range(number + 1, trial.number + 1))
        return self.entries[number]

    def _open(self, number: int, trial_id: int) -> None:
        self.entries[number] = Entry(number, trial_id)
        self.tally.opened(self.entries[number])

    def _seed(self, number: int) -> None:
        self._optuna.sampler = self._sampler.build(seed=seed_of(self.study.search.seed, number=number))

    def _propose(self, entry: Entry) -> None:
        self._seed(entry.number)
        trial = optuna.Trial(self._optuna, entry.trial_id)
        override = trial.user_attrs.get(OVERRIDE, {})
        point = draw(trial, study=self.study, override=override)
        try:
            entry.choose(point=point, run=self.study.run(point).as_mapping())
        except ConfigError as error:
            # Each value is allowed, their combination is not: the trial says so and the sweep goes on.
            self.tell(entry.number, outcome="failed", reason=str(error))
        else:
            trial.set_user_attr(RUN, entry.run)

    # Results.

    def report(self, number: int, *, epoch: int, value: float | None) -> None:
        """Write down a value; what is written already, or is no number, is left out."""
        entry = self.entries[number]
        if entry.outcome is None and value is not None and math.isfinite(value) and epoch > entry.last_epoch:
            self._storage.set_trial_intermediate_value(entry.trial_id, epoch, float(value))
            self.tally.reported(epoch - entry.last_epoch, float(value))
            entry.curve[epoch] = float(value)

    def tell(self, number: int, *, outcome: Outcome, value: float | None = None, reason: str = "") -> None:
        """Close a trial; what is closed stays as it is.

        Args:
            number: Of the trial.
            outcome: How it ended. A diverged one counts as pruned where it had finite values before.
            value: The last value of the metric, for a finished one.
            reason: Why it ended before its end.
        """
        entry = self.entries[number]
        if entry.outcome is not None:
            return
        value = value if value is not None and math.isfinite(value) else entry.curve.get(entry.last_epoch)
        if outcome in ("finished", "pruned") and value is None:
            outcome, reason = "diverged", reason or "it never reported a finite value"
        self._storage.set_trial_user_attr(entry.trial_id, OUTCOME, outcome)
        self._storage.set_trial_user_attr(entry.trial_id, REASON, reason)
        entry.outcome, entry.reason, entry.value = outcome, reason, value
        self._optuna.tell(number, values=value if outcome == "finished" else None, state=_optuna_state(entry))
        best = self.tally.best
        self.tally.closed(entry)
        for ended in filter(None, (entry, best)):
            self._leave(ended)
        self.save_time()

    def choices(self, trial_id: int) -> Choices:
        """Read from the database what was chosen for the trial of a row."""
        return _choices(self._database.get_trial(trial_id))

    def best(self) -> Entry | None:
        """Return the best finished trial; the best pruned one only where none was finished."""
        return self.tally.best

    def complete(self) -> bool:
        """Whether there is nothing left to do: no more trials to try, or no time, and all closed."""
        return not self._more() and not self.tally.open

    @property
    def sweep_id(self) -> str:
        """What tells this sweep from all others of its name."""
        found = self._optuna.user_attrs.get("sweep_id")
        if found is None:
            found = uuid.uuid4().hex
            self._optuna.set_user_attr("sweep_id", found)
        return str(found)

    @property
    def spent_s(self) -> float:
        """The time that drivers of this sweep have spent, where there is a budget."""
        return float(self._optuna.user_attrs.get("spent_s", 0.0)) + time.monotonic() - self._opened_at

    def save_time(self) -> None:
        """Write down the time spent so far."""
        if self.study.search.time_budget_s is not None:
            self._optuna.set_user_attr("spent_s", self.spent_s)
            self._opened_at = time.monotonic()

    # The database.

    @property
    def _storage(self) -> optuna.storages.BaseStorage:
        return self._optuna._storage

    @property
    def _database(self) -> PatientStorage:
        """What is behind Optuna's cache."""
        return cast(PatientStorage, cast(Any, self._storage)._backend)

    def _read(self) -> None:
        for trial in self._optuna.get_trials(deepcopy=False):
            if trial.state == TrialState.WAITING:
                self._waiting.append(trial.number)
            else:
                self.entries[trial.number] = _entry(trial)
            self._database.thin(trial)

    def _leave(self, entry: Entry) -> None:
        """Leave to the database what was chosen for a trial that ended; the display shows that of the best."""
        if entry.outcome is not None and entry is not self.tally.best:
            entry.leave(self)

    def _enqueue(self) -> None:
        """Put the first points into the queue; a driver that died half-way left some of them there."""
        there = len(self._waiting) + len(self.entries)
        if self._optuna.user_attrs.get("enqueued"):
            return
        for first in list(first_points(self.study))[there:]:
            self._optuna.enqueue_trial(dict(first.point), user_attrs={OVERRIDE: dict(first.override)} if first.override else None)
            self._waiting.append(there)
            there += 1
        self._optuna.set_metric_names([self.study.metric])
        self._optuna.set_user_attr("enqueued", True)


def _optuna_state(entry: Entry) -> TrialState:
    if entry.outcome == "finished":
        return TrialState.COMPLETE
    if entry.outcome == "pruned" or (entry.outcome == "diverged" and entry.curve):
        return TrialState.PRUNED
    return TrialState.FAIL


def _entry(trial: FrozenTrial) -> Entry:
    attributes = trial.user_attrs
    return Entry(
        number=trial.number,
        trial_id=trial._trial_id,
        curve=trial.intermediate_values,
        # The attribute is written before the state: only the state says that it counts.
        outcome=attributes.get(OUTCOME, "failed") if trial.state.is_finished() else None,
        reason=attributes.get(REASON, ""),
        value=trial.value,
        **_choices(trial)._asdict(),
    )


def _choices(trial: FrozenTrial) -> Choices:
    attributes = trial.user_attrs
    return Choices({**attributes.get(OVERRIDE, {}), **trial.params, **attributes.get(DRAWN, {})}, attributes.get(RUN, {}))
