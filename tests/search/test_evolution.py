"""Evolution: a random population first, then children of the best, of ways through a supernet and of ordinary values."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pace_tune.errors import ConfigError
from pace_tune.results.sweep_data import read_sweep
from pace_tune.search.book import Book
from pace_tune.search.entry import lane_name
from pace_tune.study.domains import DigitsDomain, parse_domain
from pace_tune.study.study_config import Study
from pace_tune.study.sweep_database import database_url
from pace_tune.study.yaml_text import to_yaml

GENES = 6 * 4 * 5
TREE = {
    "name": "glora",
    "task": "digits",
    "backbone": "vit_nano_cifar10",
    "method": {"name": "glora", "rank": 2, "way": {"digits": [4, 4, 3, 3, 3], "times": 24}},
    "objective": "plain",
    "optim": {"epochs": 1},
    "search": {"sampler": {"name": "evolution", "population": 12, "parents": 4}, "trials": 60, "baseline": False},
}


def study_of(tmp_path: Path, **search: object) -> Study:
    return Study.parse({**TREE, "output": str(tmp_path), "search": {**TREE["search"], **search}})


def fitness(way: str) -> float:
    """How many digits are 1: known to evolution only by its values."""
    return way.count("1") / len(way)


def book_of(study: Study) -> Book:
    study.folder.mkdir(parents=True, exist_ok=True)
    return Book(study, url=database_url(study.folder))


def run(book: Book, *, trials: int, value: Callable[[str], float] = fitness) -> list[str]:
    ways = []
    for _ in range(trials):
        entry = book.next()
        ways.append(entry.run["method"]["way"])
        book.tell(entry.number, outcome="finished", value=value(ways[-1]))
    return ways


def test_children_are_better_than_the_random_population(tmp_path: Path):
    ways = run(book_of(study_of(tmp_path)), trials=60)
    assert len(set(ways)) == 60
    assert all(DigitsDomain((4, 4, 3, 3, 3), times=24).contains(way) for way in ways)
    random, children = [fitness(way) for way in ways[1:12]], [fitness(way) for way in ways[-20:]]
    assert sum(children) / 20 > max(random) > sum(random) / 11


def test_a_sweep_that_was_interrupted_proposes_what_it_would_have(tmp_path: Path):
    whole = run(book_of(study_of(tmp_path / "a")), trials=20)
    first = run(book_of(study_of(tmp_path / "b")), trials=15)
    again = book_of(study_of(tmp_path / "b"))
    again.settle(map(lane_name, again.entries))
    assert first + run(again, trials=5) == whole
    assert again.entries[3].point["method.way"] == whole[3]
    (again.study.folder / "study.yaml").write_text(to_yaml(again.study.as_mapping()))
    assert [trial.chosen["method.way"] for trial in read_sweep(again.study.folder).trials] == whole


def test_trials_that_failed_have_no_children(tmp_path: Path):
    book = book_of(study_of(tmp_path))
    for _ in range(14):
        entry = book.next()
        book.tell(entry.number, outcome="failed", reason="over budget")
    assert book.next().run["method"]["way"]


@pytest.mark.parametrize(
    ("domain", "message"),
    [
        ({"digits": []}, "a list of numbers of options"),
        ({"digits": [4, 0]}, "a list of numbers of options"),
        ({"digits": [4], "times": 0}, "times is a whole number"),
        ({"digits": [4], "log": True}, "unknown key 'log'"),
    ],
)
def test_mistakes_in_the_domain(domain: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        parse_domain(domain, path="method.way")


def test_ways_need_evolution(tmp_path: Path):
    with pytest.raises(ConfigError, match="searched with `evolution`"):
        study_of(tmp_path, sampler="tpe")


def test_it_evolves_ordinary_values_too(tmp_path: Path):
    method = {"name": "lora_add", "rank": {"int": [1, 64]}}
    tree = {**TREE, "output": str(tmp_path), "method": method, "optim": {"lr": {"float": [1e-4, 1e-1], "log": True}}}
    study = Study.parse({**tree, "search": {**TREE["search"], "trials": 50}})
    book = book_of(study)
    ranks = []
    for _ in range(50):
        entry = book.next()
        ranks.append(entry.run["method"]["rank"])
        book.tell(entry.number, outcome="finished", value=-abs(ranks[-1] - 40))
    assert sum(abs(rank - 40) for rank in ranks[-15:]) < sum(abs(rank - 40) for rank in ranks[1:12]) * 15 / 11
