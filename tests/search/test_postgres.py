"""The books on a real PostgreSQL: the same code, the same promises."""

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import optuna
import pytest

from pace_tune.results.sweep_data import read_sweep
from pace_tune.search.book import Book
from pace_tune.search.lease import Lease, SweepDrivenError
from pace_tune.search.plan import plan_sweep
from pace_tune.study.sweep_database import VARIABLE, database_url
from pace_tune.study.sweep_folder import claim_folder
from tests.search.studies import study

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))

pytestmark = pytest.mark.slow


def run(*words: str) -> None:
    # PostgreSQL refuses to run as root.
    user = "postgres" if os.geteuid() == 0 else None
    subprocess.run(words, check=True, timeout=60, user=user, cwd="/", stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    pytest.importorskip("psycopg", reason="the driver of PostgreSQL is not installed")
    if not BINARIES:
        pytest.skip("no PostgreSQL is installed")
    with TemporaryDirectory(prefix="pt-", dir="/tmp") as folder, socket.socket() as free:
        data = Path(folder) / "data"
        if os.geteuid() == 0:
            shutil.chown(folder, pwd.getpwnam("postgres").pw_uid)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        run(str(BINARIES[-1] / "initdb"), "-D", str(data), "-A", "trust", "-U", "pace", "--no-sync")
        options = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder}"
        run(str(BINARIES[-1] / "pg_ctl"), "-D", str(data), "-o", options, "-l", f"{folder}/log", "-w", "start")
        try:
            yield f"postgresql://pace@127.0.0.1:{port}/postgres"
        finally:
            run(str(BINARIES[-1] / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop")


@pytest.fixture
def on_server(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(VARIABLE, server)
    return server


def test_a_book_is_written_and_read_again(on_server: str, tmp_path: Path):
    small = study(tmp_path, name="books", trials=4)
    claim_folder(small)
    assert database_url(small.folder) == on_server
    book = Book(small, url=on_server)
    first, second = book.next(), book.next()
    book.report(first.number, epoch=1, value=0.5)
    book.tell(first.number, outcome="finished", value=0.5)
    again = Book(small, url=on_server)
    assert (again.best().number, again.best().value) == (first.number, 0.5)
    # The second had no driver any more: it is handed out again under its own number.
    assert [again.next().number for _ in range(3)] == [first.number, second.number, 2][:3]
    assert plan_sweep(small, nodes=[{"CPU": 4}]).closed == 1
    assert not list(small.folder.glob("*.db"))


def test_results_are_read_from_the_server(on_server: str, tmp_path: Path):
    Book(study(tmp_path, name="stranger"), url=on_server)
    small = study(tmp_path, name="results", trials=2)
    claim_folder(small)
    book = Book(small, url=on_server)
    book.tell(book.next().number, outcome="finished", value=0.25)
    assert [trial.value for trial in read_sweep(small.folder).trials if trial.state == "finished"] == [0.25]


def test_one_driver_on_a_server_too(on_server: str):
    with Lease(on_server, sweep="s", beat_s=0.1, expiry_s=1.0) as lease:
        with pytest.raises(SweepDrivenError, match="is being run by"), Lease(on_server, sweep="s", beat_s=0.1, expiry_s=1.0):
            pass
        assert not lease.lost
    with Lease(on_server, sweep="s"):
        pass


def test_mlflow_keeps_its_runs_there(on_server: str):
    from pace_tune.tracking.store import Store, StoreSpec, points

    optuna.storages.RDBStorage(on_server).engine.dispose()
    subprocess.run(["psql", on_server, "-c", "CREATE DATABASE mlflow"], check=True, timeout=30, stdout=subprocess.DEVNULL)
    store = Store(StoreSpec(on_server.removesuffix("postgres") + "mlflow", "digits", "s", "id"))
    run_id = store.create("t0000", tags={"pace.kind": "trial"})
    store.write(run_id, metrics=points({"val/accuracy": 0.5}, step=1, time_ms=1), params={"method.rank": 4})
    (found,) = store.find(kind="trial")
    assert (found.data.metrics, found.data.params) == ({"val/accuracy": 0.5}, {"method.rank": "4"})
