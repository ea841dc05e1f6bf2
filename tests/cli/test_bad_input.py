"""A user's mistake: one clear line on stderr, exit status 2, nothing written."""

import os
import socket

import pytest

from pace_tune.cli.main import run
from pace_tune.files import write_text
from pace_tune.search.lease import Lease
from pace_tune.study.paths import assign
from pace_tune.study.study_config import Study
from pace_tune.study.sweep_database import database_url
from pace_tune.study.sweep_folder import HISTORY, LANES, claim_folder
from pace_tune.study.yaml_text import read_mapping, to_yaml
from tests.results.planned_sweeps import Planned, write_sweep

STUDIES = {
    "unknown task": ({"task": "digit"}, "task.name: unknown task 'digit'. Did you mean 'digits'"),
    "unknown method": ({"method": "lora_ad"}, "method.name: unknown method 'lora_ad'. Did you mean 'lora_add'"),
    "unknown field": ({"method": {"name": "lora_add", "rnak": 3}}, "method.rnak: unknown field of 'lora_add'. Did you mean 'rank'?"),
    "low above high": ({"optim.lr": {"float": [1.0, 0.1]}}, "optim.lr: `low <= high` must hold, but got low=1.0, high=0.1."),
    "no trials": ({"search": {"seed": 1}}, "search.trials: a study needs a number of trials"),
    "missing data": ({"data": {"root": "/nowhere/at/all"}}, "data.root: a folder must be there, but got '/nowhere/at/all'."),
}


def refused(capsys, *arguments: str) -> str:
    """Run a command that must fail, and return its one line."""
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("command", ["sweep", "validate"])
@pytest.mark.parametrize(("changes", "line"), STUDIES.values(), ids=STUDIES.keys())
def test_a_wrong_study(command, changes, line, digits, workplace, tmp_path, capsys):
    tree = read_mapping(digits)
    for path, value in changes.items():
        tree = assign(tree, path=path, value=value)
    study = tmp_path / "study.yaml"
    study.write_text(to_yaml(tree))
    assert refused(capsys, command, str(study)).startswith(line)
    assert not list(workplace.iterdir())


NOT_HERE = {
    "data": ({"task": {"name": "folder", "path": "fotos"}}, "task.path: there is no such file or folder: '{here}/fotos'."),
    "no weights named": ({"backbone": "vit_base_patch16_224"}, "backbone: 'vit_base_patch16_224' needs weights. Weights of timm"),
    "no weights file": (
        {"backbone": {"name": "vit_base_patch16_224", "checkpoint": "ViT.npz"}},
        "backbone: {here}/ViT.npz: no such weights file. ",
    ),
}


@pytest.mark.parametrize(("changes", "line"), NOT_HERE.values(), ids=NOT_HERE.keys())
def test_what_this_machine_lacks_is_said_before_anything_starts(changes, line, digits, run_file, workplace, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    said = line.format(here=workplace)
    for command, file in (("sweep", digits), ("train", run_file)):
        path = tmp_path / f"{command}.yaml"
        path.write_text(to_yaml({**read_mapping(file), **changes}))
        assert refused(capsys, command, str(path)).startswith(said)
    assert not list(workplace.iterdir())
    study = str(tmp_path / "sweep.yaml")
    assert run(["validate", study]) == 0
    assert f"Not on this machine: {said}" in capsys.readouterr().out
    if "backbone" in changes:
        assert refused(capsys, "validate", study, "--data").startswith(said)


def test_what_a_confirmation_lacks_is_said_at_once_before_it_trains(workplace, capsys, monkeypatch):
    study = write_sweep(workplace / "pace-runs", [Planned()]) / "study.yaml"
    changes = {"task": {"name": "folder", "path": "fotos"}, "backbone": {"name": "vit_base_patch16_224", "checkpoint": "ViT.npz"}}
    study.write_text(to_yaml({**read_mapping(study), **changes}))
    monkeypatch.setattr("pace_tune.results.confirm.train_runs", lambda *_, **__: pytest.fail("it trains"))
    assert run(["confirm", "digits"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    data, weights = said.err.splitlines()
    assert data == f"task.path: there is no such file or folder: '{workplace}/fotos'."
    assert weights.startswith(f"backbone: {workplace}/ViT.npz: no such weights file. ")


@pytest.mark.parametrize("command", ["sweep", "validate", "train"])
def test_a_file_that_is_missing(command, workplace, capsys):
    assert refused(capsys, command, "nothing.yaml") == "nothing.yaml: cannot read this file: No such file or directory."
    assert not list(workplace.iterdir())


def test_a_folder_of_another_study(digits, workplace, capsys):
    write_text(claim_folder(Study.load(digits, settings={"optim.epochs": 7, "output": "."})) / LANES / "t0000" / HISTORY, "{}\n")
    before = {path: path.read_bytes() for path in workplace.rglob("*") if path.is_file()}
    line = refused(capsys, "sweep", str(digits), "--output", ".")
    assert "holds another study: optim.epochs is 7 there and 24 here" in line
    assert {path: path.read_bytes() for path in workplace.rglob("*") if path.is_file()} == before


def test_a_sweep_that_is_being_run_is_refused_before_anything_is_read(digits, workplace, capsys, monkeypatch):
    driven = claim_folder(Study.load(digits))
    monkeypatch.setattr(Study, "load", lambda *_, **__: pytest.fail("the study was checked"))
    with Lease(database_url(driven), sweep="digits"):
        assert run(["sweep", str(digits)]) == 1
        assert run(["sweep", str(digits), "--set", "optim.epochs=7"]) == 1
    here, changed = capsys.readouterr().err.splitlines()
    assert here == changed == f"the sweep 'digits' is being run by process {os.getpid()} on {socket.gethostname()}; nothing was started."


RUNS = {
    "unknown field": (["--set", "method.rnak=3"], "method.rnak: unknown field of 'lora_add'. Did you mean 'rank'?"),
    "broken rule": (["--set", "optim.lr=-1"], "optim.lr: input should be greater than 0, but got -1."),
    "unknown name": (["--set", "objective.name=pac"], "objective.name: unknown objective 'pac'. Did you mean 'pace'"),
    "no setting": (["--set", "optim.lr"], "a setting is written path=value, e.g. optim.lr=1e-3, but got 'optim.lr'."),
    "missing data": (["--set", "data.root=/nowhere"], "data.root: a folder must be there, but got '/nowhere'."),
}


@pytest.mark.parametrize(("arguments", "line"), RUNS.values(), ids=RUNS.keys())
def test_a_wrong_run(arguments, line, run_file, workplace, capsys):
    assert refused(capsys, "train", str(run_file), *arguments).startswith(line)
    assert not list(workplace.iterdir())


def test_a_study_is_not_trained(digits, workplace, capsys):
    assert "this is a study, a run with holes: run `pace-tune sweep" in refused(capsys, "train", str(digits))
    assert not list(workplace.iterdir())


KINDS = ("tasks", "methods", "objectives", "backbones", "samplers", "studies", "sweeps")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["vaildate", "x"], "unknown command 'vaildate'. Did you mean 'validate'?"),
        (["ls", "method"], "Invalid value for"),
        (
            ["ls"],
            f"Missing argument '{{{'|'.join(KINDS)}}}'. Choose from: {', '.join(KINDS)}. See `pace-tune ls --help`.",
        ),
        (["sweep"], "Missing argument 'STUDY'. See `pace-tune sweep --help`."),
        (["train", "x", "--threads", "0"], "Invalid value for '--threads'"),
        (["best", "--output", "nowhere"], ""),
    ],
)
def test_a_wrong_command_line(arguments, line, workplace, capsys):
    assert refused(capsys, *arguments).startswith(line)
    assert not list(workplace.iterdir())
