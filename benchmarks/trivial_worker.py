"""A training worker without training: what a sweep costs beside it is all that is left."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class TrivialWorker:
    """Has the door of `pace_tune.worker.Worker`; an epoch of a lane is one line in a file."""

    def __init__(self, setup: Mapping[str, Any], *, storage: str, threads: int | None = None, device: str | None = None) -> None:
        self.storage = Path(storage)
        self.lanes: dict[str, Mapping[str, Any]] = {}

    def open(self, lane: str, config: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Take a run; nothing is known of it."""
        self.lanes[lane] = config
        (self.storage / lane).mkdir(parents=True, exist_ok=True)
        return []

    def close(self, lane: str) -> None:
        """Give it back."""
        self.lanes.pop(lane, None)

    def advance(self) -> list[dict[str, Any]]:
        """Return one report of every lane."""
        return [self._report(lane, config) for lane, config in list(self.lanes.items())]

    def score(self, lane: str, split: str) -> dict[str, float]:
        """Return a made-up score."""
        return {"accuracy": 0.5}

    def _report(self, lane: str, config: Mapping[str, Any]) -> dict[str, Any]:
        path = self.storage / lane / "reports.jsonl"
        epochs = config["optim"]["epochs"]
        epoch = 1 + (len(path.read_text().splitlines()) if path.exists() else 0)
        metrics = {"val/accuracy": 1 - 1 / (1 + epoch), "val/loss": 1 / epoch, "train/loss": 1 / epoch, "train/accuracy": 0.5}
        report = {"lane": lane, "epoch": epoch, "epochs": epochs, "reason": "", "metrics": metrics}
        report["state"] = "finished" if epoch >= epochs else "running"
        with path.open("a") as file:
            file.write(json.dumps(report) + "\n")
        if epoch >= epochs:
            self.close(lane)
        return report
