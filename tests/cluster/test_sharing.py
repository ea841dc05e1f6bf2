"""Several sweeps on one cluster: first come, first served; who finds no room waits, says so, and is not given up."""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import pytest
import yaml

from pace_tune.search.monitor import STALL_VARIABLE
from tests.conftest import ROOT
from tests.search.fake_worker import EPOCH_S
from tests.search.studies import tree
from tests.servers import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
STALL_S, TIMEOUT_S = 60.0, 400.0


def wait(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not ready():
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.2)


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Of a cluster of one CPU: there is room for one worker."""
    with TemporaryDirectory(prefix="pt-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        port = free_port()
        small = ["--num-cpus=1", "--object-store-memory=100000000", "--include-dashboard=false", "--disable-usage-stats"]
        place = [f"--port={port}", "--node-ip-address=127.0.0.1", f"--temp-dir={folder}"]
        command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", *place, *small]
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        # A crowded machine starts slowly.
        patience = {"RAY_raylet_start_wait_time_s": str(int(TIMEOUT_S)), "RAY_worker_register_timeout_seconds": str(int(TIMEOUT_S))}
        environment = {**os.environ, **patience, "PYTHONPATH": str(ROOT), EPOCH_S: "0.5"}
        log = Path(folder) / "log"
        with log.open("w") as file:
            head = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)
        try:
            wait(lambda: "will now block" in log.read_text(), head, log)
            yield f"127.0.0.1:{port}"
        finally:
            for sent in (signal.SIGTERM, signal.SIGKILL):
                with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                    os.killpg(head.pid, sent)
                    head.wait(30)


class Driver:
    """A sweep in a process of its own."""

    def __init__(self, folder: Path, *, name: str, address: str, trials: int, epochs: int, stall_s: float = 600.0) -> None:
        whole = tree(folder, name=name, trials=trials, epochs=epochs, search={"baseline": False, "early_stopping": {"name": "none"}})
        file = folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump({**whole, "resources": {"workers": 1, "lanes": 4, "cpus_per_worker": 1.0}}))
        self.log = folder / f"{name}.log"
        command = [sys.executable, "-m", "tests.search.run_file", str(file)]
        environment = {**os.environ, "RAY_ADDRESS": address, STALL_VARIABLE: str(stall_s)}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(30)

    def events(self, kind: str) -> list[dict]:
        found = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{") and line.endswith("}")]
        return [event for event in found if event["event"] == kind]

    def wait_for(self, kind: str) -> None:
        wait(lambda: bool(self.events(kind)), self.process, self.log)


def test_a_sweep_that_finds_no_room_waits_for_the_one_before(address: str, tmp_path: Path):
    with ExitStack() as stack:
        first = stack.enter_context(Driver(tmp_path, name="first", address=address, trials=4, epochs=100_000))
        first.wait_for("report")
        second = stack.enter_context(Driver(tmp_path, name="second", address=address, trials=4, epochs=2, stall_s=STALL_S))
        second.wait_for("note")
        time.sleep(STALL_S + 15)
        said = [event["text"] for event in second.events("note")]
        assert any("waiting for room for 1 worker of 1 CPU on the cluster" in text for text in said), said
        assert second.process.poll() is None, second.log.read_text()[-3000:]
        assert not second.events("report")
        first.process.terminate()
        first.process.wait(TIMEOUT_S)
        assert second.process.wait(TIMEOUT_S) == 0, second.log.read_text()[-3000:]
        assert len(second.events("end")) == 4
