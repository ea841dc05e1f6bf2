"""`init_from`: what it may name, and what is refused before anything starts."""

import json
from pathlib import Path

import pytest

from pace_tune.errors import ConfigError
from pace_tune.study.run_config import RunConfig
from pace_tune.study.start import find_source, start_mistakes
from pace_tune.study.study_config import Study

from .conftest import changed

RUN = {"task": "digits", "backbone": "vit_nano_cifar10", "method": {"name": "lora_add", "rank": 3}}


def checkpoint(path: Path, *, epoch: int = 100, **changes) -> Path:
    """A lane's checkpoint as far as its header goes."""
    run = RunConfig.model_validate({**RUN, **changes}).as_mapping()
    header = json.dumps({"__metadata__": {"run": json.dumps(run), "epoch": str(epoch), "steps": "1"}}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    return path


def a_run(path: Path, **changes) -> RunConfig:
    return RunConfig.model_validate({**RUN, "init_from": str(path), **changes})


def lines(run: RunConfig) -> list[str]:
    return [str(mistake) for mistake in start_mistakes(run)]


def test_every_form_is_found(tmp_path):
    file = checkpoint(tmp_path / "run" / "lanes" / "t0000" / "lane.safetensors")
    (tmp_path / "run" / "RUN.yaml").write_text("task: digits\n")
    assert [find_source(path).path for path in (file, file.parent, tmp_path / "run")] == [file] * 3
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    assert find_source(tmp_path / "adapter").adapter == {"peft_type": "LORA"}
    assert lines(a_run(file)) == []
    assert lines(RunConfig.model_validate(RUN)) == []


def test_a_run_that_still_trains_is_refused_but_not_its_file(tmp_path):
    file = checkpoint(tmp_path / "t0000" / "lane.safetensors", epoch=7)
    (line,) = lines(a_run(file.parent))
    assert line.startswith("init_from.path: ")
    assert line.endswith("stands at epoch 7 of 100; a run starts from a finished one.")
    assert lines(a_run(file)) == []


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ("", "a trained run, a lane.safetensors or a peft adapter must be there"),
        ("study.yaml", "is a sweep; name the folder of one of its trials"),
        ("preprocess.json", "is a merged model, whose adapters are folded in"),
        ("lane.safetensors", "is no checkpoint of a lane"),
        ("adapter_config.json", "cannot be read"),
    ],
)
def test_what_is_nothing_to_start_from_is_named(tmp_path, made, said):
    folder = tmp_path / "it"
    folder.mkdir()
    if made:
        (folder / made).write_text("{")
    (line,) = lines(a_run(folder))
    assert line.startswith("init_from.path: ")
    assert said in line
    assert str(folder) in line


def test_another_method_backbone_or_setting_is_named_with_its_path(tmp_path):
    file = checkpoint(tmp_path / "lane.safetensors")
    assert lines(a_run(file, method={"name": "lora_add", "rank": 5})) == [
        f"method.rank: the run that it starts from has 3 ({file}), but got 5."
    ]
    (line,) = lines(a_run(file, method={"name": "lora_mul", "rank": 3}))
    assert line.startswith("method.name: the run that it starts from has 'lora_add'")
    (line,) = lines(a_run(file, backbone={"name": "vit_tiny_patch16_224", "random_weights": True}))
    assert line.startswith("backbone.name: ")
    # Dropout is how it was trained, not what was learned.
    other = checkpoint(tmp_path / "other.safetensors", method={"name": "lora", "dropout": 0.1})
    assert lines(a_run(other, method={"name": "lora"})) == []


def test_an_adapter_of_another_kind_is_refused(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "VERA"}')
    assert "none of peft's" in lines(a_run(tmp_path))[0]
    assert "is peft's VERA, but 'lora' is LORA" in lines(a_run(tmp_path, method="lora"))[0]
    assert lines(a_run(tmp_path, method="vera")) == []


def test_a_study_fixes_what_its_trials_start_from(tree, tmp_path):
    file = checkpoint(tmp_path / "lane.safetensors", method={"name": "lora_mul_vpt_add", "rank": 4})
    method = {"name": "lora_mul_vpt_add", "rank": 4}
    assert Study.parse(changed(tree, {"init_from": str(file), "method": method})).run({}).init_from.path == file
    with pytest.raises(ConfigError, match=r"^method\.rank: all trials start from the same adapters, so that it cannot be searched"):
        Study.parse(changed(tree, {"init_from": str(file), "method": {**method, "rank": {"int": [2, 8]}}}))
    with pytest.raises(ConfigError, match=r"^init_from\.path: all trials of a sweep share it"):
        Study.parse(changed(tree, {"init_from": {"choice": [str(file)]}}))
    with pytest.raises(ConfigError, match=r"init_from\.path: a trained run"):
        Study.parse(changed(tree, {"init_from.path": str(tmp_path / "gone")}))


def test_its_path_is_relative_to_the_folder_of_the_command(tree, tmp_path, monkeypatch):
    checkpoint(tmp_path / "here" / "lane.safetensors", method={"name": "lora_mul_vpt_add", "rank": 4})
    monkeypatch.chdir(tmp_path)
    study = Study.parse(changed(tree, {"init_from": "here", "method": {"name": "lora_mul_vpt_add", "rank": 4}}))
    monkeypatch.chdir("/")
    assert study.as_mapping()["init_from"]["path"] == str(tmp_path / "here")
    assert Study.parse(study.as_mapping()).run({}).init_from.path == tmp_path / "here"
