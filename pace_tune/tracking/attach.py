"""Puts files on the run of a sweep in the dashboard: reports, pictures, verdicts."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlflow.exceptions import MlflowException

from pace_tune.study.study_config import Study
from pace_tune.tracking.new_store import SQLITE
from pace_tune.tracking.store import Store
from pace_tune.tracking.tracker import store_spec

log = logging.getLogger(__name__)


def attach(study: Study, *, sweep_id: str, files: Sequence[Path], tags: Mapping[str, str] | None = None) -> bool:
    """Put files on a sweep's run; return False where there is no such run, or the store does not answer.

    Args:
        study: What was executed.
        sweep_id: Tells sweeps of one name apart.
        files: Become artifacts under their own names.
        tags: Set on the run.
    """
    spec = store_spec(study, sweep_id=sweep_id)
    if spec.uri.startswith(SQLITE) and not Path(spec.uri.removeprefix(SQLITE)).is_file():
        return False  # it would be made, to find nothing in it
    try:
        store = Store(spec)
        run = next(store.find(kind="sweep"), None)
        if run is None:
            return False
        for file in files:
            store.client.log_artifact(run.info.run_id, str(file))
        store.write(run.info.run_id, tags=tags)
    except (MlflowException, OSError) as error:
        log.warning("tracking: %s was not put on the sweep's run: %s", ", ".join(file.name for file in files), error)
        return False
    return True
