"""Whether people's own data are still those that a sweep began with: scores on others cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path

from pace_tune.files import write_text
from pace_tune.study.study_config import Study

DATA_FILE = "data.json"
"""In a sweep's folder: task -> `Task.fingerprint`, of those that have one."""


def mark_data(study: Study) -> None:
    """Write down what the data look like, the first time that a sweep starts."""
    marks = {run.task.name: mark for run in study.runs_by_task() if (mark := run.task.fingerprint())}
    if marks and not (study.folder / DATA_FILE).exists():
        write_text(study.folder / DATA_FILE, json.dumps(marks, indent=1) + "\n")


def changed_data(study: Study, folder: Path) -> str:
    """Return which data are others than when the sweep in a folder began; nothing where none are, or they are not here."""
    marks = _marks(folder)
    for run in study.runs_by_task() if marks else ():
        before, now = marks.get(run.task.name), run.task.fingerprint()
        if before and now and before != now:
            return f"the files of the task {run.task.name!r} have changed since the sweep {study.name} began"
    return ""


def _marks(folder: Path) -> dict[str, str]:
    try:
        found = json.loads((folder / DATA_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
