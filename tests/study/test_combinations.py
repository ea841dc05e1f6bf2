"""What a worker would refuse is said of the study: by the same reasons, before weights or data are loaded."""

import json

import pytest
import torch

from pace_tune.errors import ConfigError, UnsupportedError
from pace_tune.methods.adapted import adapt
from pace_tune.methods.site import LinearSite
from pace_tune.methods.sites.head import HeadDelta
from pace_tune.methods.sites.tuner import TunerSite
from pace_tune.pace.criterion import CRITERIA
from pace_tune.registry import methods, objectives
from pace_tune.study.combinations import misfits
from pace_tune.study.run_config import RunConfig
from pace_tune.study.study_config import Study
from tests.methods.test_contract import SMALL
from tests.methods.tiny_models import CLASSES, inputs_of, model_of


def lines(**sections) -> list[str]:
    run = {"task": "digits", "backbone": "vit_nano_cifar10", "method": "lora", "objective": "plain", **sections}
    return [str(mistake) for mistake in misfits(RunConfig.model_validate(run))]


def model_folder(folder, model_type) -> dict:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    return {"path": str(folder)}


def test_tasks_and_backbones_of_different_kinds(tmp_path):
    assert lines() == []
    assert lines(task="glue/cola") == [
        "backbone.name: task 'glue/cola' needs a backbone that takes texts, but 'vit_nano_cifar10' takes images."
    ]
    assert "takes prompts to continue" in lines(task="glue/cola", backbone="phi3_mini")[0]
    assert (
        "needs a backbone that takes prompts to continue, but 'roberta_base' takes texts" in lines(task="gsm8k", backbone="roberta_base")[0]
    )
    assert lines(task="gsm8k", backbone="phi3_mini") == []
    assert lines(task="gsm8k", backbone="phi3_mini", method="linear") == [
        "method.name: method 'linear' trains a head, and task 'gsm8k' is for a model without one."
    ]


def test_methods_on_families_by_name_or_by_the_folders_configuration(tmp_path):
    assert lines(task="gsm8k", backbone="phi3_mini", method="bitfit") == [
        "method.name: method 'bitfit' is not defined on models of family 'phi3', as 'phi3_mini' is: it has no biases."
    ]
    backbone = {"name": "hf_causal", **model_folder(tmp_path / "m", "llama")}
    assert "family 'llama', as 'hf_causal' is" in lines(task="gsm8k", backbone=backbone, method="bitfit")[0]
    assert lines(task="gsm8k", backbone={"name": "hf_causal", "path": str(tmp_path / "gone")}, method="bitfit") == []
    assert "swin" in lines(backbone="swin_base_patch4_window7_224", method="vpt_deep")[0]


def test_a_study_names_each_misfit_of_its_choices_once(tree):
    (tree := {**tree, "task": "gsm8k", "backbone": "phi3_mini"})["method"] = {"name": {"choice": ["lora", "bitfit", "linear"]}}
    tree["objective"] = {"name": {"choice": ["pace_fast", "plain"]}}
    with pytest.raises(ConfigError) as caught:
        Study.parse(tree)
    assert [mistake.path for mistake in caught.value.mistakes] == ["objective.name", "method.name", "method.name"]
    assert "objective 'pace_fast' is not defined on tasks whose targets are tokens, as 'gsm8k' is: " in str(caught.value)
    assert "use pace_lazy" in str(caught.value)


METHODS = ("lora", "ssf", "adaptformer", "vpt_deep", "bitfit", "linear", "full", "glora", "noah", "rep_adapter", "vera", "peft:oft")


@pytest.mark.parametrize("name", objectives.names())
def test_an_objective_runs_with_every_method_and_target_that_it_does_not_refuse(name):
    cases = [("vit", method, "class") for method in METHODS] + [("vit", "lora", "value"), ("llama", "lora", "token")]
    for family, method, target in cases:
        built, objective = methods.build({"name": method, **SMALL.get(method, {})}), objectives.build(name)
        refused = {target, built.changes} & objective.refused.keys()
        adapted = adapt(model_of(family, dtype=torch.float32), built)
        inputs = inputs_of(family, dtype=torch.float32)
        rows = len(next(iter(inputs.values())))
        targets = {"class": torch.arange(rows) % CLASSES, "value": torch.rand(rows), "token": inputs.get("input_ids")}[target]
        classes = adapted.layout.head.linear.out_features if adapted.layout.head else 0
        memory = objective.memory(samples=rows, classes=classes, sites=len(adapted.sites))

        def step(memory=memory, targets=targets, inputs=inputs, adapted=adapted, objective=objective, target=target):
            return objective(adapted, inputs, targets, index=torch.arange(len(targets)), memory=memory, criterion=CRITERIA[target])

        if not refused:
            assert torch.isfinite(step().total), (name, method, target)
        else:
            with pytest.raises((UnsupportedError, RuntimeError)):
                step()


@pytest.mark.parametrize("name", [n for n in methods.names() if not n.startswith("peft:") or n in ("peft:oft", "peft:ln_tuning")])
def test_a_method_changes_what_it_says(name):
    adapted = adapt(model_of("vit", dtype=torch.float32), methods.build({"name": name, **SMALL.get(name, {})}))
    sites = [site for site in adapted.sites.values() if not isinstance(site.delta, HeadDelta)]
    if not sites:
        changes = "head"
    elif all(isinstance(site, TunerSite) for site in sites):
        changes = "peft"
    else:
        changes = "linear" if all(isinstance(site, LinearSite) for site in sites) else "other"
    assert methods.get(name).changes == changes
