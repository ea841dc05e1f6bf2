"""The book of a sweep: its Optuna study. Every proposal goes out once and every result comes in once, whatever dies in between.

A trial is known by its Optuna number everywhere. What Tune remembers is compared with the book when a sweep goes on: trials
that Tune forgot are handed out again under their own number, and their lanes replay what they did.
"""

from __future__ import annotations

import math
import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import optuna
from optuna.trial import FrozenTrial, TrialState

from pace_tune.errors import ConfigError
from pace_tune.search.database import open_study
from pace_tune.search.proposals import draw, first_points, seed_of
from pace_tune.search.samplers import samplers
from pace_tune.search.samplers.sampler import DRAWN
from pace_tune.study.study_config import Study

Outcome: TypeAlias = Literal["finished", "pruned", "diverged", "out_of_memory", "failed"]
OUTCOME = "outcome"
REASON = "reason"
RUN = "run"
OVERRIDE = "override"


def lane_name(number: int) -> str:
    """Return the lane of a trial."""
    return f"t{number:04d}"


def lane_number(lane: str) -> int:
    """Return the trial of a lane."""
    return int(lane[1:])


@dataclass
class Entry:
    """What the book knows of one trial."""

    number: int
    trial_id: int
    """Of the database row."""
    curve: dict[int, float] = field(default_factory=dict)
    """Epoch -> value of the metric."""
    outcome: Outcome | None = None
    """None while it is open."""
    reason: str = ""
    value: float | None = None
    """What it is worth; for a pruned trial the last value."""
    point: Mapping[str, Any] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)

    @property
    def lane(self) -> str:
        """Its lane."""
        return lane_name(self.number)

    @property
    def last_epoch(self) -> int:
        """The last epoch with a value."""
        return max(self.curve, default=0)


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
        self.handed: set[int] = set()
        """The trials that Tune has."""
        self._sampler = samplers.build(study.search.sampler)
        self._optuna = open_study(url, name=study.name, mode=study.mode)
        self._opened_at = time.monotonic()
        self._waiting: deque[int] = deque()
        self._orphans: deque[int] | None = None
        self._read()
        self._enqueue()

    @property
    def sign(self) -> float:
        """1 where larger values are better, else -1."""
        return 1.0 if self.study.mode == "max" else -1.0

    def is_reference(self, number: int) -> bool:
        """Whether a trial is one that the others are compared with: the defaults, and the same without PACE."""
        return self.study.search.baseline and number < 2

    # Proposals.

    def next(self) -> Entry | None:
        """Return the next trial to hand to Tune: one that it lost, else a new one; None when there are enough."""
        if self._orphans is None:
            self._orphans = deque(sorted(set(self.entries) - self.handed))
        while self._orphans or self._more():
            entry = self.entries[self._orphans.popleft()] if self._orphans else self._ask()
            if not entry.run and entry.outcome is None:
                self._propose(entry)
            # One without a run is one whose values do not go together; Tune never hears of it.
            if entry.run:
                self.handed.add(entry.number)
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
        self.entries[trial.number] = Entry(trial.number, trial._trial_id)
        if trial.number > number:
            # Made while the answer was lost with the database: nobody else has them.
            made = self._optuna.get_trials(deepcopy=False)
            self.entries.update({lost: Entry(lost, made[lost]._trial_id) for lost in range(number, trial.number)})
        if self._orphans is not None:
            self._orphans.extend(range(number + 1, trial.number + 1))
        return self.entries[number]

    def _seed(self, number: int) -> None:
        self._optuna.sampler = self._sampler.build(seed=seed_of(self.study.search.seed, number=number))

    def _propose(self, entry: Entry) -> None:
        self._seed(entry.number)
        trial = optuna.Trial(self._optuna, entry.trial_id)
        override = trial.user_attrs.get(OVERRIDE, {})
        entry.point = draw(trial, study=self.study, override=override)
        try:
            entry.run = self.study.run(entry.point).as_mapping()
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
        self.save_time()

    def best(self) -> Entry | None:
        """Return the best finished trial; the best pruned one only where none was finished."""
        # The display asks from a thread of its own: the dictionary may grow meanwhile.
        scored = [entry for entry in list(self.entries.values()) if entry.value is not None and entry.outcome in ("finished", "pruned")]
        return max(scored, key=lambda entry: (entry.outcome == "finished", self.sign * (entry.value or 0.0), -entry.number), default=None)

    def complete(self) -> bool:
        """Whether there is nothing left to do: no more trials to try, or no time, and all closed."""
        return not self._more() and all(entry.outcome for entry in self.entries.values())

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

    def _read(self) -> None:
        for trial in self._optuna.get_trials(deepcopy=False):
            if trial.state == TrialState.WAITING:
                self._waiting.append(trial.number)
            else:
                self.entries[trial.number] = _entry(trial)

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


def outcomes(entries: Mapping[int, Entry]) -> dict[str, int]:
    """Return how many trials ended in each way, and how many are open."""
    counts: dict[str, int] = {}
    for entry in entries.values():
        counts[entry.outcome or "open"] = counts.get(entry.outcome or "open", 0) + 1
    return counts


def curves(entries: Mapping[int, Entry]) -> Iterator[tuple[str, Mapping[int, float]]]:
    """Yield lane and curve of every trial that has one."""
    return ((entry.lane, entry.curve) for entry in entries.values() if entry.curve)


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
        curve=dict(trial.intermediate_values),
        # The attribute is written before the state: only the state says that it counts.
        outcome=attributes.get(OUTCOME, "failed") if trial.state.is_finished() else None,
        reason=attributes.get(REASON, ""),
        value=trial.value,
        point={**attributes.get(OVERRIDE, {}), **trial.params, **attributes.get(DRAWN, {})},
        run=attributes.get(RUN, {}),
    )
