"""A lane's part of the storage: its checkpoint, and its reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pace_tune.storage import Storage
from pace_tune.training.lane_state import LaneState
from pace_tune.training.population import Lane
from pace_tune.training.reports import Reports

CHECKPOINT = "lane.safetensors"


class History:
    """Checkpoint and reports of one lane.

    A report is written before the checkpoint of its epoch, so that a crash between the two leaves a line too many and
    never one too few; the line is cut off when the lane is opened again.

    Args:
        storage: Of this lane alone.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.reports = Reports(storage)

    def keep(self, report: Mapping[str, Any], lane: Lane | None) -> None:
        """Keep an epoch: its report, and the lane as it is now, where it is one to go on from.

        A worker that was given up still lives where its network was cut. What another one has trained since then, it leaves as it is.
        """
        if self.reports.append(report) and lane is not None:
            self.storage.write(CHECKPOINT, lane.state.dumped(run=lane.run.as_mapping()))

    def load(self) -> tuple[LaneState, dict[str, Any]] | None:
        """Return the lane as it was kept and its run's configuration, None where it was never kept.

        Raises:
            DataError: What is there is no whole checkpoint.
        """
        data = self.storage.read(CHECKPOINT)
        return None if data is None else LaneState.parse(data, source=f"{self.storage.location}/{CHECKPOINT}")
