"""`validate` says what a study's published protocol leaves open."""

import json

import pytest

from pace_tune.cli.main import run

from .conftest import ROOT

NOTES = {
    "vtab/cifar": ("epochs 1 and 2 both run at warmup_lr", "best on test, which is not copied"),
    "fewshot/pets": ("1-shot lists of the pets hold two lines a class",),
    "glue/rte": ("starts from adapters trained on MNLI", "best epoch on the development set"),
    "gsm8k": ("both readings are reported",),
}


@pytest.mark.parametrize("task", NOTES)
def test_a_shipped_study_of_the_paper_lists_its_notes(task, capsys):
    path = str(ROOT / "search_spaces" / f"{task}.yaml")
    assert run(["validate", path]) == 0
    shown = capsys.readouterr().out
    assert f"What the published protocol of {task} leaves open" in shown
    assert run(["validate", path, "--json"]) == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    for said in NOTES[task]:
        assert said in shown
        assert any(said in note for note in notes)


def test_a_study_without_a_protocol_has_none(digits, capsys):
    assert run(["validate", str(digits), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["notes"] == []
