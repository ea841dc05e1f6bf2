"""A training worker that replays recorded curves: an epoch of all lanes lasts as long as it is told to, and trains nothing."""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CURVES, EPOCH_S = "RECORDED_CURVES", "RECORDED_EPOCH_S"
"""Variables: the file that `early_stopping.py record` wrote, and the length of an epoch."""


class RecordedWorker:
    """Has the door of `pace_tune.worker.Worker`; which curve a run has follows from its configuration."""

    def __init__(self, setup: Mapping[str, Any], *, storage: str, threads: int | None = None, device: str | None = None) -> None:
        self.storage, self.epoch_s = Path(storage), float(os.environ[EPOCH_S])
        self.curves = json.loads(Path(os.environ[CURVES]).read_text(encoding="utf-8"))["curves"]
        self.storage.mkdir(parents=True, exist_ok=True)
        self.lanes: dict[str, tuple[list[float], int]] = {}

    def open(self, lane: str, config: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Take a run; nothing is known of it."""
        key = zlib.crc32(json.dumps(config, sort_keys=True).encode())
        # A little of its own, so that no two runs are equal.
        self.lanes[lane] = [value + key % 9973 * 1e-8 for value in self.curves[key % len(self.curves)]], 0
        return []

    def close(self, lane: str) -> None:
        """Give it back."""
        self.lanes.pop(lane, None)

    def advance(self) -> list[dict[str, Any]]:
        """Return one report of every lane when the epoch is over, and note how many were in it."""
        started, lanes = time.time(), len(self.lanes)
        time.sleep(self.epoch_s)
        with (self.storage / f"epochs-{os.getpid()}.txt").open("a", encoding="utf-8") as file:
            file.write(f"{started} {time.time()} {lanes}\n")
        return [self._report(lane) for lane in list(self.lanes)]

    def score(self, lane: str, split: str) -> dict[str, float]:
        """Return no score."""
        return {}

    def _report(self, lane: str) -> dict[str, Any]:
        curve, epoch = self.lanes[lane][0], self.lanes[lane][1] + 1
        self.lanes[lane] = (curve, epoch)
        state = "finished" if epoch == len(curve) else "running"
        metrics = {"val/accuracy": curve[epoch - 1], "train/loss": 1 / epoch}
        if state == "finished":
            self.close(lane)
        return {"lane": lane, "epoch": epoch, "epochs": len(curve), "state": state, "reason": "", "metrics": metrics}
