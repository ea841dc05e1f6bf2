"""A lane's part of the storage: its checkpoint, and its reports as lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pace_tune.storage import Storage
from pace_tune.training.lane_state import LaneState

REPORTS, CHECKPOINT = "history.jsonl", "lane.safetensors"


class History:
    """Checkpoint and reports of one lane, oldest first.

    A report is written before the checkpoint of its epoch, so that a crash between the two leaves a line too many and
    never one too few; `until` cuts it off.

    Args:
        storage: Of this lane alone.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def append(self, report: Mapping[str, Any]) -> None:
        """Add one report."""
        self.storage.append(REPORTS, _line(report))

    def until(self, epoch: int) -> list[dict[str, Any]]:
        """Return the reports up to an epoch, and forget later ones. A diverged lane's last report stays."""
        there = self.storage.read(REPORTS)
        if there is None:
            return []
        kept: list[dict[str, Any]] = []
        for line in there.splitlines():
            try:
                report = json.loads(line)
            except ValueError:  # half a line: the process died while writing it
                break
            if report["epoch"] > epoch and report["state"] in ("running", "finished"):
                break
            kept.append(report)
        text = b"".join(map(_line, kept))
        if text != there:
            self.storage.write(REPORTS, text)
        return kept

    def save(self, state: LaneState, *, run: Mapping[str, Any]) -> None:
        """Keep the lane as it is now."""
        self.storage.write(CHECKPOINT, state.dumped(run=run))

    def load(self) -> tuple[LaneState, dict[str, Any]] | None:
        """Return the lane as it was kept and its run's configuration, None where it was never kept.

        Raises:
            DataError: What is there is no whole checkpoint.
        """
        data = self.storage.read(CHECKPOINT)
        return None if data is None else LaneState.parse(data, source=f"{self.storage.location}/{CHECKPOINT}")


def _line(report: Mapping[str, Any]) -> bytes:
    return (json.dumps(report) + "\n").encode()
