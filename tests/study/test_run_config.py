import json
from pathlib import Path

import pytest

from pace_tune.component import Component
from pace_tune.errors import ConfigError
from pace_tune.registry import methods
from pace_tune.study.run_config import MeasureConfig, RunConfig
from pace_tune.study.yaml_text import parse_yaml, to_yaml

SMALL = {"task": "digits", "backbone": "vit_nano_cifar10", "method": "lora_add"}


def run(**parts) -> RunConfig:
    return RunConfig.model_validate({**SMALL, **parts})


def test_names_become_components_and_defaults_are_filled():
    config = run(objective={"name": "pace", "lambda": 0.2})
    assert isinstance(config.method, Component)
    assert config.method.name == "lora_add"
    assert config.objective.lambda_ == 0.2
    assert (config.optim.epochs, config.optim.warmup_epochs) == (100, 10)
    assert run().objective.name == "pace"


@pytest.mark.parametrize(("epochs", "warmup"), [(300, 10), (50, 5), (30, 3), (5, 0), (1, 0)])
def test_the_warm_up_keeps_its_share_of_a_short_run(epochs, warmup):
    assert run(optim={"epochs": epochs}).optim.warmup_epochs == warmup


@pytest.mark.parametrize(
    ("every", "epochs", "want"),
    [
        (None, 1, [1]),
        (None, 11, [11]),
        (None, 12, [1, 12]),
        (None, 30, [1, 8, 15, 23, 30]),
        (None, 100, [1, 12, 23, 34, 45, 56, 67, 78, 89, 100]),
        (4, 10, [4, 8, 10]),
        (0, 10, []),
    ],
)
def test_which_epochs_are_measured_follows_from_the_run_alone(every, epochs, want):
    config = MeasureConfig(every_epochs=every)
    assert [epoch for epoch in range(1, epochs + 1) if config.due(epoch, epochs=epochs)] == want


def test_small_data_sets_are_measured_on_few_samples():
    assert [MeasureConfig().samples_of(train) for train in (50, 100, 400, 800, 10_000)] == [16, 16, 50, 64, 64]
    assert MeasureConfig(samples=5).samples_of(800) == 5
    assert (MeasureConfig().gap_samples, MeasureConfig(samples=5).gap_samples) == (64, 5)


def test_flat_names_every_field_as_yaml_does():
    flat = run(objective={"name": "pace", "lambda": 0.2}, seed=3).flat()
    assert flat["objective.lambda"] == 0.2
    assert flat["method.name"] == "lora_add"
    assert flat["optim.betas"] == [0.9, 0.999]
    assert flat["seed"] == 3
    assert not any(isinstance(value, dict) for value in flat.values())


def test_the_mapping_is_plain_and_gives_the_same_run_again(tmp_path):
    config = run(data={"root": str(tmp_path)}, optim={"lr": "1e-3"})
    mapping = config.as_mapping()
    assert RunConfig.model_validate(mapping) == config
    assert json.loads(json.dumps(mapping)) == mapping
    assert parse_yaml(to_yaml(mapping)) == mapping
    assert config.optim.lr == 1e-3


def test_home_is_expanded_and_paths_are_absolute(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run(data={"root": "~/data"}).data.root == tmp_path / "data"
    assert run(data={"root": "data"}).data.root == Path.cwd() / "data"


def test_with_values_drops_what_the_new_class_lacks():
    config = run(method={"name": "lora_add", "rank": 7}, objective={"name": "pace", "sigma": 0.3})
    plain = config.with_values({"objective.name": "plain", "method.name": "lora_mul", "optim.lr": "1e-2"})
    assert plain.flat()["method.rank"] == 7
    assert "objective.sigma" not in plain.flat()
    assert plain.optim.lr == 1e-2
    assert config.with_values({"method": "linear"}).method.name == "linear"
    assert config.with_values({}) == config


@pytest.mark.parametrize(
    ("parts", "lines"),
    [
        ({"method": {"name": "lora_add", "rnak": 3}}, ["method.rnak: unknown field of 'lora_add'. Did you mean 'rank'?"]),
        ({"method": {"name": "linear", "rank": 3}}, ["method.rank: unknown field of 'linear'. It has no fields."]),
        ({"method": {"name": "lora_add", "rank": 0}}, ["method.rank: input should be greater than or equal to 1, but got 0."]),
        ({"method": {"rank": 3}}, ["method.name: a name is needed."]),
        ({"method": 3}, ["method: a name or a mapping with a name is needed, but got 3."]),
        (
            {"optim": {"epochs": 5, "warmup_epochs": 5}},
            ["optim.warmup_epochs: `warmup_epochs < epochs` must hold, but got warmup_epochs=5, epochs=5."],
        ),
        ({"optim": {"lr": "fast"}}, ["optim.lr: input should be a valid number, unable to parse string as a number, but got 'fast'."]),
        ({"optim": {"lr": float("nan")}}, ["optim.lr: input should be a finite number, but got nan."]),
        ({"data": {"selection": "test"}}, ["data.selection: input should be 'val', but got 'test'."]),
        ({"mesure": {}}, ["mesure: unknown field of 'run'. Did you mean 'measure'?"]),
        (
            {"optim": {"epochs": 0, "lerning_rate": 1}, "seed": -1},
            [
                "optim.epochs: input should be greater than or equal to 1, but got 0.",
                "optim.lerning_rate: unknown field of 'optim'.",
                "seed: input should be greater than or equal to 0, but got -1.",
            ],
        ),
    ],
)
def test_mistakes_are_lines_of_path_rule_value(parts, lines):
    with pytest.raises(ConfigError) as caught:
        run(**parts)
    found = str(caught.value).splitlines()
    assert len(found) == len(lines)
    assert all(line.startswith(expected) for line, expected in zip(found, lines, strict=True))


def test_an_unknown_name_gets_its_near_names():
    with pytest.raises(ConfigError, match=r"method.name: unknown method 'lora_ad'. Did you mean 'lora_add'"):
        run(method="lora_ad")


def test_a_missing_section_is_said():
    with pytest.raises(ConfigError, match=r"^backbone: a value is needed\.$"):
        RunConfig.model_validate({"task": "digits", "method": "linear"})


def test_a_run_file_is_no_study(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(to_yaml({**SMALL, "optim": {"lr": {"float": [1e-4, 1e-2]}}}))
    with pytest.raises(ConfigError, match=r"optim.lr: this is a study, a run with holes: run `pace-tune sweep"):
        RunConfig.load(path)


def test_settings_go_over_a_run_file(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(to_yaml(SMALL))
    assert RunConfig.load(path, settings={"optim.lr": 5e-3, "method.name": "linear"}) == run(method="linear", optim={"lr": 5e-3})


def test_a_method_of_a_plugin_is_a_method_like_any(monkeypatch, tmp_path):
    (tmp_path / "my_method.py").write_text(
        "from pydantic import Field\n"
        "from pace_tune.component import Component\n"
        "from pace_tune.registry import methods\n\n"
        "@methods.register('mine')\n"
        "class Mine(Component):\n"
        "    '''My own.'''\n\n"
        "    width: int = Field(default=2, ge=1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PACE_TUNE_PLUGINS", "my_method")
    try:
        assert run(method={"name": "mine", "width": 3}).flat()["method.width"] == 3
        assert "mine" in methods.names()
    finally:
        methods._classes.pop("mine", None)
