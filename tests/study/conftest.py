from collections.abc import Mapping
from typing import Any

import pytest

from pace_tune.study.paths import assign
from pace_tune.study.study_config import Study


@pytest.fixture
def tree() -> dict[str, Any]:
    """A study with a fixed method and two objectives, as a file would hold it."""
    return {
        "task": "digits",
        "backbone": "vit_nano_cifar10",
        "method": {"name": "lora_add", "rank": {"int": [1, 16]}},
        "objective": {
            "name": {"choice": ["plain", "pace"]},
            "sigma": {"float": [0.1, 2.0]},
            "lambda": {"float": [0.02, 2.0], "log": True},
        },
        "optim": {"lr": {"float": [3e-4, 3e-2], "log": True}, "epochs": 30},
        "search": {"trials": 16},
    }


def changed(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    for path, value in changes.items():
        tree = assign(tree, path=path, value=value)
    return dict(tree)


@pytest.fixture
def study(tree: dict[str, Any]) -> Study:
    return Study.parse(tree, name="small")
