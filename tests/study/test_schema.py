import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pace_tune.registry import methods, objectives
from pace_tune.study.schema import study_schema
from pace_tune.study.study_config import Study
from pace_tune.study.yaml_text import read_mapping

from .conftest import changed

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "search_spaces").rglob("*.yaml"))


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return study_schema()


@pytest.fixture(scope="module")
def validator(schema) -> jsonschema.Draft202012Validator:
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_shipped_study_is_right_by_the_code_and_by_the_schema(path, validator):
    study = Study.load(path)
    assert study.run(study.defaults())
    assert not list(validator.iter_errors(read_mapping(path)))
    assert not list(validator.iter_errors(study.as_mapping()))


def test_every_component_is_in_it(schema):
    text = json.dumps(schema)
    assert all(f'"const": "{name}"' in text for name in (*methods.names(), *objectives.names()))


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "linear"},
        {"objective": {"choice": ["pace", "plain"]}},
        {"optim.lr": 1e-3},
        {"method.rank": {"choice": [2, 4]}},
        {"search.early_stopping": "none"},
        {"search.sampler": {"name": "tpe", "startup_trials": 4}},
        {"seed": {"int": [0, 4]}},
        {"resources": {"gpus_per_worker": 0.5}},
    ],
)
def test_it_takes_what_the_code_takes(tree, changes, validator):
    assert Study.parse(changed(tree, changes))
    assert not list(validator.iter_errors(changed(tree, changes)))


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "digit"},
        {"method": {"name": "lora_add", "rnak": 3}},
        {"method": {"name": "linear", "rank": 3}},
        {"method.rank": 0},
        {"optim.lr": {"float": [1e-4]}},
        {"optim.lr": {"float": [1e-4, 1e-2], "lgo": True}},
        {"backbone": {"choice": ["vit_nano_cifar10"]}},
        {"data": {"augment": {"choice": ["none"]}}},
        {"search.sampler": "tbe"},
        {"search.trails": 3},
        {"serach": {}},
    ],
)
def test_it_refuses_what_the_code_refuses(tree, changes, validator):
    assert list(validator.iter_errors(changed(tree, changes)))


def test_the_file_in_docs_is_the_generated_one(schema):
    """What stands there of the components may be older than they are: a new method edits one file."""
    kept = json.loads((ROOT / "docs" / "study.schema.json").read_text())
    for name in ("task", "backbone", "method", "objective"):
        for either in (kept, schema):
            either["properties"].pop(name)
    kept["properties"]["search"]["properties"].pop("sampler")
    assert kept["properties"].keys() == schema["properties"].keys()
    assert all(kept["properties"][key] == schema["properties"][key] for key in kept["properties"] if key != "search")
