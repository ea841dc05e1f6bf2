"""Makes an MLflow store on SQLite, whole or not at all: a driver that is killed meanwhile does not leave half of its tables.

MLflow would neither mend nor accept those. The tables take a second of migrations in the driver; a process of its own for them
would first load MLflow a second time, which takes longer.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from pathlib import Path

SQLITE = "sqlite:///"


def ensure_store(uri: str) -> None:
    """Make the store that an address names if it is a file that is not there.

    Raises:
        OSError: Its folder cannot be written to.
        SQLAlchemyError: It could not be made.
    """
    if not uri.startswith(SQLITE) or (path := Path(uri.removeprefix(SQLITE))).exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    hush()
    _make(path)


def hush() -> None:
    """Have MLflow not tell of every migration of a store that is made or first used."""
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _make(path: Path) -> None:
    """Make a store under another name and give it its own at the end; one that came to be meanwhile is left alone."""
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine

    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    engine = create_sqlalchemy_engine(SQLITE + str(unfinished))
    try:
        _initialize_tables(engine)
        # A connection that stayed open would hold the file by its other name.
        engine.dispose()
        # It stays with the file: one wait for the disk a commit instead of several, and the dashboard reads while a sweep writes.
        with contextlib.closing(sqlite3.connect(unfinished)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(unfinished)
    finally:
        engine.dispose()
        unfinished.unlink(missing_ok=True)
