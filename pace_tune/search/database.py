"""The database of a sweep's Optuna study."""

from __future__ import annotations

import logging
import warnings
from typing import Any, Literal

import optuna
from optuna.exceptions import ExperimentalWarning
from sqlalchemy import event

from pace_tune.search.patient_storage import PatientStorage

LOCK_TIMEOUT_S = 60


def open_study(url: str, *, name: str, mode: Literal["max", "min"]) -> optuna.Study:
    """Open the study of a name, made where it is not there."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", ExperimentalWarning)
    # The first connection tells of every migration that it finds done.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    direction: Literal["maximize", "minimize"] = "maximize" if mode == "max" else "minimize"
    return optuna.create_study(storage=_storage(url), study_name=name, direction=direction, load_if_exists=True)


def _storage(url: str) -> optuna.storages.RDBStorage:
    if not url.startswith("sqlite"):
        return PatientStorage(url, engine_kwargs={"pool_pre_ping": True})
    storage = PatientStorage(url, engine_kwargs={"connect_args": {"timeout": LOCK_TIMEOUT_S}})
    event.listen(storage.engine, "connect", _write_ahead)
    # Connections made while the tables were made do not know yet.
    storage.engine.dispose()
    return storage


def _write_ahead(connection: Any, _: Any) -> None:
    # A commit is one write and no wait for the disk; it survives the process, and all but the last survive the power.
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()
