"""Optuna's storage, which waits for a database that restarts, and does nothing twice when an answer was lost with it."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any, TypeVar

from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import text
from sqlalchemy.exc import InterfaceError, OperationalError, PendingRollbackError

from pace_tune.patience import patiently
from pace_tune.search.samplers.sampler import DRAWN

# May be done twice to the same effect. The caching storage calls some that have an underscore.
REPEATABLE = (
    "get_study_id_from_name",
    "get_study_name_from_id",
    "get_study_user_attrs",
    "get_study_system_attrs",
    "get_study_directions",
    "set_study_user_attr",
    "set_study_system_attr",
    "get_trial",
    "get_all_trials",
    "get_trial_id_from_study_id_trial_number",
    "get_trial_user_attrs",
    "get_trial_system_attrs",
)
CHANGES = ("set_trial_param", "_set_trial_param", "set_trial_intermediate_value", "set_trial_user_attr", "set_trial_system_attr")
"""Of a trial; they, too, may be done twice."""
# The last one: Optuna asks again itself within a transaction that was lost.
PASSING = (OperationalError, InterfaceError, PendingRollbackError)
COUNT = text("SELECT COUNT(*) FROM trials WHERE study_id = :study_id")
Value = TypeVar("Value")


class PatientStorage(RDBStorage):
    """A database that may be away for a while. One driver at a time writes to its study, which its lease sees to."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._changed: set[int] = set()
        """The trials that were written to since they were read."""
        self._newest = -1
        """The newest trial that was read."""
        self._spaces: dict[tuple[Any, ...], dict[str, BaseDistribution]] = {}

    def _get_trials(
        self, study_id: int, states: Container[TrialState] | None, included_trial_ids: set[int], trial_id_greater_than: int
    ) -> list[FrozenTrial]:
        """Return what has changed since it was asked for last, and what is new.

        Optuna asks for all trials that are open, and would read them whole for every proposal: others might have written to them.
        """
        everything = states is not None or (not included_trial_ids and trial_id_greater_than < 0)
        if everything:
            return self._read_trials(study_id, states, included_trial_ids, trial_id_greater_than)
        changed, self._changed = self._changed, set()
        try:
            found = self._read_trials(study_id, None, changed, self._newest)
        except BaseException:
            self._changed |= changed
            raise
        self._newest = max([self._newest, *(trial._trial_id for trial in found)])
        for trial in found:
            self.thin(trial)
        return found

    def thin(self, trial: FrozenTrial) -> None:
        """Leave of a trial that ended what samplers read, for Optuna keeps every trial of a study in memory.

        That is what was chosen, how it ended, its last value (`tpe`, `cmaes`: a pruned trial is worth that), and Optuna's own notes.
        The curve, the configuration and the times stay in the database. Trials of one space share its description.
        """
        if not trial.state.is_finished():
            return
        trial.user_attrs = {key: value for key, value in trial.user_attrs.items() if key == DRAWN}
        trial.intermediate_values = dict(sorted(trial.intermediate_values.items())[-1:])
        trial.datetime_start = trial.datetime_complete = None
        trial.distributions = self._spaces.setdefault(tuple(trial.distributions.items()), trial.distributions)

    def _read_trials(self, *args: Any) -> list[FrozenTrial]:
        return _patiently(lambda: super(PatientStorage, self)._get_trials(*args))

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        """Make a trial. Optuna itself tries again too; what it makes too many is found by `Book._ask`."""
        before = self._count(study_id)
        tried = False

        def make() -> FrozenTrial:
            nonlocal tried
            if tried and self._count(study_id) > before:
                return self.get_all_trials(study_id)[before]
            tried = True
            return super(PatientStorage, self)._create_new_trial(study_id, template_trial)

        return _patiently(make)

    def _count(self, study_id: int) -> int:
        """Return how many trials there are. Optuna's own count reads them all, with everything that belongs to them."""

        def count() -> int:
            with self.engine.connect() as connection:
                return int(connection.execute(COUNT, {"study_id": study_id}).scalar_one())

        return _patiently(count)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Any = None) -> bool:
        """Set a trial's state; say whether it is now in it by this call."""
        failed = False
        self._changed.add(trial_id)

        def change() -> bool:
            nonlocal failed
            try:
                return super(PatientStorage, self).set_trial_state_values(trial_id, state, values) or failed
            except UpdateFinishedTrialError:
                if not failed:
                    raise
                return True
            except Exception:
                failed = True
                raise

        return _patiently(change)


def _repeatable(name: str) -> Callable[..., Any]:
    def call(self: PatientStorage, *args: Any, **kwargs: Any) -> Any:
        return _patiently(lambda: getattr(RDBStorage, name)(self, *args, **kwargs))

    return call


def _change(name: str) -> Callable[..., Any]:
    def call(self: PatientStorage, trial_id: int, *args: Any, **kwargs: Any) -> Any:
        self._changed.add(trial_id)
        return _patiently(lambda: getattr(RDBStorage, name)(self, trial_id, *args, **kwargs))

    return call


for _name in REPEATABLE:
    setattr(PatientStorage, _name, _repeatable(_name))
for _name in CHANGES:
    setattr(PatientStorage, _name, _change(_name))


def _patiently(do: Callable[[], Value]) -> Value:
    return patiently(do, what="the database", passing=lambda error: isinstance(_cause(error), PASSING))


def _cause(error: Exception) -> BaseException:
    # Optuna wraps what it does not expect.
    return error.__cause__ or error if isinstance(error, StorageInternalError) else error
