"""The books on a real PostgreSQL: the same code, the same promises."""

import threading
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from pace_tune.results.sweep_data import read_sweep
from pace_tune.search.book import Book
from pace_tune.search.lease import Lease, SweepDrivenError
from pace_tune.search.plan import plan_sweep
from pace_tune.study.sweep_database import VARIABLE, database_url
from pace_tune.study.sweep_folder import claim_folder
from tests import servers
from tests.search.studies import study

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[servers.Postgres]:
    with servers.postgres() as started:
        yield started


@pytest.fixture
def on_server(server: servers.Postgres, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(VARIABLE, server.url())
    return server.url()


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


def test_mlflow_keeps_its_runs_there(server: servers.Postgres):
    from pace_tune.tracking.store import Store, StoreSpec, points

    store = Store(StoreSpec(server.url("mlflow"), "digits", "s", "id"))
    run_id = store.create("t0000", tags={"pace.kind": "trial"})
    store.write(run_id, metrics=points({"val/accuracy": 0.5}, step=1, time_ms=1), params={"method.rank": 4})
    (found,) = store.find(kind="trial")
    assert (found.data.metrics, found.data.params) == ({"val/accuracy": 0.5}, {"method.rank": "4"})


def test_a_book_waits_for_a_server_that_restarts(on_server: str, server: servers.Postgres, tmp_path: Path):
    book = Book(study(tmp_path, name="restarts", trials=6), url=on_server)
    for _ in range(2):
        entry = book.next()
        server.stop()
        again = threading.Timer(1.0, server.start)
        again.start()
        book.report(entry.number, epoch=1, value=0.5)
        again.join()
        server.stop()
        again = threading.Timer(1.0, server.start)
        again.start()
        book.tell(entry.number, outcome="finished", value=0.5)
        again.join()
    server.stop()
    again = threading.Timer(1.0, server.start)
    again.start()
    numbers = []
    while (entry := book.next()) is not None:
        numbers.append(entry.number)
        book.tell(entry.number, outcome="finished", value=0.25)
    again.join()
    assert numbers == [2, 3, 4, 5]
    trials = optuna.load_study(study_name="restarts", storage=on_server).get_trials()
    assert [(trial.number, trial.value) for trial in trials] == [(0, 0.5), (1, 0.5), *((number, 0.25) for number in numbers)]
