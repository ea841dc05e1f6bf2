"""The thread that brings a spool to the store: in batches, again and again until the store has it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from pace_tune.tracking.new_store import ensure_store
from pace_tune.tracking.spool import Event, Spool
from pace_tune.tracking.store import Store, StoreSpec, points

INTERVAL_S = 1.0
DELAY_S = 20.0
LONGEST_PAUSE_S = 30.0
BATCH_BYTES = 100_000
# What trying again does not change: the event is dropped, and said so.
HOPELESS = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE"}
# MLflow says so of a bad request, and of its database going away in the middle of one; the second passes.
DOUBTFUL, DOUBTS = "BAD_REQUEST", 5
log = logging.getLogger(__name__)


class Writer:
    """Writes events to the store from a thread of its own.

    Args:
        spool: Where the events are.
        spec: Where they should go.
        say: Takes one line for the user, when the store goes away or comes back.
    """

    def __init__(self, spool: Spool, spec: StoreSpec, *, say: Callable[[str], None] = log.warning) -> None:
        self._spool, self._spec, self._say = spool, spec, say
        self._cursor = spool.load_cursor()
        self._store: Store | None = None
        self._known: dict[str, str] | None = None
        self._begin, self._stop, self._hurry = threading.Event(), threading.Event(), threading.Event()
        self._away = False
        self.dropped = self._doubts = 0
        self._thread = threading.Thread(target=self._run, name="tracking", daemon=True)

    def start(self) -> None:
        """Start writing, after a moment: making the store takes seconds of work that the start of a sweep needs itself."""
        self._thread.start()

    def hurry(self) -> None:
        """Start writing now."""
        self._begin.set()

    def close(self, *, timeout_s: float) -> int:
        """Write what is left and end; return the bytes that are still in the spool.

        Args:
            timeout_s: How long to wait for a store that answers with errors. One that is being made, or is slow, has ten times
                as long, and one that takes something is waited for.
        """
        moved, behind = time.monotonic(), self.behind_bytes()
        self._begin.set()
        self._hurry.set()
        while self._thread.is_alive() and self.behind_bytes():
            if self.behind_bytes() < behind:
                moved, behind = time.monotonic(), self.behind_bytes()
            if time.monotonic() - moved > timeout_s * (1 if self._away else 10):
                break
            time.sleep(0.05)
        self._stop.set()
        self._hurry.set()
        if self._thread.ident is not None:
            self._thread.join(1.0)
        return self.behind_bytes()

    def behind_bytes(self) -> int:
        """Return the bytes of the spool that the store does not have."""
        return self._spool.size() - self._cursor.offset

    def _run(self) -> None:
        pause_s = INTERVAL_S
        self._begin.wait(DELAY_S)
        while not self._stop.is_set():
            try:
                more = self._write_batch()
                pause_s = 0.0 if more else INTERVAL_S
                if self._away:
                    self._away = False
                    self._say("tracking: the store is back; writing what it missed")
            except Exception as error:  # noqa: BLE001  (whatever the store does, the sweep goes on)
                pause_s = min(LONGEST_PAUSE_S, max(INTERVAL_S, pause_s) * 2)
                if not self._away:
                    self._away = True
                    self._say(f"tracking: the store does not answer ({_first_line(error)}); its part is kept in the spool")
            if not self._hurry.is_set():
                self._stop.wait(pause_s)
            elif pause_s:
                self._stop.wait(0.2)

    def _write_batch(self) -> bool:
        """Write some events; say whether there are more."""
        events, offset = self._spool.read(self._cursor.offset, limit_bytes=BATCH_BYTES)
        if not events:
            return False
        groups = _by_lane(events)
        for lane, group in groups.items():
            try:
                self._write_group(lane, group)
            except MlflowException as error:
                self._doubts += error.error_code == DOUBTFUL
                if error.error_code not in HOPELESS and self._doubts < DOUBTS:
                    raise
                self.dropped += len(group)
                log.warning("tracking: %d events of %s were refused: %s", len(group), lane or "the sweep", _first_line(error))
        self._doubts = 0
        self._cursor.offset = offset
        self._spool.save_cursor(self._cursor)
        for lane, group in groups.items():
            # Not before the cursor was saved: until then its events might be written again.
            if self._known and any(event["kind"] == "end" for event in group):
                self._known.pop(lane, None)
        return offset < self._spool.size()

    def _write_group(self, lane: str, events: list[Event]) -> None:
        store = self._open_store()
        run_id = self._trial(lane, events) if lane else self._cursor.parent
        metrics: list[Metric] = []
        params: dict[str, Any] = {}
        tags: dict[str, str] = {}
        status: tuple[str, int] | None = None
        for event in events:
            metrics += points(event.get("values", {}), step=event.get("step", 0), time_ms=event["time_ms"])
            params.update(event.get("params", {}))
            tags.update(event.get("tags", {}))
            for file, text in event.get("files", {}).items():
                store.write_text(run_id, text, file=file)
            if "status" in event:
                status = (event["status"], event["time_ms"])
        store.write(run_id, metrics=metrics, params=params, tags=tags)
        if status is not None:
            store.set_status(run_id, status[0], time_ms=status[1])
            if lane and status[0] != "RUNNING":
                self._cursor.runs.pop(lane, None)

    def _open_store(self) -> Store:
        if self._store is None:
            ensure_store(self._spec.uri)
            self._store = Store(self._spec)
        if not self._cursor.parent:
            found = next(self._store.find(kind="sweep"), None)
            if found is None:
                # A sweep that is new here has no trials to look for.
                self._known = {}
            self._cursor.parent = found.info.run_id if found else self._new_parent(self._store)
        return self._store

    def _new_parent(self, store: Store) -> str:
        """Make the sweep's own run. It began with the first event, which may be long before the store was there."""
        first, _ = self._spool.read(0, limit_bytes=1)
        return store.create(self._spec.sweep, tags={"pace.kind": "sweep"}, time_ms=first[0]["time_ms"] if first else None)

    def _trial(self, lane: str, events: Iterable[Event]) -> str:
        """Return the run of a trial: the one that is open, one found by its tags, or a new one."""
        store = self._open_store()
        if lane not in self._cursor.runs:
            if self._known is None:
                self._known = {run.data.tags["pace.trial"]: run.info.run_id for run in store.find(kind="trial")}
            run_id = self._known.get(lane)
            if run_id is None:
                first = next(iter(events))
                tags = {"pace.kind": "trial", "pace.trial": lane}
                name = first.get("name") or f"{self._spec.sweep}-{lane}"
                # Should the answer be lost, the run may be there all the same, and is looked for the next time.
                known, self._known = self._known, None
                run_id = store.create(name, tags=tags, parent=self._cursor.parent, time_ms=first["time_ms"])
                known[lane] = run_id
                self._known = known
            self._cursor.runs[lane] = run_id
        return self._cursor.runs[lane]


def _by_lane(events: Iterable[Event]) -> Mapping[str, list[Event]]:
    groups: dict[str, list[Event]] = {}
    for event in events:
        groups.setdefault(event.get("lane", ""), []).append(event)
    return groups


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:160]
