"""The best recipes of other sweeps become the first proposals, as far as they fit."""

import pytest

from pace_tune.errors import ConfigError
from pace_tune.search.book import Book
from pace_tune.search.proposals import first_points
from pace_tune.search.sweep import run_sweep
from pace_tune.search.warm_start import translated, warm_points
from pace_tune.study.sweep_database import database_url
from pace_tune.study.sweep_folder import claim_folder

from .studies import FAKE, study


def finished_sweep(output, *, name, values, mode="max", seed=0):
    """A sweep whose trials ended with these values, and the points of its trials."""
    source = study(output, name=name, trials=len(values), search={"baseline": False, "mode": mode, "seed": seed})
    book = Book(source, url=database_url(claim_folder(source)))
    points = []
    for value in values:
        entry = book.next()
        points.append(dict(entry.point))
        book.report(entry.number, epoch=1, value=value if value is not None else 0.99)
        book.tell(entry.number, outcome="pruned" if value is None else "finished", value=value)
    return points


def test_the_best_of_each_sweep_come_first_and_pruned_ones_never(tmp_path):
    one = finished_sweep(tmp_path, name="one", values=[0.2, 0.9, 0.5, None], seed=1)
    two = finished_sweep(tmp_path, name="two", values=[0.3, 0.1], mode="min", seed=2)
    mine = study(tmp_path, search={"warm_start_from": ["one", str(tmp_path / "two")], "warm_start_best": 2})
    assert warm_points(mine) == [one[1], two[1], one[2], two[0]]


def test_they_are_tried_after_the_references_and_each_once(tmp_path):
    points = finished_sweep(tmp_path, name="one", values=[0.5])
    mine = study(tmp_path, search={"warm_start_from": ["one", "one.yaml"], "warm_start": [points[0]]})
    tried = [first.point for first in first_points(mine)]
    assert tried[2:] == points
    book = Book(mine, url=f"sqlite:///{tmp_path / 'mine.db'}")
    assert [dict(book.next().point) for _ in range(3)][2] == points[0]


def test_what_lies_outside_of_the_domains_is_left_to_the_sampler(tmp_path):
    mine = study(tmp_path, method={"name": "lora_add", "rank": {"int": [2, 8]}})
    run = mine.run({"method.rank": 4, "objective.sigma": 1.0, "optim.lr": 1e-2}).as_mapping()
    assert translated(run, study=mine) == {"method.rank": 4, "objective.sigma": 1.0, "optim.lr": 1e-2}
    run["method"]["rank"] = 12
    assert translated(run, study=mine) == {"objective.sigma": 1.0, "optim.lr": 1e-2}


def test_fields_of_another_method_or_objective_mean_nothing_here(tmp_path):
    mine = study(tmp_path)
    run = mine.run({"method.rank": 4, "objective.sigma": 1.0, "optim.lr": 1e-2}).as_mapping()
    assert translated({**run, "method": {"name": "lora_mul", "rank": 4}}, study=mine) == {"objective.sigma": 1.0, "optim.lr": 1e-2}
    assert translated({**run, "objective": {"name": "noise_only", "sigma": 1.0}}, study=mine) == {"method.rank": 4, "optim.lr": 1e-2}


def test_a_sweep_that_is_not_there_is_refused_before_anything_starts(tmp_path):
    finished_sweep(tmp_path, name="cifar", values=[0.5])
    mine = study(tmp_path, search={"warm_start_from": ["cifer"]})
    with pytest.raises(ConfigError, match=r"search.warm_start_from: there is no sweep 'cifer'.*Did you mean 'cifar'"):
        run_sweep(mine, quiet=True, worker=FAKE)
    assert not mine.folder.exists()


def test_a_sweep_without_a_whole_trial_has_nothing_to_give(tmp_path):
    finished_sweep(tmp_path, name="one", values=[None])
    with pytest.raises(ConfigError, match="has run to its end yet"):
        warm_points(study(tmp_path, search={"warm_start_from": ["one"]}))
