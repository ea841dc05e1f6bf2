"""A learning half without learning: curves that are a function of the configuration, with files, epochs and faults like the real one."""

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

EPOCH_S = "FAKE_WORKER_EPOCH_S"
FAULT_EPOCH = 2
FAULTS = {0.1: "diverged", 0.2: "out_of_memory", 0.3: "failed", 0.4: "kills its worker"}
"""Weight decay -> what happens in the second epoch."""


class BrokenWorker:
    """Cannot be set up."""

    def __init__(self, setup: Mapping[str, Any], *, storage: str, threads: int | None = None, device: str | None = None) -> None:
        raise RuntimeError("no weights here")


class FakeWorker:
    """Has the door of `pace_tune.worker.Worker`; a run's weight decay chooses what happens to it."""

    def __init__(self, setup: Mapping[str, Any], *, storage: str, threads: int | None = None, device: str | None = None) -> None:
        self.storage = Path(storage)
        self.lanes: dict[str, Mapping[str, Any]] = {}
        self.epoch_s = float(os.environ.get(EPOCH_S, "0"))
        self.storage.mkdir(parents=True, exist_ok=True)
        (self.storage.parent / "worker.pid").write_text(str(os.getpid()))

    def open(self, lane: str, config: Mapping[str, Any]) -> list[dict[str, Any]]:
        assert lane not in self.lanes
        reports = self.past(lane)
        if not reports or reports[-1]["state"] == "running":
            self.lanes[lane] = config
        return reports

    def close(self, lane: str) -> None:
        self.lanes.pop(lane, None)

    def advance(self) -> list[dict[str, Any]]:
        time.sleep(self.epoch_s)
        reports = [self.train(lane, config) for lane, config in list(self.lanes.items())]
        for report in reports:
            path = self.file(report["lane"])
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a") as file:
                file.write(json.dumps(report) + "\n")
            if report["state"] != "running":
                del self.lanes[report["lane"]]
        return reports

    def memory_share(self) -> float:
        return 0.0

    def score(self, lane: str, split: str) -> dict[str, float]:
        return {"accuracy": self.past(lane)[-1]["metrics"]["val/accuracy"]}

    def file(self, lane: str) -> Path:
        return self.storage / lane / "reports.jsonl"

    def past(self, lane: str) -> list[dict[str, Any]]:
        path = self.file(lane)
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def train(self, lane: str, config: Mapping[str, Any]) -> dict[str, Any]:
        epoch, epochs = len(self.past(lane)) + 1, config["optim"]["epochs"]
        fault = FAULTS.get(config["optim"].get("weight_decay")) if epoch == FAULT_EPOCH else None
        if fault == "kills its worker":
            os._exit(1)
        if fault is not None:
            metrics = {"val/accuracy": math.nan} if fault == "diverged" else {}
            return {"lane": lane, "epoch": epoch, "epochs": epochs, "state": fault, "reason": "as asked", "metrics": metrics}
        state = "finished" if epoch == epochs else "running"
        return {"lane": lane, "epoch": epoch, "epochs": epochs, "state": state, "reason": "", "metrics": curve(config, epoch)}


def curve(config: Mapping[str, Any], epoch: int) -> dict[str, float]:
    """The larger the learning rate's distance from 1e-2, the worse; all of them rise."""
    worth = 1.0 - 0.2 * abs(math.log10(config["optim"]["lr"] / 1e-2))
    accuracy = worth * (1 - math.exp(-epoch / 3))
    return {"val/accuracy": accuracy, "train/loss": 1 - accuracy, "val/loss": 1.1 - accuracy}
