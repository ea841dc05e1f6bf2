"""`protocol: paper`: published settings lie under what a file says."""

import pytest

from pace_tune.errors import ConfigError
from pace_tune.study.protocol import with_protocol
from pace_tune.study.run_config import RunConfig
from pace_tune.study.study_config import Study


def test_published_settings_fill_what_the_file_leaves_open():
    tree = with_protocol({"protocol": "paper", "task": "vtab/cifar", "optim": {"epochs": 100}})
    assert tree["optim"]["epochs"] == 100
    assert (tree["optim"]["lr"], tree["optim"]["weight_decay"], tree["optim"]["schedule"]) == (1e-3, 1e-4, "cosine_published")
    assert tree["method"] == {"name": "lora_mul_vpt_add", "rank": 10}
    assert tree["data"]["selection"] == "val"
    assert "protocol" not in tree


def test_another_method_takes_none_of_the_published_ones_fields():
    tree = with_protocol({"protocol": "paper", "task": "vtab/cifar", "method": "linear"})
    assert tree["method"] == {"name": "linear"}
    assert tree["backbone"]["name"] == "vit_base_patch16_224"


def test_a_study_and_a_run_file_may_name_it(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("protocol: paper\ntask: vtab/svhn\nobjective: plain\n", encoding="utf-8")
    assert RunConfig.load(path).optim.lr == 1e-2
    tree = {
        "protocol": "paper",
        "task": "vtab/svhn",
        "method": {"rank": {"int": [2, 16]}, "name": "lora_mul_vpt_add"},
        "search": {"trials": 2},
    }
    study = Study.parse(tree)
    assert study.run({"method.rank": 4}).optim.epochs == 300
    assert study.as_mapping()["protocol"] == "paper"
    assert Study.parse(study.as_mapping()) == study


def test_its_notes_go_with_a_study_and_null_is_no_protocol():
    tree = {"protocol": "paper", "task": "glue/rte", "search": {"trials": 2}}
    notes = Study.parse(tree).notes
    assert any("MNLI" in note for note in notes)
    assert any("best epoch on the development set" in note for note in notes)
    plain = {"protocol": None, "task": "digits", "backbone": "vit_nano_cifar10", "method": "linear", "search": {"trials": 2}}
    assert Study.parse(plain).notes == ()
    assert "protocol" not in Study.parse(plain).as_mapping()


@pytest.mark.parametrize(
    ("tree", "sentence"),
    [
        ({"protocol": "papr", "task": "vtab/cifar"}, "protocol: unknown protocol 'papr'. Did you mean 'paper'?"),
        ({"protocol": "paper", "task": "digits"}, "protocol: nothing is published for task 'digits'; leave the key out."),
        ({"protocol": "paper", "task": "vtab/cifr"}, "task.name: unknown task 'vtab/cifr'. Did you mean 'vtab/cifar'"),
    ],
)
def test_mistakes_are_one_line(tree, sentence):
    with pytest.raises(ConfigError) as caught:
        with_protocol(tree)
    assert str(caught.value).startswith(sentence)
