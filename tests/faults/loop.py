"""Faults in a running sweep, each at a random moment, and what they cost: on three nodes, with PostgreSQL, MLflow and S3 beside them."""

import contextlib
import math
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import yaml

from pace_tune.study.study_config import Study
from tests import servers
from tests.conftest import ROOT
from tests.faults import nodes
from tests.faults.curve_worker import SCENE
from tests.search.studies import tree

RECOVERY_LIMIT_S = 600.0
CUT_S, FULL_S = 30.0, 5.0
DISK_SIZE = "300m"
HANG_S = "20"
EPOCH_S = 1.0
WORKERS, LANES = 2, 3
HEARD_EPOCHS = 2 * WORKERS * LANES
"""So many new ones must reach the driver after a fault: the first of each lane may have been in flight."""
TIMES, TRIALS, EPOCHS = 5, 290, 8
REPORT = re.compile(r'"event": "report", "trial": "(t\d+)", "epoch": (\d+)')
BENIGN = [0.0, *(round(0.001 * step, 3) for step in range(1, 20))]


@dataclass
class Fault:
    """One kind, and what was seen of it."""

    name: str
    inject: Callable[["Scene"], None]
    recoveries_s: list[float] = field(default_factory=list)
    epochs_again: int = 0


class Scene:
    """A cluster with its servers, and a driver that may have to be started again."""

    def __init__(self, cluster: nodes.Cluster, *, database: servers.Postgres, store: servers.Mlflow, s3: servers.S3, scene: Path) -> None:
        self.cluster, self.database, self.store, self.s3, self.folder = cluster, database, store, s3, scene
        self.random = random.Random(0)
        self.driver: subprocess.Popen[str] | None = None
        self.lines: list[str] = []
        self.heard: set[tuple[str, int]] = set()
        self.starts = 0

    def study(self, *, trials: int, epochs: int, storage: str) -> Study:
        decay = {"weight_decay": {"choice": [*BENIGN, 0.1, 0.2]}}
        search = {"early_stopping": {"name": "none"}, "baseline": False}
        whole = tree(self.cluster.sweeps, name="faults", trials=trials, epochs=epochs, optim=decay, search=search)
        # More than half of a node's CPUs: there is a worker on each.
        whole["resources"] = {"workers": WORKERS, "lanes": LANES, "cpus_per_worker": 1.5}
        whole |= {"tracking": {"uri": self.store.uri}, "storage": storage}
        (self.folder / "faults.yaml").write_text(yaml.safe_dump(whole))
        return Study.parse(whole)

    def start_driver(self) -> None:
        command = [sys.executable, "-m", "tests.faults.drive", str(self.folder / "faults.yaml")]
        environment = {**self.cluster.environment, "RAY_ADDRESS": self.cluster.head_address}
        self.driver = subprocess.Popen(
            self.cluster.nodes[0].inside(*command), cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.starts += 1
        threading.Thread(target=self._read, args=(self.driver,), daemon=True).start()

    def _read(self, driver: "subprocess.Popen[str]") -> None:
        with (self.folder / "driver.log").open("a") as log:
            for line in iter(driver.stdout.readline, ""):
                self.lines.append(line)
                self._hear(line)
                log.write(f"{time.strftime('%X')} {line}")
                log.flush()

    def _hear(self, line: str) -> None:
        # Not as JSON: now and then another thread writes into the line.
        self.heard |= {(trial, int(epoch)) for trial, epoch in REPORT.findall(line)}

    def trained(self) -> list[tuple[float, str, int]]:
        """When which epoch of which lane was trained."""
        with contextlib.suppress(FileNotFoundError):
            lines = (self.folder / "trained").read_text().splitlines()
            return [(float(at), lane, int(epoch)) for at, lane, epoch in (line.split() for line in lines if line.count(" ") == 2)]
        return []

    def known(self) -> int:
        """How many different epochs have been trained: what progress is."""
        return len({(lane, epoch) for _, lane, epoch in self.trained()})

    def wait(self, ready: Callable[[], bool], what: str, *, limit_s: float = RECOVERY_LIMIT_S) -> None:
        deadline = time.monotonic() + limit_s
        while not ready():
            over = self.driver is not None and self.driver.poll() is not None
            assert not over, f"the driver ended while waiting for {what}: {''.join(self.lines[-30:])}"
            assert time.monotonic() < deadline, f"waited too long for {what}: {''.join(self.lines[-20:])}"
            # A node that was not heard of for too long ends itself; a cluster's own manager puts another one in its place.
            for node in self.cluster.nodes[1:]:
                node.start_again()
            time.sleep(0.1)

    def progress(self, epochs: int, what: str) -> None:
        before = self.known()
        self.wait(lambda: self.known() >= before + epochs, what)

    def kill(self, title: str) -> None:
        """Kill one of the processes of that title on any node."""
        self.wait(lambda: self._killed(title), title)

    def _killed(self, title: str) -> bool:
        found = [pid for node in self.cluster.nodes for pid in node.pids() if title_of(pid).startswith(title)]
        if found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.random.choice(found), signal.SIGKILL)
                return True
        return False

    def inject(self, fault: Fault) -> None:
        """Do it, and wait until the sweep gets on."""
        began, at = time.monotonic(), time.time()
        before = {(lane, epoch) for _, lane, epoch in self.trained()}
        fault.inject(self)
        over = time.time()
        self.wait(lambda: self._new(before, since=over) >= HEARD_EPOCHS, f"recovery from {fault.name}")
        fault.recoveries_s.append(time.monotonic() - began)
        fault.epochs_again += sum((lane, epoch) in before for moment, lane, epoch in self.trained() if moment > at)

    def _new(self, before: set[tuple[str, int]], *, since: float) -> int:
        """How many epochs that nobody had trained before were trained since then, and have reached the driver."""
        return len({(lane, epoch) for moment, lane, epoch in self.trained() if moment > since} & self.heard - before)


def title_of(pid: int) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(psutil.Process(pid).cmdline())
    return ""


def kill_worker(scene: Scene) -> None:
    scene.kill("ray::RayTrainWorker")


def kill_dispatcher(scene: Scene) -> None:
    scene.kill("ray::Dispatcher")


def kill_driver(scene: Scene) -> None:
    assert scene.driver is not None
    scene.driver.kill()
    scene.driver.wait(30)
    scene.start_driver()


def kill_node(scene: Scene) -> None:
    node = scene.random.choice(scene.cluster.nodes[1:])
    node.kill()
    # As a cluster's own manager puts another one in its place.
    time.sleep(3.0)
    node.start()
    scene.cluster.wait_until_back(node)


def kill_mlflow(scene: Scene) -> None:
    scene.store.kill()
    # Six lanes at once: each has trained a whole trial by then.
    scene.progress(WORKERS * LANES * EPOCHS, "trials without a store")
    scene.store.start()


def restart_postgres(scene: Scene) -> None:
    scene.database.stop()
    time.sleep(2.0)
    scene.database.start()


def restart_s3(scene: Scene) -> None:
    scene.s3.kill()
    scene.s3.start()


def fill_disk(scene: Scene) -> None:
    """The disk under the S3 server: what the store cannot keep it refuses."""
    filler = scene.s3.folder / "filler"
    # Unbuffered: what is left in a buffer is written once more when the file is closed, and there is no room for it either.
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(2**16))
    time.sleep(FULL_S)
    filler.unlink(missing_ok=True)


def cut_network(scene: Scene) -> None:
    node = scene.random.choice(scene.cluster.nodes[1:])
    node.cut()
    time.sleep(CUT_S)
    node.mend()


def hang_read(scene: Scene) -> None:
    (scene.folder / "hang").touch()
    scene.wait(lambda: not (scene.folder / "hang").exists(), "a hung read")
    hung = max(scene.folder.glob("hung-*"), key=lambda path: path.stat().st_mtime)
    # The other worker goes on meanwhile; it is over when the hung one has been ended.
    scene.wait(lambda: not psutil.pid_exists(int(hung.name.partition("-")[2])), "the end of the hung worker")


FAULTS: dict[str, Callable[[Scene], None]] = {
    "kill -9 of a training worker": kill_worker,
    "kill -9 of the dispatcher": kill_dispatcher,
    "kill -9 of the driver": kill_driver,
    "kill -9 of every process of a node; another node after 3 s": kill_node,
    "kill -9 of the MLflow server, for longer than a trial": kill_mlflow,
    "restart of PostgreSQL (books and MLflow)": restart_postgres,
    "kill -9 and start of the S3 server": restart_s3,
    "network cut between a worker node and all others, 30 s": cut_network,
    "disk full under the storage, 5 s": fill_disk,
    "a read that hangs in a worker": hang_read,
}


@contextmanager
def scene(folder: Path) -> Iterator[Scene]:
    """Everything started."""
    shared = folder / "scene"
    shared.mkdir(parents=True)
    (shared / "epoch_s").write_text(str(EPOCH_S))
    os.mkfifo(shared / "data")
    with ExitStack() as stack:
        network = stack.enter_context(nodes.network(3))
        database = stack.enter_context(servers.postgres(network.host))
        stack.enter_context(network.disk(folder / "s3", size=DISK_SIZE))
        s3 = stack.enter_context(servers.s3(folder / "s3", host=network.host, buckets=("sweeps", "mlflow")))
        store = servers.Mlflow(
            folder / "mlflow", store=database.url("mlflow"), artifacts="s3://mlflow", variables=s3.variables, host=network.host
        )
        store.start()
        stack.callback(store.kill)
        variables = {**s3.variables, SCENE: str(shared), "PACE_TUNE_DATABASE": database.url(), "PACE_TUNE_HANG_S": HANG_S}
        cluster = stack.enter_context(nodes.cluster(variables, network=network))
        made = Scene(cluster, database=database, store=store, s3=s3, scene=shared)
        try:
            yield made
        finally:
            if made.driver is not None:
                made.driver.kill()


def run_loop(
    made: Scene, *, times: int, trials: int, epochs: int, say: Callable[[str], None], limit_s: float = math.inf
) -> tuple[Study, dict[str, Fault]]:
    """Inject each fault once in every round, in random order, then let the sweep end. Beyond the limit nothing more is injected."""
    study = made.study(trials=trials, epochs=epochs, storage="s3://sweeps/faults")
    faults = {name: Fault(name, inject) for name, inject in FAULTS.items()}
    order = [fault for _ in range(times) for fault in made.random.sample(list(faults.values()), len(faults))]
    deadline = time.monotonic() + limit_s
    made.start_driver()
    made.wait(lambda: made.known() > 5, "the sweep to start")
    for number, fault in enumerate(order):
        if time.monotonic() > deadline:
            break
        made.progress(made.random.randrange(1, 8), "the next moment")
        made.inject(fault)
        say(f"{number + 1}/{len(order)} {fault.name}: {fault.recoveries_s[-1]:.1f} s; {made.known()} epochs of {trials * epochs}")
        assert made.known() < 0.95 * trials * epochs, "the sweep is too short for so many faults"
    (made.folder / "epoch_s").write_text("0.02")
    assert made.driver is not None
    made.driver.wait(900)
    assert made.driver.returncode == 0, "".join(made.lines[-40:])
    time.sleep(1.0)
    assert any('{"event": "result", "state": "finished", "untracked": 0}' in line for line in made.lines[-40:]), "".join(made.lines[-40:])
    return study, faults
