"""Puts what was found later on a run in the dashboard: reports, pictures, verdicts."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlflow.exceptions import MlflowException

from pace_tune.study.study_config import Study
from pace_tune.tracking.new_store import SQLITE
from pace_tune.tracking.store import Store, now_ms, points
from pace_tune.tracking.tracker import store_spec

log = logging.getLogger(__name__)


TAGS_PER_REQUEST = 100


def attach(
    study: Study,
    *,
    sweep_id: str,
    files: Sequence[Path],
    tags: Mapping[str, str] | None = None,
    metrics: Mapping[str, float | None] | None = None,
    lane: str = "",
) -> bool:
    """Put files on a sweep's run; return False where there is no such run, or the store does not answer.

    Args:
        study: What was executed.
        sweep_id: Tells sweeps of one name apart.
        files: Become artifacts under their own names.
        tags: Set on the run.
        metrics: Written to the run, those that are numbers.
        lane: The trial whose run it is to be instead.
    """
    spec = store_spec(study, sweep_id=sweep_id)
    if spec.uri.startswith(SQLITE) and not Path(spec.uri.removeprefix(SQLITE)).is_file():
        return False  # it would be made, to find nothing in it
    try:
        store = Store(spec)
        run = next(store.find(kind="trial", trial=lane) if lane else store.find(kind="sweep"), None)
        if run is None:
            return False
        for file in files:
            store.client.log_artifact(run.info.run_id, str(file))
        names = list(tags or {})
        for start in range(0, len(names), TAGS_PER_REQUEST):
            store.write(run.info.run_id, tags={name: (tags or {})[name] for name in names[start : start + TAGS_PER_REQUEST]})
        store.write(run.info.run_id, metrics=points(metrics or {}, step=0, time_ms=now_ms()))
    except (MlflowException, OSError) as error:
        log.warning("tracking: %s was not put on its run: %s", ", ".join(file.name for file in files), error)
        return False
    return True
