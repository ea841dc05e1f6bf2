"""Makes an MLflow store on SQLite, whole or not at all, in a process of its own.

Its tables take seconds of migrations. Done here they take no time of the driver's, and a driver that is killed meanwhile does
not leave half of them, which MLflow would neither mend nor accept.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

TIMEOUT_S = 300.0
SQLITE = "sqlite:///"


def ensure_store(uri: str) -> None:
    """Make the store that an address names if it is a file that is not there.

    Raises:
        OSError: It could not be made.
    """
    if not uri.startswith(SQLITE) or (path := Path(uri.removeprefix(SQLITE))).exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", __name__, str(path)]
    done = subprocess.run(command, check=False, timeout=TIMEOUT_S, capture_output=True, text=True, stdin=subprocess.DEVNULL)  # noqa: S603
    if done.returncode != 0:
        raise OSError(f"no store could be made at {path}: {done.stderr.strip().splitlines()[-1:]}")


def make_store(path: Path) -> None:
    """Make a store under another name and give it its own at the end; one that came to be meanwhile is left alone."""
    from mlflow.tracking import MlflowClient

    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        MlflowClient(SQLITE + str(unfinished)).search_experiments()
        # It stays with the file: one wait for the disk a commit instead of several, and the dashboard reads while a sweep writes.
        with contextlib.closing(sqlite3.connect(unfinished)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(unfinished)
    finally:
        unfinished.unlink(missing_ok=True)


if __name__ == "__main__":
    make_store(Path(sys.argv[1]))
