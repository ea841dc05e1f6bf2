"""The MLflow store of a sweep: an experiment per data set, a run per sweep, and under it a run per trial, each found by its tags."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

from mlflow.entities import Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient

from pace_tune.tracking.new_store import hush

METRICS_PER_REQUEST = 900
PARAMS_PER_REQUEST = 90
PAGE = 1000
_FORBIDDEN = re.compile(r"[^\w\-. :/]")
ENVIRONMENT = {
    # A request gives up quickly: the spool tries again, and meanwhile nobody waits. MLflow itself would make a run a second time.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Its links go to the standard output, into the middle of our own lines.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


@dataclass(frozen=True)
class StoreSpec:
    """Where a sweep is tracked."""

    uri: str
    experiment: str
    sweep: str
    """Its name."""
    sweep_id: str
    """Tells sweeps of one name on one server apart."""
    artifacts: str | None = None
    """Address of a folder for artifacts; None leaves it to the server."""
    experiment_tags: Mapping[str, str] = field(default_factory=dict)
    """What the experiment says of itself, where it does not say so yet."""
    task: str = ""
    """The experiment of its task, where an earlier version kept the sweeps of all of one's own data sets."""


class Store:
    """Reads and writes the runs of one sweep.

    Args:
        spec: Where.
    """

    def __init__(self, spec: StoreSpec) -> None:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        hush()
        self.spec = spec
        self.client = MlflowClient(spec.uri)
        self.experiment_id = self._experiment()
        self._describe()

    def _experiment(self) -> str:
        if self.spec.task not in ("", self.spec.experiment) and (earlier := self._earlier()):
            return earlier
        found = self.client.get_experiment_by_name(self.spec.experiment)
        if found is not None:
            return str(found.experiment_id)
        location = None
        if self.spec.artifacts is not None:
            location = f"{self.spec.artifacts}/{quote(_FORBIDDEN.sub('_', self.spec.experiment).replace('/', '_'))}"
        try:
            return str(self.client.create_experiment(self.spec.experiment, artifact_location=location))
        except MlflowException:
            # Another sweep of the same task was faster.
            found = self.client.get_experiment_by_name(self.spec.experiment)
            if found is None:
                raise
            return str(found.experiment_id)

    def _earlier(self) -> str | None:
        """Return the experiment of the task if it holds this sweep: what began there goes on there."""
        found = self.client.get_experiment_by_name(self.spec.task)
        query = f"tags.`pace.sweep_id` = '{self.spec.sweep_id}'"
        if found is None or not self.client.search_runs([found.experiment_id], query, ViewType.ALL, max_results=1):
            return None
        return str(found.experiment_id)

    def _describe(self) -> None:
        there = self.client.get_experiment(self.experiment_id).tags
        for key, value in self.spec.experiment_tags.items():
            # People may have written their own words over it.
            if key not in there:
                self.client.set_experiment_tag(self.experiment_id, key, value)

    def find(self, **tags: str) -> Iterator[Run]:
        """Yield this sweep's runs that carry some tags, e.g. ``kind="trial"`` for ``pace.kind``."""
        wanted = {"sweep_id": self.spec.sweep_id, **tags}
        query = " AND ".join(f"tags.`pace.{key}` = '{value}'" for key, value in wanted.items())
        token: str | None = None
        while True:
            page = self.client.search_runs([self.experiment_id], query, ViewType.ALL, max_results=PAGE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def create(self, name: str, *, tags: Mapping[str, str], parent: str | None = None, time_ms: int | None = None) -> str:
        """Make a run and return its id."""
        every = {"pace.sweep": self.spec.sweep, "pace.sweep_id": self.spec.sweep_id, **tags}
        if parent is not None:
            every["mlflow.parentRunId"] = parent
        return str(self.client.create_run(self.experiment_id, start_time=time_ms, run_name=name, tags=every).info.run_id)

    def write(
        self, run_id: str, *, metrics: Sequence[Metric] = (), params: Mapping[str, Any] | None = None, tags: Mapping[str, str] | None = None
    ) -> None:
        """Write to a run in as few requests as the server takes."""
        plain = [Param(key, str(value)) for key, value in (params or {}).items()]
        rest = [RunTag(key, value) for key, value in (tags or {}).items()]
        values = list(metrics)
        while values or plain or rest:
            self.client.log_batch(run_id, metrics=values[:METRICS_PER_REQUEST], params=plain[:PARAMS_PER_REQUEST], tags=rest)
            values, plain, rest = values[METRICS_PER_REQUEST:], plain[PARAMS_PER_REQUEST:], []

    def write_text(self, run_id: str, text: str, *, file: str) -> None:
        """Write a text artifact. Done by the client, it would keep 25 kB of each of the last thousand runs that it wrote to."""
        place = PurePosixPath(file)
        repository = get_artifact_repository(self.client.get_run(run_id).info.artifact_uri, tracking_uri=self.spec.uri)
        with TemporaryDirectory() as folder:
            path = Path(folder, place.name)
            path.write_text(text, encoding="utf-8")
            repository.log_artifact(str(path), str(place.parent) if place.parent.name else None)

    def set_status(self, run_id: str, status: str, *, time_ms: int | None = None) -> None:
        """Set the state that the dashboard shows; a final one ends the run."""
        if status in ("FINISHED", "FAILED", "KILLED"):
            self.client.set_terminated(run_id, status, end_time=time_ms)
        else:
            self.client.update_run(run_id, status=status)


def points(values: Mapping[str, Any], *, step: int, time_ms: int) -> list[Metric]:
    """Return finite numbers as points under names that MLflow takes."""
    return [
        Metric(_FORBIDDEN.sub("_", key), float(value), time_ms, step)
        for key, value in values.items()
        # MLflow stores an infinity as 1.8e308, which draws every chart flat.
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    ]


def now_ms() -> int:
    """Return the time as MLflow counts it."""
    return int(time.time() * 1000)
