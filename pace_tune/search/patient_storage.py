"""Optuna's storage, which waits for a database that restarts, and does nothing twice when an answer was lost with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import text
from sqlalchemy.exc import InterfaceError, OperationalError, PendingRollbackError

from pace_tune.patience import patiently

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
    "_get_trials",
    "set_trial_param",
    "_set_trial_param",
    "set_trial_intermediate_value",
    "set_trial_user_attr",
    "set_trial_system_attr",
)
# The last one: Optuna asks again itself within a transaction that was lost.
PASSING = (OperationalError, InterfaceError, PendingRollbackError)
COUNT = text("SELECT COUNT(*) FROM trials WHERE study_id = :study_id")
Value = TypeVar("Value")


class PatientStorage(RDBStorage):
    """A database that may be away for a while. One driver at a time writes to a study, which its lease sees to."""

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


for _name in REPEATABLE:
    setattr(PatientStorage, _name, _repeatable(_name))


def _patiently(do: Callable[[], Value]) -> Value:
    return patiently(do, what="the database", passing=lambda error: isinstance(_cause(error), PASSING))


def _cause(error: Exception) -> BaseException:
    # Optuna wraps what it does not expect.
    return error.__cause__ or error if isinstance(error, StorageInternalError) else error
