"""What a sweep tells the dashboard: turns starts, reports and ends into events of the spool."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from pace_tune.storage import address
from pace_tune.study.paths import flatten
from pace_tune.study.study_config import Study
from pace_tune.study.yaml_text import to_yaml
from pace_tune.tracking.environment import environment
from pace_tune.tracking.notes import NOTE, experiment_tags, sweep_note, trial_name, trial_note
from pace_tune.tracking.spool import Spool
from pace_tune.tracking.store import StoreSpec, now_ms
from pace_tune.tracking.writer import Writer

CLOSE_TIMEOUT_S = 30.0
STATUS = {"finished": "FINISHED", "pruned": "KILLED"}
"""Outcome -> what the dashboard shows; anything else is a failure."""
log = logging.getLogger(__name__)


class Tracker:
    """Tracks one sweep. No method waits for the store.

    Args:
        study: What is executed.
        folder: Of the sweep; the spool lies in it.
        sweep_id: Tells sweeps of one name apart.
        say: Takes one line for the user.
    """

    def __init__(self, study: Study, *, folder: Path, sweep_id: str, say: Callable[[str], None] = log.warning) -> None:
        self._study = study
        self._spool = Spool(folder / "spool")
        self._writer = Writer(self._spool, store_spec(study, sweep_id=sweep_id), say=say)
        self._sign = 1.0 if study.mode == "max" else -1.0

    @property
    def ended_lanes(self) -> Collection[str]:
        """The lanes whose end is noted."""
        return self._spool.ended

    def start(self) -> None:
        """Start tracking: the sweep's own run, and whatever an earlier driver left in the spool."""
        name = self._study.name
        tags = {"pace.state": "running", "pace.task": self._study.run({}).task.name, NOTE: sweep_note(self._study)}
        files = {"study.yaml": to_yaml(self._study.as_mapping()), "environment.yaml": to_yaml(environment())}
        params = {"search.sampler": self._study.search.sampler, "search.metric": self._study.metric, "sweep": name}
        self._spool.append({"kind": "sweep", "time_ms": now_ms(), "status": "RUNNING", "tags": tags, "params": params, "files": files})
        self._writer.start()

    def started(self, lane: str, run: Mapping[str, Any]) -> None:
        """Note that a trial started, or goes on."""
        if self._spool.note(lane).ended:
            return
        flat = flatten(run)
        tags = {"pace.state": "running", **{f"pace.{key}": str(flat[f"{key}.name"]) for key in ("task", "backbone", "method", "objective")}}
        tags[NOTE] = trial_note(self._study, flat)
        name = trial_name(self._study, lane, flat)
        event = {"kind": "start", "lane": lane, "name": name, "time_ms": now_ms(), "status": "RUNNING"}
        files = {"RUN.yaml": to_yaml(dict(run))}
        self._spool.append({**event, "tags": {**tags, "pace.seed": str(flat.get("seed", 0))}, "params": flat, "files": files})

    def reported(self, lane: str, *, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Note a report; one that was noted before is left out."""
        note = self._spool.note(lane)
        if note.ended or epoch <= note.last_step:
            return
        values = dict(metrics)
        value = values.get(self._study.metric)
        event = {"kind": "metrics", "lane": lane, "step": epoch, "time_ms": now_ms(), "values": values}
        if value is not None and math.isfinite(value) and (note.best is None or self._sign * value > self._sign * note.best):
            # Dashboards sort by a metric's last value, never by its best.
            event["best"] = value
            values.setdefault("best/step", epoch)
            values.setdefault(f"best/{self._study.metric.rpartition('/')[2]}", value)
        self._spool.append(event)
        self._writer.hurry()

    def ended(self, lane: str, *, outcome: str, reason: str = "") -> None:
        """Note how a trial ended."""
        if self._spool.note(lane).ended:
            return
        tags = {"pace.state": outcome, **({"pace.reason": reason} if reason else {})}
        self._spool.append({"kind": "end", "lane": lane, "time_ms": now_ms(), "status": STATUS.get(outcome, "FAILED"), "tags": tags})

    def flush(self, *, timeout_s: float = CLOSE_TIMEOUT_S) -> int:
        """Write what an earlier driver left, without a word of one's own; return the bytes that the store does not have."""
        if self._writer.behind_bytes():
            self._writer.start()
        return self._writer.close(timeout_s=timeout_s)

    def close(self, state: str, *, best: str | None = None, timeout_s: float = CLOSE_TIMEOUT_S) -> int:
        """End tracking, and give the store a while to catch up.

        Args:
            state: ``finished``, ``interrupted`` or ``failed``.
            best: Lane of the best trial.
            timeout_s: How long to wait for the store.

        Returns:
            Bytes that the store does not have yet; the next start of the sweep writes them.
        """
        now = now_ms()
        if state != "finished":
            # Neither running nor ended: they go on when the sweep does.
            for lane in list(self._spool.lanes):
                self._spool.append({"kind": "pause", "lane": lane, "time_ms": now, "status": "SCHEDULED", "tags": {"pace.state": state}})
        status = {"finished": "FINISHED", "interrupted": "KILLED"}.get(state, "FAILED")
        tags = {"pace.state": state, **({"pace.best": best} if best else {})}
        self._spool.append({"kind": "sweep", "time_ms": now, "status": status, "tags": tags})
        return self._writer.close(timeout_s=timeout_s)


def store_spec(study: Study, *, sweep_id: str) -> StoreSpec:
    """Return where a study is tracked."""
    # A server keeps them itself; a database beside us has no place for files.
    local, served = study.tracking_uri.startswith("sqlite"), study.tracking_uri.startswith("http")
    if study.storage is not None and not served:
        artifacts: str | None = address(f"{study.storage}/mlartifacts")
    else:
        artifacts = (study.output / "mlartifacts").as_uri() if local else None
    task = "" if study.tracking.experiment else str(study.run({}).task.name)
    return StoreSpec(study.tracking_uri, study.experiment, study.name, sweep_id, artifacts, experiment_tags(study), task)
