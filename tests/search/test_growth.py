"""What a driver keeps of a trial that has ended: it must not grow by more than some numbers a trial, whatever the libraries keep."""

import gc
import tracemalloc
from pathlib import Path

import pytest
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache
from ray.tune.experiment import Trial

from pace_tune.search.book import Book
from pace_tune.search.sweep import run_sweep
from pace_tune.study.sweep_database import database_url
from pace_tune.study.sweep_folder import claim_folder
from tests.search.studies import FAKE, study

BOOK_BYTES = 4_000
"""Of a trial of twelve epochs in the book and in Optuna, by tracemalloc: 2.1 kB; it was 13.4 kB."""
OBJECTS = 30
"""That the collector sees, of a trial in the whole driver: six; it was more than 115."""


def test_the_book_and_optuna_keep_some_numbers_of_a_trial(tmp_path: Path):
    many = study(tmp_path, trials=150, epochs=12, search={"sampler": "random"})
    claim_folder(many)
    book, before = Book(many, url=database_url(many.folder)), 0
    tracemalloc.start()
    try:
        while (entry := book.next()) is not None:
            if entry.number == 50:
                before = traced()
            for epoch in range(1, 13):
                book.report(entry.number, epoch=epoch, value=1 - 1 / (entry.number + epoch))
            book.tell(entry.number, outcome="finished", value=0.5)
        kept = (traced() - before) / 100
    finally:
        tracemalloc.stop()
    assert kept < BOOK_BYTES


def traced() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def test_a_driver_keeps_nothing_of_tune_and_mlflow_of_a_trial_that_ended(
    ray_cluster, mlflow_store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    search = {"sampler": "random", "early_stopping": {"name": "none"}}
    many = study(tmp_path, name="growth", trials=70, epochs=2, search=search, tracking={"uri": mlflow_store})
    tell, objects, ended = Book.tell, {}, {}

    def counted(self: Book, number: int, **how) -> None:
        tell(self, number, **how)
        if self.tally.ended in (20, 60):
            gc.collect()
            there = gc.get_objects()
            objects[self.tally.ended] = len(there)
            # By their class itself: some objects of other libraries import things when they are asked.
            ended[self.tally.ended] = sum(type(thing) is Trial and thing.is_finished() for thing in there)

    monkeypatch.setattr(Book, "tell", counted)
    caches = len(_artifact_repos_cache)
    assert run_sweep(many, quiet=True, worker=FAKE).counts == {"finished": 70}
    assert max(ended.values()) <= 1, "Tune holds trials that ended"
    assert len(_artifact_repos_cache) == caches, "MLflow's client holds what it wrote files with"
    assert (objects[60] - objects[20]) / 40 < OBJECTS
