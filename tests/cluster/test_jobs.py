"""Sweeps submitted to a real Ray head with token authentication, from outside of it."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import requests
import yaml

from pace_tune.cluster.jobs import Cluster, ClusterError, Job, settling_s
from pace_tune.errors import ConfigError, UnknownNameError
from tests.conftest import ROOT
from tests.search.studies import tree

START_TIMEOUT_S = 120.0
JOB_TIMEOUT_S = 400.0


@dataclass(frozen=True)
class Head:
    """A cluster of one node."""

    address: str
    token: str
    storage: Path


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with TemporaryDirectory(prefix="pt-", dir="/tmp", ignore_cleanup_errors=True) as folder, socket.socket() as free:
        # Below the ports that Ray gives its workers.
        ports = iter(range(8300, 8400))
        port = next(port for port in ports if free.connect_ex(("127.0.0.1", port)) != 0)
        token = secrets.token_hex(32)
        process = start_head(Path(folder), port=port, token=token)
        try:
            wait_until_it_answers(f"http://127.0.0.1:{port}", process)
            yield Head(f"http://127.0.0.1:{port}", token, Path(folder) / "shared")
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def start_head(folder: Path, *, port: int, token: str) -> subprocess.Popen:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    environment["RAY_JOB_STOP_WAIT_TIME_S"] = "30"
    environment.pop("RAY_ADDRESS", None)
    # The agent takes the jobs; its usual port may be another cluster's.
    ports = [
        f"--dashboard-agent-listen-port={port + 200}",
        "--port=0",
        "--dashboard-host=127.0.0.1",
        f"--dashboard-port={port}",
        "--node-ip-address=127.0.0.1",
    ]
    small = ["--num-cpus=2", "--object-store-memory=100000000", f"--temp-dir={folder}"]
    command = ["ray", "start", "--head", "--block", *ports, *small, "--disable-usage-stats"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def wait_until_it_answers(address: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            requests.get(f"{address}/api/version", timeout=2)
        except OSError:
            time.sleep(0.5)
        else:
            return
    pytest.fail("the head did not start")


@pytest.fixture
def cluster(head: Head, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setenv("RAY_AUTH_TOKEN", head.token)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    return Cluster(head.address)


def study_file(head: Head, folder: Path, *, name: str, **changes) -> Path:
    small = {"task": {"name": "digits", "shots": 2, "val_per_class": 2}, "method": "linear", "objective": "plain"}
    whole = {**tree(head.storage, name=name, trials=2, epochs=2), **small, "measure": {"every_epochs": 0}}
    whole["search"]["baseline"] = False
    whole.update(changes)
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(whole))
    return file


@pytest.mark.slow
def test_nobody_submits_without_the_token(head: Head, monkeypatch: pytest.MonkeyPatch):
    body = {"entrypoint": "true", "submission_id": "stranger"}
    assert requests.post(f"{head.address}/api/jobs/", json=body, timeout=20).status_code == 401
    wrong = {"Authorization": f"Bearer {secrets.token_hex(32)}"}
    assert requests.post(f"{head.address}/api/jobs/", json=body, headers=wrong, timeout=20).status_code in {401, 403}
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/nowhere/token")
    with pytest.raises(ClusterError, match=r"wants a token and none was found .* put the cluster's token into RAY_AUTH_TOKEN"):
        Cluster(head.address)
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    with pytest.raises(ClusterError, match="refused the token of RAY_AUTH_TOKEN"):
        Cluster(head.address)


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_a_sweep_runs_is_never_sent_twice_and_is_extended(head: Head, cluster: Cluster, tmp_path: Path):
    file = study_file(head, tmp_path, name="small")
    assert not cluster.submit(file).attached
    assert cluster.submit(file).attached
    with pytest.raises(ConfigError, match="another study runs under the name 'small'"):
        cluster.submit(file, settings={"optim.epochs": 3})
    with pytest.raises(ConfigError, match="stop it first"):
        cluster.resume("small", trials=3)
    lines = "".join(cluster.follow("small"))
    assert "2 trials, 1 worker x 2 lanes" in lines
    assert cluster.wait("small", timeout_s=JOB_TIMEOUT_S).state == "finished"
    assert (head.storage / "small" / "best.yaml").is_file()
    assert not cluster.resume("small", trials=3).attached
    assert cluster.wait("small", timeout_s=JOB_TIMEOUT_S).state == "finished"
    assert "3 trials (2 done before)" in cluster.logs("small")
    assert [job.name for job in cluster.list()] == ["small"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_sweep_is_stopped_and_goes_on(head: Head, cluster: Cluster, tmp_path: Path):
    long = {"optim": {"lr": {"float": [1e-4, 1e-1]}, "epochs": 5000, "warmup_epochs": 0}}
    cluster.submit(study_file(head, tmp_path, name="long", **long))
    deadline = time.monotonic() + START_TIMEOUT_S
    while "at once" not in cluster.logs("long") and time.monotonic() < deadline:
        time.sleep(1.0)
    assert cluster.stop("long").state == "stopped"
    assert not cluster.resume("long").attached
    deadline = time.monotonic() + START_TIMEOUT_S
    while "at once" not in cluster.logs("long") and time.monotonic() < deadline:
        time.sleep(1.0)
    assert cluster.status("long").state == "running", cluster.logs("long")
    assert cluster.stop("long").state == "stopped"
    with pytest.raises(UnknownNameError, match="Did you mean 'long'"):
        cluster.status("lang")


@pytest.mark.parametrize(("ended_s", "wait_s"), [(None, 10.0), (1000.0, 10.0), (996.0, 6.0), (900.0, 0.0), (1500.0, 10.0)])
def test_a_job_that_has_just_ended_is_left_alone_for_a_moment(ended_s: float | None, wait_s: float):
    assert settling_s(Job("long", "stopped", ended_s=ended_s), now_s=1000.0) == wait_s


def test_addresses_are_checked_before_anything_is_asked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    with pytest.raises(ConfigError, match="a cluster is needed"):
        Cluster()
    with pytest.raises(ConfigError, match="the address of a dashboard is needed"):
        Cluster("ray://head:10001")
    with pytest.raises(ClusterError, match=r"no Ray dashboard answers at http://127\.0\.0\.1:9"):
        Cluster("http://127.0.0.1:9")
