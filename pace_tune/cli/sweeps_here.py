"""The sweeps of an output folder as rows of a table: what they learn, how far they are, what is best."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pace_tune.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pace_tune.results.sweep_data import Sweep


def sweep_rows(output: Path) -> list[dict[str, Any]]:
    """Return one row per sweep of an output folder; one that cannot be read says why, and hides no other.

    Raises:
        DataError: There is no sweep.
    """
    from pace_tune.results.sweep_data import find_sweeps

    rows = [_row(folder) for folder in find_sweeps(output)]
    if not rows:
        raise DataError(f"{output}: no sweep in this folder.")
    return rows


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as a table shows it."""
    return {**row, "trials": f"{row['done']}/{row['wanted'] or '?'}" if "done" in row else None}


def unfinished(folder: Path) -> str:
    """Return what to say of a sweep whose winner may still change; nothing where it is at its end."""
    from pace_tune.results.sweep_data import read_sweep

    sweep = read_sweep(folder)
    states = {"running": "is still running", "to go on": "has not ended"}
    if (state := _state(sweep)) not in states:
        return ""
    wanted = sweep.search.get("trials")
    done = f"{_done(sweep)} of {wanted} trials are done" if wanted else f"{_done(sweep)} trials are done"
    return f"the sweep {sweep.name} {states[state]}: {done}, and its winner may change"


def _row(folder: Path) -> dict[str, Any]:
    from pace_tune.results.sweep_data import read_sweep

    path = {"path": min(os.path.relpath(folder), str(folder), key=len)}
    try:
        sweep = read_sweep(folder)
    except (ConfigError, DataError) as error:
        return {"name": folder.name, "state": "unreadable", "mistake": str(error), **path}
    best = sweep.ranked[0] if sweep.ranked else None
    facts = {"name": sweep.name, "task": sweep.task, "state": _state(sweep), "done": _done(sweep), "wanted": sweep.search.get("trials")}
    return {**facts, "metric": sweep.metric, "best": best.value if best else None, "trial": best.lane if best else None, **path}


def _done(sweep: Sweep) -> int:
    return sum(trial.state not in ("running", "waiting") for trial in sweep.trials)


def _state(sweep: Sweep) -> str:
    from pace_tune.search.lease import driver
    from pace_tune.study.sweep_database import database_url, has_database

    if has_database(sweep.folder) and driver(database_url(sweep.folder), sweep=sweep.name):
        return "running"
    if not sweep.trials:
        return "no trial yet"
    wanted, budget_s = sweep.search.get("trials"), sweep.search.get("time_budget_s")
    enough = (wanted is not None and len(sweep.trials) >= wanted) or (budget_s is not None and sweep.spent_s >= budget_s)
    return "finished" if enough and _done(sweep) == len(sweep.trials) else "to go on"
