"""Whatever a study file holds, the answer is a study or one clear error, never a traceback."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pace_tune.errors import PaceTuneError
from pace_tune.registry import methods, objectives, samplers
from pace_tune.study.run_config import RunConfig
from pace_tune.study.study_config import Study
from pace_tune.study.yaml_text import parse_yaml

FEW, MANY = 60, 2_500
SECTIONS = ("task", "backbone", "method", "objective", "optim", "data", "measure", "search", "resources", "tracking")
FIELDS = ("name", "rank", "lr", "epochs", "warmup_epochs", "batch_size", "sigma", "lambda", "betas", "schedule", "root", "cache", "samples")
SEARCHED = ("sampler", "trials", "time_budget_s", "metric", "mode", "seed", "warm_start", "baseline", "early_stopping", "workers", "uri")
FIRM = {"task": "digits", "backbone": "vit_nano_cifar10", "method": "linear", "search": {"trials": 2}}

numbers = st.one_of(st.integers(-3, 40), st.floats(), st.integers(-(10**30), 10**30))
words = st.one_of(
    st.sampled_from([*methods.names(), *objectives.names(), *samplers.names(), "max", "auto", "..", "/", "~x"]), st.text(max_size=8)
)
scalars = st.one_of(st.none(), st.booleans(), numbers, words, st.dates())
domains = st.one_of(
    st.fixed_dictionaries({}, optional={"float": st.lists(scalars, max_size=3), "log": scalars}),
    st.fixed_dictionaries({}, optional={"int": st.lists(scalars, max_size=3), "step": scalars, "log": scalars}),
    st.fixed_dictionaries({"choice": st.lists(scalars, max_size=4)}),
)
keys = st.one_of(st.sampled_from([*FIELDS, *SEARCHED]), st.text(max_size=4), st.integers(-1, 1), st.booleans(), st.none())
values = st.recursive(
    st.one_of(scalars, domains),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=6,
)
sections = st.one_of(values, st.dictionaries(keys, values, max_size=4))
trees = st.dictionaries(st.one_of(st.sampled_from([*SECTIONS, "name", "output", "seed"]), keys), sections, max_size=6)
texts = st.one_of(st.text(max_size=60), st.text(alphabet="{}[]:,&*!|>-# \n\tab1'\"%@`", max_size=60))


def say(error: PaceTuneError) -> None:
    assert str(error).strip()
    assert "Traceback" not in str(error)


def check(tree: Any) -> None:
    """A mapping becomes a study that can be written and read again, or a clean error."""
    try:
        study = Study.parse(tree)
    except PaceTuneError as error:
        say(error)
        return
    assert Study.parse(study.as_mapping()).as_mapping() == study.as_mapping()
    for point in study.first_points():
        study.active(point)


def check_changed(changes: dict) -> None:
    """The same where most of the file is right: the mistake lies deep."""
    check({**FIRM, **changes})


def check_text(text: str) -> None:
    """Text that is no YAML, or any YAML."""
    try:
        parsed = parse_yaml(text)
    except PaceTuneError:
        return
    if isinstance(parsed, dict):
        check(parsed)


def check_run(tree: dict) -> None:
    """A run file."""
    try:
        RunConfig.model_validate({key: value for key, value in {**FIRM, **tree}.items() if key != "search"})
    except PaceTuneError as error:
        say(error)


CASES = {"tree": (check, trees), "changed": (check_changed, trees), "text": (check_text, texts), "run": (check_run, trees)}


def fuzz(kind: str, examples: int) -> None:
    body, strategy = CASES[kind]
    quiet = settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    quiet(given(strategy)(body))()


@pytest.mark.parametrize("kind", CASES)
def test_no_study_file_ends_in_a_traceback(kind: str):
    fuzz(kind, FEW)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", CASES)
def test_ten_thousand_study_files(kind: str):
    fuzz(kind, MANY)


def test_bytes_that_are_no_text(tmp_path: Path):
    for index, content in enumerate((b"\xff\xfe\x00", b"a: \x80", b"\x00" * 9, yaml.safe_dump(FIRM).encode("utf-16"))):
        file = tmp_path / f"{index}.yaml"
        file.write_bytes(content)
        with pytest.raises(PaceTuneError):
            Study.load(file)
