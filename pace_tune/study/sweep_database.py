"""The database in which a sweep keeps its Optuna study: a file in its folder, or a server that the environment names."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

DATABASE = "optuna.db"
VARIABLE = "PACE_TUNE_DATABASE"
"""Names a server, e.g. ``postgresql://user:password@host/optuna``. In the environment only: the address holds a password."""


def database_file(folder: Path) -> Path:
    """Return the file that holds the database where no server does."""
    return folder / DATABASE


def remove_database(folder: Path) -> None:
    """Remove the file that holds the database, and what SQLite keeps beside it."""
    for end in ("", "-wal", "-shm"):
        database_file(folder).with_name(DATABASE + end).unlink(missing_ok=True)


def database_url(folder: Path) -> str:
    """Return the address of the database of the sweep in a folder."""
    return os.environ.get(VARIABLE) or f"sqlite:///{database_file(folder)}"


def has_database(folder: Path) -> bool:
    """Whether a sweep has been started in a folder; with a server, its study there says so."""
    return (folder / ("study.yaml" if os.environ.get(VARIABLE) else DATABASE)).is_file()


def database_name(folder: Path) -> str:
    """Return what a message calls the database; an address may hold a password."""
    return f"the database that {VARIABLE} names" if os.environ.get(VARIABLE) else str(database_file(folder))


def has_study(folder: Path) -> bool:
    """Whether the database of the sweep in a folder may hold its study: a file is looked into, and left as it is; a server is not.

    Raises:
        sqlite3.Error: The file cannot be read.
    """
    if os.environ.get(VARIABLE):
        return True
    # A sweep that was ended while it started leaves a file in which nobody has made Optuna's tables, or filled them.
    return _any_row(folder, "studies")


def has_values(folder: Path) -> bool:
    """Whether the file of the sweep in a folder holds a value that a trial reported; looked into as by `has_study`.

    Raises:
        sqlite3.Error: The file cannot be read.
    """
    return _any_row(folder, "trial_intermediate_values")


def _any_row(folder: Path, table: str) -> bool:
    if not database_file(folder).is_file():
        return False
    with closing(sqlite3.connect(f"{database_file(folder).absolute().as_uri()}?mode=ro", uri=True)) as connection:
        found = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)).fetchone()
        return found is not None and connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() is not None  # noqa: S608  (ours)
