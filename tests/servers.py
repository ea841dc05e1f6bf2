"""Real servers for tests: PostgreSQL, an S3 API and MLflow, each a process of its own that can be killed and started again."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pace_tune import storage
from tests.conftest import ROOT

POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
START_TIMEOUT_S = 600.0
KEYS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests-secret", "AWS_REGION": "us-east-1"}


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as free:
        free.bind((host, 0))
        return int(free.getsockname()[1])


class Server(ABC):
    """One server: its data outlive its process.

    Args:
        folder: For data and log.
        host: Where it listens.
        port: Where it listens.
    """

    def __init__(self, folder: Path, *, host: str = "127.0.0.1", port: int | None = None) -> None:
        self.folder, self.host, self.port = folder, host, port or free_port(host)
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    @abstractmethod
    def command(self) -> Sequence[str]: ...

    @abstractmethod
    def answers(self) -> bool: ...

    @property
    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    @property
    def user(self) -> str | None:
        return None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, stdout=log, stderr=log, start_new_session=True, user=self.user, cwd=self.folder
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.answers():
            assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
            assert time.monotonic() < deadline, f"{type(self).__name__} does not answer"
            time.sleep(0.1)

    def kill(self, sent: signal.Signals = signal.SIGKILL) -> None:
        """End it with all of its processes, without a word."""
        assert self.process is not None
        os.killpg(self.process.pid, sent)
        self.process.wait(60)


class Postgres(Server):
    """PostgreSQL, with a database for each name."""

    DATABASES = ("optuna", "mlflow")

    def url(self, database: str = "optuna") -> str:
        return f"postgresql://pace@{self.host}:{self.port}/{database}"

    @property
    def user(self) -> str | None:
        # It refuses to run as root.
        return "postgres" if os.geteuid() == 0 else None

    @property
    def command(self) -> Sequence[str]:
        # Without fsync a kill of the process loses nothing; a loss of power would.
        options = ["-c", f"listen_addresses={self.host}", "-p", str(self.port), "-k", str(self.folder), "-c", "fsync=off"]
        return [str(POSTGRES[-1] / "postgres"), "-D", str(self.folder / "data"), *options]

    def answers(self) -> bool:
        words = ("pg_isready", "-q", "-h", self.host, "-p", str(self.port))
        return subprocess.run([str(POSTGRES[-1] / words[0]), *words[1:]], check=False, timeout=20).returncode == 0

    def make(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self.folder, pwd.getpwnam("postgres").pw_uid)
        self._run("initdb", "-D", str(self.folder / "data"), "-A", "trust", "-U", "pace", "--no-sync")
        with (self.folder / "data" / "pg_hba.conf").open("a") as file:
            file.write("host all all 10.0.0.0/8 trust\n")
        self.start()
        for name in self.DATABASES:
            self._run("createdb", "-h", self.host, "-p", str(self.port), "-U", "pace", name)

    def stop(self) -> None:
        """As a restart of the service ends it: at once, telling its clients."""
        self.kill(signal.SIGINT)

    def _run(self, program: str, *words: str) -> None:
        command = [str(POSTGRES[-1] / program), *words]
        subprocess.run(command, check=True, timeout=60, user=self.user, cwd="/", stdout=subprocess.DEVNULL)


class S3(Server):
    """An S3 API whose objects outlive it: see `tests.s3_server`."""

    @property
    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "tests.s3_server", self.host, str(self.port), str(self.folder / "journal")]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT)}

    @property
    def variables(self) -> dict[str, str]:
        """What a client needs."""
        return {**KEYS, "AWS_ENDPOINT_URL": f"http://{self.host}:{self.port}", "AWS_EC2_METADATA_DISABLED": "true"}

    def make_bucket(self, name: str) -> None:
        import boto3

        options = {f"aws_{key}": KEYS[f"AWS_{key.upper()}"] for key in ("access_key_id", "secret_access_key")}
        client = boto3.client("s3", endpoint_url=self.variables["AWS_ENDPOINT_URL"], region_name=KEYS["AWS_REGION"], **options)
        client.create_bucket(Bucket=name)

    def answers(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(2)
            return probe.connect_ex((self.host, self.port)) == 0


class Mlflow(Server):
    """An MLflow server.

    Args:
        store: Address of its database.
        artifacts: Where it keeps files.
        variables: What it needs for that.
    """

    def __init__(self, folder: Path, *, store: str, artifacts: str, variables: dict[str, str], host: str = "127.0.0.1") -> None:
        super().__init__(folder, host=host)
        self.store, self.artifacts, self.variables = store, artifacts, variables

    @property
    def uri(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def command(self) -> Sequence[str]:
        places = ["--backend-store-uri", self.store, "--artifacts-destination", self.artifacts]
        return [sys.executable, "-m", "mlflow", "server", "--host", self.host, "--port", str(self.port), "--workers", "1", *places]

    @property
    def environment(self) -> dict[str, str]:
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        return {**os.environ, **self.variables, **quiet}

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=3) as answer:
                return answer.status == 200
        except OSError:
            return False


@contextmanager
def postgres(host: str = "127.0.0.1") -> Iterator[Postgres]:
    """A running PostgreSQL; the test is skipped where none is installed, and `.ci/run` installs one."""
    pytest.importorskip("psycopg", reason="the driver of PostgreSQL is not installed")
    if not POSTGRES:
        pytest.skip("no PostgreSQL is installed")
    # A socket's path is short.
    with TemporaryDirectory(prefix="pt-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        server = Postgres(Path(folder), host=host)
        server.make()
        try:
            yield server
        finally:
            server.kill(signal.SIGQUIT)


@contextmanager
def s3_here(folder: Path) -> Iterator[S3]:
    """A running S3 API, the one that this process's environment names."""
    pytest.importorskip("moto.server", reason="no S3 server is installed")
    with pytest.MonkeyPatch.context() as patch, s3(folder) as server:
        for name, value in server.variables.items():
            patch.setenv(name, value)
        storage._s3.cache_clear()
        yield server
    storage._s3.cache_clear()


@contextmanager
def s3(folder: Path, *, host: str = "127.0.0.1", buckets: Sequence[str] = ("sweeps",)) -> Iterator[S3]:
    """A running S3 API with some buckets."""
    server = S3(folder, host=host)
    server.start()
    try:
        for bucket in buckets:
            server.make_bucket(bucket)
        yield server
    finally:
        server.kill()
