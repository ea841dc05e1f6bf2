"""The database in which a sweep keeps its Optuna study: a file in its folder, or a server that the environment names."""

from __future__ import annotations

import os
from pathlib import Path

DATABASE = "optuna.db"
VARIABLE = "PACE_TUNE_DATABASE"
"""Names a server, e.g. ``postgresql://user:password@host/optuna``. In the environment only: the address holds a password."""


def database_file(folder: Path) -> Path:
    """Return the file that holds the database where no server does."""
    return folder / DATABASE


def database_url(folder: Path) -> str:
    """Return the address of the database of the sweep in a folder."""
    return os.environ.get(VARIABLE) or f"sqlite:///{database_file(folder)}"


def has_database(folder: Path) -> bool:
    """Whether a sweep has been started in a folder; with a server, its study there says so."""
    return (folder / ("study.yaml" if os.environ.get(VARIABLE) else DATABASE)).is_file()


def database_name(folder: Path) -> str:
    """Return what a message calls the database; an address may hold a password."""
    return f"the database that {VARIABLE} names" if os.environ.get(VARIABLE) else str(database_file(folder))
