"""Shipped studies: every published family has them, and they start where the published tables ended."""

from pathlib import Path

import pytest

from pace_tune.benchmarks.protocols import EXAMPLES, FEWSHOT, FGVC, GLUE, LAMBDAS, SIGMAS, VTAB, protocol
from pace_tune.registry import tasks
from pace_tune.study.study_config import Study

FOLDER = Path(__file__).parents[2] / "search_spaces"
PUBLISHED = [
    *(f"vtab/{name}" for name in VTAB),
    *(f"fewshot/{name}" for name in FEWSHOT),
    *(f"fgvc/{name}" for name in FGVC),
    *(f"glue/{name}" for name in GLUE),
    "domain/imagenet",
    "gsm8k",
]


@pytest.fixture(params=PUBLISHED)
def task(request):
    return request.param


def test_the_study_of_a_published_task_starts_at_its_winner(task):
    study = Study.load(FOLDER / f"{task}.yaml")
    published, first = protocol(task), study.search.warm_start[0]
    chosen = study.run(first).flat()
    for path in ("method.rank", "optim.lr", "optim.weight_decay"):
        if path in published:
            assert chosen[path] == published[path]
    assert {path: first.get(path) for path in EXAMPLES.get(task, {})} == EXAMPLES.get(task, {})
    assert {point["objective.name"] for point in study.search.warm_start} == {"pace", "plain"}


def test_what_it_does_not_search_is_the_published_protocol(task):
    study = Study.load(FOLDER / f"{task}.yaml")
    flat = study.run(study.search.warm_start[0]).flat()
    assert {path: flat[path] for path in protocol(task)} == protocol(task)
    assert flat["task.name"] == task


def test_the_grid_is_the_papers():
    study = Study.load(FOLDER / "vtab" / "cifar_grid.yaml")
    assert study.search.trials == len(SIGMAS) * len(LAMBDAS)


def test_every_family_and_kind_of_own_data_has_a_study():
    shown = {Study.load(path).run({}).task.name for path in FOLDER.rglob("*.yaml")}
    families = {name.split("/")[0] for name in tasks.names()} - {"hub"}
    assert families <= {name.split("/")[0] for name in shown}
