"""Small studies for the tests of the searching half; what they name is real, what trains them need not be."""

from pathlib import Path
from typing import Any

from pace_tune.study.study_config import Study

FAKE = "tests.search.fake_worker:FakeWorker"


def tree(output: Path, *, name: str = "small", trials: int | None = 8, epochs: int = 5, **changes: Any) -> dict[str, Any]:
    """Return a study's mapping; `changes` replace whole sections or, as mappings, update them."""
    whole: dict[str, Any] = {
        "name": name,
        "task": "digits",
        "backbone": "vit_nano_cifar10",
        "method": {"name": "lora_add", "rank": {"int": [2, 16]}},
        "objective": {"name": "pace", "sigma": {"float": [0.1, 2.0]}},
        "optim": {"lr": {"float": [1e-4, 1e-1], "log": True}, "epochs": epochs, "warmup_epochs": 0, "weight_decay": 0.0},
        "search": {"trials": trials, "sampler": "random"},
        "resources": {"workers": 1, "lanes": 2},
        "output": str(output),
    }
    for key, value in changes.items():
        before = whole.get(key, {})
        whole[key] = {**before, **value} if isinstance(value, dict) and isinstance(before, dict) else value
    return whole


def study(output: Path, **changes: Any) -> Study:
    """Return a study."""
    return Study.parse(tree(output, **changes))
