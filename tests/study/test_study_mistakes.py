"""Every mistake of a study file is one line: path, rule, value, near names."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pace_tune.errors import ConfigError, MistakesError
from pace_tune.study.study_config import Study
from pace_tune.study.yaml_text import to_yaml

from .conftest import changed

CASES = {
    "unknown task": ({"task": "digit"}, "task.name: unknown task 'digit'. Did you mean 'digits'"),
    "unknown backbone": ({"backbone": "vit_nano"}, "backbone.name: unknown backbone 'vit_nano'. Did you mean 'vit_nano_cifar10'"),
    "unknown method": ({"method.name": "lora_ad"}, "method.name: unknown method 'lora_ad'. Did you mean 'lora_add'"),
    "unknown objective": ({"objective": "pac"}, "objective.name: unknown objective 'pac'. Did you mean 'pace'"),
    "unknown choice": ({"objective.name": {"choice": ["pace", "plan"]}}, "objective.name: unknown objective 'plan'. Did you mean 'plain'"),
    "unknown sampler": ({"search.sampler": "tbe"}, "search.sampler: unknown sampler 'tbe'. Did you mean 'tpe'?"),
    "unknown field": ({"method": {"name": "lora_add", "rnak": 3}}, "method.rnak: unknown field of 'lora_add'. Did you mean 'rank'?"),
    "unknown field of all choices": (
        {"objective.sigmaa": 1},
        "objective.sigmaa: unknown field of 'plain' or 'pace'. Did you mean 'sigma'?",
    ),
    "unknown field, searched": ({"optim.lrr": {"float": [1, 2]}}, "optim.lrr: unknown field of 'optim'. Did you mean 'lr'?"),
    "unknown section": ({"serach": {}}, "serach: unknown section of a study. Did you mean 'search'"),
    "unknown search field": ({"search.trails": 3}, "search.trails: unknown field of 'search'. Did you mean 'trials'?"),
    "a field the class lacks": ({"method.name": "linear"}, "method.rank: unknown field of 'linear'. It has no fields."),
    "low above high": ({"objective.sigma": {"float": [2.0, 0.1]}}, "objective.sigma: `low <= high` must hold, but got low=2.0, high=0.1."),
    "log from zero": (
        {"optim.lr": {"float": [0, 0.1], "log": True}},
        "optim.lr: `low > 0 on a log scale` must hold, but got low=0.",
    ),
    "an end outside": (
        {"method.rank": {"int": [0, 4]}},
        "method.rank: input should be greater than or equal to 1, but got 0. The domain is {int: [0, 4]}.",
    ),
    "a choice outside": (
        {"optim.schedule": {"choice": ["cosine", "cosin"]}},
        "optim.schedule: input should be 'cosine', 'cosine_published', 'linear' or 'constant', but got 'cosin'.",
    ),
    "numbers for a whole field": ({"method.rank": {"float": [2, 4]}}, "method.rank: input should be a valid integer"),
    "no kind of domain": (
        {"optim.lr": {"uniform": [1, 2]}},
        "optim.lr: input should be a valid number, but got {'uniform': [1, 2]}. A domain is {float: [low, high]}",
    ),
    "no trials": ({"search": {}}, "search.trials: a study needs a number of trials, or a time budget in `search.time_budget_s`."),
    "no search": ({"search": None}, "search.trials: a study needs a number of trials"),
    "zero trials": ({"search.trials": 0}, "search.trials: input should be greater than or equal to 1, but got 0."),
    "no data": ({"data": {"root": "/nowhere/at/all"}}, "data.root: a folder must be there, but got '/nowhere/at/all'."),
    "trains on val": ({"data.train_on": "train+val"}, "data.train_on: a study selects on val and must not train on it"),
    "searched backbone": ({"backbone": {"choice": ["vit_nano_cifar10"]}}, "backbone.name: all trials of a sweep share it"),
    "searched data": ({"data.augment": {"choice": ["none", "flip"]}}, "data.augment: all trials of a sweep share it"),
    "a range of names": ({"method": {"name": {"int": [1, 2]}}}, "method.name: names are searched with {choice: [...]}."),
    "no name": ({"method": {"rank": 3}}, "method.name: a name is needed."),
    "no task": ({"task": None}, "task: a value is needed."),
    "test metric": ({"search.metric": "test/accuracy"}, "search.metric: a test score cannot select anything, but got 'test/accuracy'."),
    "endless grid": (
        {"search.sampler": "grid"},
        "search.sampler: a grid needs domains that can be counted; write objective.sigma as a choice.",
    ),
    "warm start outside": (
        {"search.warm_start": [{"method.rank": 99}]},
        "search.warm_start.0: method.rank is searched in {int: [1, 16]}, but got 99.",
    ),
    "warm start of nothing": (
        {"search.warm_start": [{"method.rnk": 9}]},
        "search.warm_start.0: 'method.rnk' is no domain of this study. Did you mean 'method.rank'?",
    ),
    "warm start that does not count": (
        {"search.warm_start": [{"objective.name": "plain", "objective.sigma": 1.0}]},
        "search.warm_start.0: 'objective.sigma' does not count under 'plain'.",
    ),
    "early stopping": ({"search.early_stopping": "ahsa"}, "search.early_stopping.name: input should be 'asha' or 'none', but got 'ahsa'."),
    "a warm-up without end": ({"optim.warmup_epochs": {"int": [0, 40]}}, "optim.warmup_epochs: `warmup_epochs < epochs` must hold"),
    "gpus": ({"resources": {"gpus_per_worker": "all"}}, "resources.gpus_per_worker: a number >= 0 or 'auto' is needed, but got 'all'."),
    "one process that shares": (
        {"resources": {"shard_backbone": True}},
        "resources.shard_backbone: one process cannot share a backbone: several are needed, by `resources.gpus_per_worker: 2` or more.",
    ),
    "a method that needs the whole": (
        {"resources": {"shard_backbone": True, "gpus_per_worker": 2}, "method": "full"},
        "resources.shard_backbone: a backbone is spread block by block, and not with method 'full': it trains as many numbers as",
    ),
    "a name that is a path": ({"name": "../up"}, "name: a name is made of letters, digits, `.`, `_` and `-`, but got '../up'."),
    "a part of a value": ({"optim": 3}, "optim: input should be a valid dictionary"),
    "a setting of a sampler": (
        {"search.sampler": {"name": "tpe", "startup": 3}},
        "search.sampler.startup: unknown field of 'tpe'. Did you mean 'startup_trials'?",
    ),
}


@pytest.mark.parametrize(("changes", "line"), CASES.values(), ids=CASES.keys())
def test_each_mistake_is_one_line(tree, changes, line):
    with pytest.raises(ConfigError) as caught:
        Study.parse(changed(tree, changes))
    assert str(caught.value).startswith(line)
    assert len(str(caught.value).splitlines()) == 1


def test_all_mistakes_are_found_at_once(tree):
    with pytest.raises(MistakesError) as caught:
        Study.parse(changed(tree, {"task": "digit", "method.rank": {"int": [5, 1]}, "search.trials": 0, "output": 3, "foo": 1}))
    assert [mistake.path for mistake in caught.value.mistakes] == ["foo", "output", "method.rank", "task.name", "search.trials"]


@pytest.mark.parametrize("changes", [{"seed": {"int": [0, 9]}}, {"optim.epochs": {"choice": [10, 20]}}, {"search": {"time_budget_s": 60}}])
def test_these_are_right(tree, changes):
    assert Study.parse(changed(tree, changes)).run({})


def test_the_name_is_the_files_unless_it_says_otherwise(tree, tmp_path):
    path = tmp_path / "my-study.yaml"
    path.write_text(to_yaml(tree))
    assert Study.load(path).name == "my-study"
    assert Study.load(path, settings={"name": "other", "search.trials": 2, "optim.lr": 1e-3}).search.trials == 2
    assert Study.load(path).folder == Path.cwd() / "pace-runs" / "my-study"
    assert Study.load(path).tracking_uri == f"sqlite:///{Path.cwd() / 'pace-runs' / 'mlflow.db'}"


KEYS = st.sampled_from(
    [
        "task",
        "method",
        "objective",
        "optim",
        "search",
        "name",
        "rank",
        "sigma",
        "lr",
        "choice",
        "float",
        "int",
        "log",
        "step",
        "seed",
        "trials",
        "data",
        "root",
        "output",
    ]
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["digits", "pace", "lora_add", "1e-3", "vit_nano_cifar10"]),
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.one_of(KEYS, LEAVES), inner, max_size=3)), max_leaves=8
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    changes=st.dictionaries(
        st.sampled_from(["method", "objective", "optim", "search", "data", "seed", "name", "output", "resources", "task"]),
        VALUES,
        min_size=1,
        max_size=3,
    )
)
def test_whatever_stands_there_it_is_a_study_or_a_clean_error(tree, changes):
    try:
        study = Study.parse({**tree, **changes})
    except ConfigError:
        return
    assert Study.parse(study.as_mapping()).space == study.space
