"""A lane's reports, as lines of JSON in its part of the storage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pace_tune.storage import Storage

REPORTS = "history.jsonl"


class Reports:
    """The reports of one lane, oldest first: one of each epoch, none left out.

    They are written as a whole. So a write that is repeated, because a store died over its answer, leaves no line twice; and
    where a worker that was given up still lives, behind a network that was cut, what either of them writes has no gap.

    Args:
        storage: Of this lane alone.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._kept: list[dict[str, Any]] = []

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._kept)

    def append(self, report: Mapping[str, Any]) -> bool:
        """Add one report; False, and nothing is written, where another worker has got as far with this lane."""
        self._kept.append(dict(report))
        if len(self._stored()) >= len(self._kept):
            return False
        self._write()
        return True

    def until(self, epoch: int) -> list[dict[str, Any]]:
        """Return the reports up to an epoch, and forget later ones; `append` goes on from there.

        A diverged lane's last report stays.
        """
        there = self._stored()
        self._kept = [report for report in there if report["epoch"] <= epoch or report["state"] not in ("running", "finished")]
        if len(self._kept) < len(there):
            self._write()
        return list(self._kept)

    def _write(self) -> None:
        self.storage.write(REPORTS, b"".join((json.dumps(report) + "\n").encode() for report in self._kept))

    def _stored(self) -> list[dict[str, Any]]:
        """Return what another process would read, up to the first line that is not whole or not of the next epoch."""
        found: list[dict[str, Any]] = []
        for line in (self.storage.read(REPORTS) or b"").splitlines():
            try:
                report = json.loads(line)
            except ValueError:  # half a line: the process died while writing it
                break
            if report["epoch"] > len(found) + 1:
                break
            # One that is there twice was written by a version that added lines.
            if report["epoch"] == len(found) + 1:
                found.append(report)
        return found
