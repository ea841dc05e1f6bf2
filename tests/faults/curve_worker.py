"""A learning half that only keeps books: curves are a function of the configuration; files go through the real storage."""

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pace_tune.storage import open_storage
from pace_tune.training.reports import Reports
from tests.search.fake_worker import FAULT_EPOCH, curve

SCENE = "PACE_TUNE_TEST_SCENE"
"""A folder that all processes of the test see."""
LANE_FAULTS = {0.1: "diverged", 0.2: "out_of_memory"}
CHECKPOINT = os.urandom(20_000)


class CurveWorker:
    """Has the door of `pace_tune.worker.Worker`, and writes down what it trains for the test to count."""

    def __init__(self, setup: Mapping[str, Any], *, storage: str, threads: int | None = None, device: str | None = None) -> None:
        self.storage, self.scene = open_storage(storage), Path(os.environ[SCENE])
        self.lanes: dict[str, tuple[Mapping[str, Any], Reports]] = {}
        (self.scene / f"worker-{socket.gethostname()}-{os.getpid()}.pid").write_text(str(os.getpid()))

    def open(self, lane: str, config: Mapping[str, Any]) -> list[dict[str, Any]]:
        self.read_data()
        reports = Reports(self.storage.below(lane))
        past = reports.until(config["optim"]["epochs"])
        if not past or past[-1]["state"] == "running":
            self.lanes[lane] = (config, reports)
        return past

    def close(self, lane: str) -> None:
        self.lanes.pop(lane, None)

    def advance(self) -> list[dict[str, Any]]:
        time.sleep(float((self.scene / "epoch_s").read_text()))
        return [self.train(lane) for lane in list(self.lanes)]

    def score(self, lane: str, split: str) -> dict[str, float]:
        return {}

    def read_data(self) -> None:
        """Hang once where the test has asked for it: nobody ever writes into the pipe."""
        hang = self.scene / "hang"
        try:
            hang.rename(self.scene / f"hung-{os.getpid()}")
        except FileNotFoundError:
            return
        (self.scene / "data").read_bytes()

    def train(self, lane: str) -> dict[str, Any]:
        config, reports = self.lanes[lane]
        epoch = reports.count + 1
        epochs, fault = config["optim"]["epochs"], LANE_FAULTS.get(config["optim"]["weight_decay"])
        state = fault if fault and epoch == FAULT_EPOCH else "finished" if epoch == epochs else "running"
        metrics = {} if state == fault else curve(config, epoch)
        report = {"lane": lane, "epoch": epoch, "epochs": epochs, "state": state, "reason": state * (state == fault), "metrics": metrics}
        if reports.append(report):
            reports.storage.write("lane.safetensors", CHECKPOINT)
        with (self.scene / "trained").open("a") as file:
            file.write(f"{time.time():.2f} {lane} {epoch}\n")
        if state != "running":
            del self.lanes[lane]
        return report
