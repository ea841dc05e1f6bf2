"""A Ray cluster whose nodes have networks of their own: each may be cut off or killed without the others.

Needs root and `ip`. The nodes share this machine's disk except for the folder of sweeps, which only the head has.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import requests

from tests.conftest import ROOT

LOCKS = Path("/tmp")
HEAD_PORT, DASHBOARD_PORT = 6379, 8265
START_TIMEOUT_S = 480.0


def ip(*words: str, check: bool = True) -> None:
    subprocess.run(["ip", *words], check=check, timeout=60, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def pids_in(name: str) -> list[int]:
    found = subprocess.run(["ip", "netns", "pids", name], check=False, capture_output=True, text=True, timeout=60)
    return [int(pid) for pid in found.stdout.split()]


def kill_all(name: str) -> None:
    """Kill until nothing is left: a process may start another one meanwhile."""
    while pids := pids_in(name):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


@dataclass(frozen=True)
class Network:
    """What the nodes are called and where they are found."""

    slot: int
    count: int

    @property
    def host(self) -> str:
        """This machine, as the nodes see it."""
        return f"10.77.{self.slot}.1"

    @property
    def bridge(self) -> str:
        return f"pace{self.slot}-br"

    @property
    def label(self) -> str:
        """Where its mounts say they come from."""
        return f"pace-tune-disk-{self.slot}"

    def name(self, index: int) -> str:
        return f"pace{self.slot}-{index}"

    def address(self, index: int) -> str:
        return f"10.77.{self.slot}.{10 + index}"

    def make(self) -> None:
        ip("link", "add", self.bridge, "type", "bridge")
        ip("address", "add", f"{self.host}/24", "dev", self.bridge)
        ip("link", "set", self.bridge, "up")
        for index in range(self.count):
            name = self.name(index)
            ip("netns", "add", name)
            ip("link", "add", f"{name}-out", "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", f"{name}-out", "master", self.bridge, "up")
            ip("-n", name, "address", "add", f"{self.address(index)}/24", "dev", "eth0")
            for device in ("eth0", "lo"):
                ip("-n", name, "link", "set", device, "up")
        subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/tmp"], check=True, timeout=60, stderr=subprocess.DEVNULL)

    def remove(self) -> None:
        for name in map(self.name, range(self.count)):
            kill_all(name)
            ip("netns", "del", name, check=False)
            ip("link", "del", f"{name}-out", check=False)
        ip("link", "del", self.bridge, check=False)
        mounts = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
        for place in [words[1] for words in mounts if words[0] == self.label]:
            subprocess.run(["umount", "-l", place], check=False, timeout=60)

    @contextmanager
    def disk(self, folder: Path, *, size: str) -> Iterator[None]:
        """A disk of its own, to be filled; unmounted with the network at the latest."""
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", self.label, str(folder)], check=True, timeout=60)
        try:
            yield
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=False, timeout=60)


class Node:
    """One node: a network namespace and a Ray in it."""

    def __init__(self, cluster: "Cluster", index: int) -> None:
        self.cluster, self.index = cluster, index
        self.name, self.address = cluster.network.name(index), cluster.network.address(index)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        head, folder = self.cluster.head_address, self.cluster.folder
        small = ["--object-store-memory=80000000", "--disable-usage-stats", "--block", f"--node-ip-address={self.address}"]
        if self.index == 0:
            ports = [f"--port={HEAD_PORT}", f"--dashboard-port={DASHBOARD_PORT}", f"--dashboard-host={self.address}"]
            command = ["ray", "start", "--head", "--num-cpus=0", f"--temp-dir={self.cluster.ray}", *ports, *small]
        else:
            command = ["ray", "start", f"--address={head}", "--num-cpus=2", *small]
        # What only the head has, and what each has for itself: one node's Ray unpacks a job's files anew, whoever works in them.
        apart = "".join(f"mount -t tmpfs tmpfs {place} && " for place in (self.cluster.sweeps, self.cluster.ray)) if self.index else ""
        shell = ["unshare", "-m", "sh", "-c", f'{apart}exec "$@"', "sh", *command]
        with (folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.inside(*shell), env=self.cluster.environment, stdout=log, stderr=log, start_new_session=True
            )

    def start_again(self, *, hangs: bool = False) -> None:
        """Start it where Ray gave up starting, or hangs: one machine is a small place for three nodes."""
        if self.process is not None and (hangs or self.process.poll() is not None):
            self.kill()
            self.start()

    def inside(self, *command: str) -> list[str]:
        """Return a command that runs on this node."""
        return ["ip", "netns", "exec", self.name, *command]

    def pids(self) -> list[int]:
        return pids_in(self.name)

    def kill(self) -> None:
        """Every process of the node, at once."""
        kill_all(self.name)
        if self.process is not None:
            self.process.wait(60)

    def cut(self) -> None:
        """No packet goes in or out."""
        ip("link", "set", f"{self.name}-out", "down")

    def mend(self) -> None:
        ip("link", "set", f"{self.name}-out", "up")


class Cluster:
    """A head without CPUs, and workers."""

    def __init__(self, folder: Path, *, network: Network, variables: Mapping[str, str]) -> None:
        self.folder, self.sweeps, self.network = folder, folder / "sweeps", network
        self.ray = folder / "ray"
        for place in (self.sweeps, self.ray):
            place.mkdir()
        self.token = secrets.token_hex(32)
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        auth = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}
        # A node that is killed is missed after about ten seconds, and one that is cut off for thirty is not given up.
        health = {"RAY_health_check_period_ms": "3000", "RAY_health_check_timeout_ms": "10000", "RAY_health_check_failure_threshold": "6"}
        self.environment = {
            **os.environ,
            **variables,
            **auth,
            **health,
            "PATH": path,
            "PYTHONPATH": str(ROOT),
            "RAY_JOB_STOP_WAIT_TIME_S": "30",
            # Ray's processes are nice to all others; on a crowded machine they would starve.
            "RAY_worker_niceness": "0",
        }
        # A crowded machine starts slowly; Ray kills a process that has not said hello within a minute, and starts it anew.
        for name in ("RAY_raylet_start_wait_time_s", "RAY_worker_register_timeout_seconds"):
            self.environment[name] = str(int(START_TIMEOUT_S))
        self.environment.pop("RAY_ADDRESS", None)
        self.nodes = [Node(self, index) for index in range(network.count)]

    @property
    def head_address(self) -> str:
        return f"{self.nodes[0].address}:{HEAD_PORT}"

    @property
    def dashboard(self) -> str:
        return f"http://{self.nodes[0].address}:{DASHBOARD_PORT}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def wait_until_there(self, count: int) -> None:
        """Wait until so many nodes are alive."""
        self._wait(count, self.nodes[count - 1])

    def wait_until_back(self, node: Node) -> None:
        """Wait until all are alive again, the one that was started last among them."""
        # The head may not have missed the old one yet.
        time.sleep(2.0)
        self._wait(len(self.nodes), node)

    def _wait(self, count: int, last: Node) -> None:
        began = time.monotonic()
        patience_s = START_TIMEOUT_S / 4
        while self.alive() < count:
            waited_s = time.monotonic() - began
            assert waited_s < START_TIMEOUT_S, (self.folder / f"{last.name}.log").read_text()[-2000:]
            # On a crowded machine Ray's own parts wait for each other in vain, and the start hangs.
            last.start_again(hangs=waited_s > patience_s)
            patience_s += (START_TIMEOUT_S / 4) * (waited_s > patience_s)
            time.sleep(1.0)

    def alive(self) -> int:
        with contextlib.suppress(requests.RequestException, KeyError, TypeError, ValueError):
            found = requests.get(f"{self.dashboard}/nodes?view=summary", headers=self.headers, timeout=5).json()["data"]["summary"]
            return sum(node["raylet"].get("state") == "ALIVE" for node in found)
        return 0


def can_make_networks() -> bool:
    return os.geteuid() == 0 and shutil.which("ip") is not None and shutil.which("unshare") is not None


@contextmanager
def network(count: int) -> Iterator[Network]:
    """A bridge and a namespace for each node; nothing of it is left behind."""
    with ExitStack() as stack:
        made = Network(_slot(stack), count)
        # Of a run that was killed.
        made.remove()
        stack.callback(made.remove)
        try:
            made.make()
        except subprocess.CalledProcessError:
            pytest.skip("no networks and mounts can be made here")
        yield made


def _slot(stack: ExitStack) -> int:
    """Take a number that no other test of this machine has."""
    for slot in range(1, 250):
        lock = stack.enter_context((LOCKS / f"pace-tune-nodes-{slot}.lock").open("w"))
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return slot
    pytest.skip("too many networks")


@contextmanager
def cluster(variables: Mapping[str, str], *, network: Network) -> Iterator[Cluster]:
    """A running cluster."""
    with TemporaryDirectory(prefix="pt-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        made = Cluster(Path(folder), network=network, variables=variables)
        try:
            start_nodes(made.nodes)
            yield made
        finally:
            for node in made.nodes:
                node.kill()


def start_nodes(nodes: Sequence[Node]) -> None:
    """One after the other: a crowded machine starts them slowly."""
    for count, node in enumerate(nodes, start=1):
        node.start()
        node.cluster.wait_until_there(count)
