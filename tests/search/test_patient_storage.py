"""A database that goes away in the middle of a call, before or after it was done: everything is there once."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.storages import RDBStorage
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError, OperationalError

from pace_tune.search.book import Book
from pace_tune.search.patient_storage import CHANGES, REPEATABLE, PatientStorage
from pace_tune.study.sweep_database import database_url
from pace_tune.study.sweep_folder import claim_folder
from tests.search.studies import study

CALLS = (*REPEATABLE, *CHANGES, "_get_trials", "_create_new_trial", "set_trial_state_values")


@pytest.fixture
def outages(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Every third call fails, in turn before it is done and after it was."""
    happened: list[str] = []
    count = 0

    def unsteady(name: str, real):
        def call(self, *args, **kwargs):
            nonlocal count
            count += 1
            if count % 3:
                return real(self, *args, **kwargs)
            happened.append(name)
            if count % 2:
                real(self, *args, **kwargs)
            raise OperationalError("server closed the connection", None, Exception())

        return call

    for name in CALLS:
        monkeypatch.setattr(RDBStorage, name, unsteady(name, getattr(RDBStorage, name)))
    yield happened
    monkeypatch.undo()


def test_a_sweep_s_book_is_whole_after_many_outages(outages: list[str], tmp_path: Path):
    small = study(tmp_path, trials=9, search={"warm_start": [{"optim.lr": 0.01}]})
    claim_folder(small)
    book = Book(small, url=database_url(small.folder))
    while (entry := book.next()) is not None:
        book.report(entry.number, epoch=1, value=0.1)
        book.tell(entry.number, outcome="finished", value=0.1 + entry.number / 100)
    assert {"_create_new_trial", "set_trial_state_values", "set_trial_user_attr"} <= set(outages)
    assert sorted(book.entries) == list(range(len(book.entries)))
    trials = book._optuna.get_trials()
    assert [trial.value for trial in trials] == pytest.approx([0.1 + number / 100 for number in range(len(trials))])
    assert len(trials) == 9
    proposals = {number: dict(entry.point) for number, entry in book.entries.items()}
    quiet = study(tmp_path / "quiet", trials=len(trials), search={"warm_start": [{"optim.lr": 0.01}]})
    claim_folder(quiet)
    assert proposals == points_of(Book(quiet, url=database_url(quiet.folder)))


def points_of(book: Book) -> dict[int, dict]:
    found = {}
    while (entry := book.next()) is not None:
        found[entry.number] = dict(entry.point)
    return found


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_what_one_proposal_reads_does_not_grow_with_the_trials_that_are_open(tmp_path: Path, sampler: str, monkeypatch: pytest.MonkeyPatch):
    many = study(tmp_path, trials=60, search={"sampler": sampler})
    claim_folder(many)
    book, read, real = Book(many, url=database_url(many.folder)), [0], RDBStorage._get_trials

    def counted(self, *args):
        found = real(self, *args)
        read[0] += len(found)
        return found

    monkeypatch.setattr(RDBStorage, "_get_trials", counted)
    at_first = [proposal_reads(book, read) for _ in range(10)]
    for _ in range(40):
        book.next()
    book.report(5, epoch=1, value=0.5)
    book.tell(7, outcome="finished", value=0.5)
    assert proposal_reads(book, read) <= max(at_first) + 2
    assert proposal_reads(book, read) <= max(at_first)


def proposal_reads(book: Book, read: list[int]) -> int:
    before = read[0]
    assert book.next() is not None
    return read[0] - before


def test_what_was_written_is_seen_by_the_next_proposal(tmp_path: Path):
    """As Optuna's own storage would show it, which reads everything that is open; of what ended, what samplers read."""
    few = study(tmp_path, trials=20)
    claim_folder(few)
    book = Book(few, url=database_url(few.folder))
    for number in range(12):
        book.next()
        book.report(number, epoch=1, value=number / 10)
        if number % 3 == 0:
            book.tell(number, outcome=("finished", "pruned")[number % 2], value=number / 10)
        others = optuna.load_study(study_name=few.name, storage=database_url(few.folder))
        shown = others.get_trials()
        for trial in shown:
            book._database.thin(trial)
        assert book._optuna.get_trials() == shown


def test_of_trials_that_ended_optuna_keeps_what_samplers_read(tmp_path: Path):
    few = study(tmp_path, trials=6)
    claim_folder(few)
    book = Book(few, url=database_url(few.folder))
    for number in range(4):
        book.next()
        for epoch in (1, 2):
            book.report(number, epoch=epoch, value=number + epoch / 10)
    book.tell(2, outcome="finished", value=2.5)
    book.tell(3, outcome="pruned")
    whole = {trial.number: trial for trial in optuna.load_study(study_name=few.name, storage=database_url(few.folder)).get_trials()}
    for again in (book, Book(few, url=database_url(few.folder))):
        kept = again._optuna.get_trials()
        assert kept[0] == whole[0], "one that is open is as it was"
        for trial, value, last in ((kept[2], 2.5, {2: 2.2}), (kept[3], 3.2, {2: 3.2})):
            there = whole[trial.number]
            assert (trial.state, trial.params, trial.distributions) == (there.state, there.params, there.distributions)
            assert (trial.value, trial.intermediate_values) == (value, last)
            assert not trial.user_attrs
        shared = [trial.distributions for trial in again._optuna.get_trials(deepcopy=False)[2:4]]
        assert shared[0] is shared[1]


def test_other_errors_are_not_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    storage = PatientStorage(f"sqlite:///{tmp_path / 'a.db'}")

    def fail(*args):
        raise IntegrityError("twice", None, Exception())

    monkeypatch.setattr(RDBStorage, "get_trial", fail)
    with pytest.raises(IntegrityError):
        storage.get_trial(1)


def test_what_a_proposal_reads_does_not_grow_with_the_trials_that_ended(tmp_path: Path):
    many = study(tmp_path, trials=40)
    claim_folder(many)
    book = Book(many, url=database_url(many.folder))
    rows: list[int] = []
    # Each table that belongs to trials is read with a list of their numbers.
    event.listen(book._optuna._storage._backend.engine, "before_cursor_execute", lambda *args: rows.append(len(args[3])))
    most = []
    while (entry := book.next()) is not None:
        most.append(max(rows))
        rows.clear()
        book.tell(entry.number, outcome="finished", value=0.5)
    assert len(most) == 40
    assert max(most[20:]) <= max(most[1:5])


def test_a_connection_lost_in_the_middle_of_reading_is_waited_for(caplog: pytest.LogCaptureFixture, tmp_path: Path):
    small = study(tmp_path, trials=3)
    claim_folder(small)
    book = Book(small, url=database_url(small.folder))
    lost = []

    def lose(cursor, statement, parameters, context):
        if "trial_user_attributes.trial_id IN" in statement and not lost:
            lost.append(statement)
            raise sqlite3.OperationalError("terminating connection due to administrator command")

    engine = book._optuna._storage._backend.engine
    event.listen(engine, "do_execute", lose)
    event.listen(engine, "handle_error", lambda context: setattr(context, "is_disconnect", True))
    assert book.next() is not None
    assert book.next() is not None
    assert lost
    assert "waiting for the database" in caplog.text
