"""What a sweep that was disturbed is compared with: the same one undisturbed."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pace_tune.search.book import Book
from pace_tune.study.study_config import Study
from pace_tune.study.sweep_database import VARIABLE, database_url
from tests.faults.curve_worker import LANE_FAULTS
from tests.search.fake_worker import FAULT_EPOCH, curve
from tests.search.stores import assert_each_trial_is_everywhere_once, lanes_in_optuna


@contextmanager
def books(url: str | None) -> Iterator[None]:
    """The books are there for a while; None is the file in the sweep's folder."""
    before = os.environ.pop(VARIABLE, None)
    if url is not None:
        os.environ[VARIABLE] = url
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)
        if before is not None:
            os.environ[VARIABLE] = before


def assert_nothing_is_lost(study: Study, *, database: str | None, quiet: Path) -> Counter[str]:
    """Proposals are those of a driver that nobody disturbs, and each has its whole curve, in every store once.

    Returns how many lanes broke in each way, as they should.
    """
    with books(database):
        assert_each_trial_is_everywhere_once(study, trials=study.search.trials or 0)
        found = lanes_in_optuna(study)
    reference = Study.parse({**study.as_mapping(), "output": str(quiet), "storage": None}, name=study.name)
    reference.folder.mkdir(parents=True)
    broken: Counter[str] = Counter()
    wrong: dict[str, str] = {}
    with books(None):
        book = Book(reference, url=database_url(reference.folder))
        while (entry := book.next()) is not None:
            fault = LANE_FAULTS.get(entry.run["optim"]["weight_decay"])
            broken.update([fault] if fault else [])
            epochs = range(1, FAULT_EPOCH if fault else study.max_epochs + 1)
            curve_of = {epoch: curve(entry.run, epoch)["val/accuracy"] for epoch in epochs}
            expected, seen = (curve_of, fault or "finished"), found[entry.lane]
            if (seen.intermediate_values, seen.user_attrs["outcome"]) != expected:
                wrong[entry.lane] = f"{seen.intermediate_values} {seen.user_attrs} instead of {expected}"
    assert not wrong, "\n".join(f"{lane}: {how}" for lane, how in wrong.items())
    return broken
