import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pace_tune.cli.commands.train import _name as train_name
from pace_tune.cli.main import run
from pace_tune.registry import methods
from pace_tune.study.run_config import RunConfig
from pace_tune.study.yaml_text import read_mapping

from .conftest import ROOT, hear_interrupts


def answer(capsys, *arguments: str, status: int = 0) -> str:
    assert run(arguments) == status
    return capsys.readouterr().out


def facts(capsys, *arguments: str, status: int = 0):
    return json.loads(answer(capsys, *arguments, status=status))


def test_validate_shows_what_is_searched(digits, capsys):
    out = answer(capsys, "validate", str(digits))
    assert "is right" in out
    assert out.splitlines()[-1] == f"sweep     pace-tune sweep {digits}"
    assert "objective.lambda  0.02 to 2, log scale" in out
    assert "16 trials, max of val/accuracy" in out


def test_validate_tells_programs(digits, capsys):
    known = facts(capsys, "validate", str(digits), "--json", "--set", "search.trials=4", "--set", "optim.lr=1e-3")
    assert known["valid"]
    assert known["search"]["trials"] == 4
    assert known["space"]["objective.name"] == {"choice": ["pace", "plain"]}
    assert "optim.lr" not in known["space"]
    assert [point["objective.name"] for point in known["first_points"]] == ["pace", "plain"]
    wrong = facts(capsys, "validate", str(digits), "--json", "--set", "method.rnak=3", "--set", "search.trials=0", status=2)
    assert [line.partition(":")[0] for line in wrong["mistakes"]] == ["method.rnak", "search.trials"]
    assert not wrong["valid"]


def test_ls_lists_names_and_summaries(capsys, monkeypatch):
    assert [row["name"] for row in facts(capsys, "ls", "methods", "--json")] == list(methods.names())
    assert all(row["summary"] for kind in ("tasks", "objectives", "backbones", "samplers") for row in facts(capsys, "ls", kind, "--json"))
    monkeypatch.chdir(ROOT)
    studies = {row["study"]: row for row in facts(capsys, "ls", "studies", "--json")}
    assert studies["search_spaces/digits.yaml"]["objective"] == "pace, plain"


def test_ls_keeps_the_paths_of_studies_whole_in_a_pipe_and_all_their_letters_on_a_narrow_terminal(workplace, digits, capsys, monkeypatch):
    paths = [workplace / "a" / ("deep-" * 40) / "own.yaml", workplace / "own.yaml"]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(digits.read_text())
    shown = answer(capsys, "ls", "studies", "--folder", ".").splitlines()
    assert [line.split()[-1] for line in shown] == ["study", *(str(path.relative_to(workplace)) for path in paths)]
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    narrow = answer(capsys, "ls", "studies", "--folder", ".").splitlines()
    assert max(map(len, narrow[1:])) <= 60
    assert str(paths[0].relative_to(workplace)) in "".join(line.split()[-1] for line in narrow if line.strip())


def test_ls_shows_a_broken_study_and_goes_on(workplace, digits, capsys):
    (workplace / "a.yaml").write_text("task: [")
    (workplace / "b.yaml").write_text(digits.read_text())
    rows = facts(capsys, "ls", "studies", "--folder", str(workplace), "--json")
    assert "this is no valid YAML" in rows[0]["mistakes"][0]
    assert (rows[1]["task"], len(rows)) == ("digits", 2)


def test_help_keeps_what_works_on_a_cluster_apart(capsys):
    run(["--help"])
    here, cluster = capsys.readouterr().out.split("Sweeps on a cluster:")
    assert all(f"\n  {name} " in here for name in ("sweep", "ls", "best"))
    assert all(f"\n  {name} " in cluster for name in ("submit", "list", "logs", "status"))


def test_schema_goes_to_a_file_or_to_the_screen(workplace, capsys):
    printed = facts(capsys, "schema")
    answer(capsys, "schema", "-o", "schema.json")
    assert json.loads((workplace / "schema.json").read_text()) == printed


def test_doctor_finds_this_machine_fit(workplace, capsys):
    findings = {finding["check"]: finding for finding in facts(capsys, "doctor", "--json")}
    assert findings["torch"]["state"] == findings["ray[default]"]["state"] == "ok"
    assert "offline" in findings["Hugging Face"]["detail"]
    assert "torch threads" in findings["accelerator"]["detail"]
    assert not list(workplace.iterdir())


def test_doctor_says_where_it_cannot_write(workplace, capsys):
    (workplace / "file").write_text("")
    found = facts(capsys, "doctor", "--json", "--output", "file/below", status=1)
    assert [finding["check"] for finding in found if finding["state"] == "fault"] == ["output"]


def test_train_leaves_run_metrics_and_checkpoint_and_is_not_repeated(workplace, run_file, capsys):
    first = answer(capsys, "train", str(run_file), "--threads", "1", "--set", "optim.lr=2e-3")
    assert "val/accuracy" in first
    assert "finished after epoch 2 of 2" in first
    out = workplace / "pace-runs" / "train" / "RUN"
    config = RunConfig.load(out / "RUN.yaml")
    assert config.optim.lr == 2e-3
    report = json.loads((out / "metrics.json").read_text())
    assert report["state"] == "finished"
    assert list(out.glob("lanes/*/*.safetensors"))
    again = facts(capsys, "train", str(out / "RUN.yaml"), "--out", str(out), "--threads", "1", "--json")
    assert again["metrics"] == report["metrics"]


def test_the_best_runs_of_two_sweeps_have_folders_of_their_own(workplace, run_file):
    (workplace / "pace-runs" / "photos").mkdir(parents=True)
    best = shutil.copy(run_file, workplace / "pace-runs" / "photos" / "best.yaml")
    assert train_name(Path(best)) == "best"
    (workplace / "pace-runs" / "photos" / "study.yaml").touch()
    assert train_name(Path(best)) == "photos-best"


def test_train_refuses_the_folder_of_another_run(workplace, run_file, capsys):
    answer(capsys, "train", str(run_file), "--threads", "1", "--out", "here")
    assert run(["train", str(run_file), "--out", "here", "--set", "seed=5"]) == 2
    assert "holds another run: seed is 0 there and 5 here" in capsys.readouterr().err
    (workplace / "notes").mkdir()
    (workplace / "notes" / "mine.txt").write_text("")
    assert run(["train", str(run_file), "--out", "notes"]) == 2
    assert "is not empty and holds no run" in capsys.readouterr().err


@pytest.mark.timeout(120)
def test_train_is_interrupted_cleanly_and_goes_on(workplace, run_file):
    command = [sys.executable, "-m", "pace_tune", "train", str(run_file), "--set", "optim.epochs=400", "--threads", "1", "--out", "long"]
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_interrupts,  # noqa: PLW1509  (no other thread runs here)
    )
    history = workplace / "long" / "lanes" / "t0000" / "history.jsonl"
    try:
        for _ in range(400):
            if history.is_file() and history.read_text().count("\n") >= 3:
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert err.splitlines()[-1] == "Interrupted; the same command goes on."
    assert out == ""
    assert not (workplace / "long" / "metrics.json").exists()
    assert read_mapping(workplace / "long" / "RUN.yaml")["optim"]["epochs"] == 400


def test_methods_are_counted_on_a_backbone(capsys, monkeypatch):
    rows = [
        {
            "name": "lora",
            "parameters": 294912,
            "with_head": 371812,
            "merges": True,
            "identity_at_start": True,
            "lanes": True,
            "paper": "Hu",
            "refused": "",
        },
        {
            "name": "bitfit",
            "parameters": None,
            "with_head": None,
            "merges": None,
            "identity_at_start": True,
            "lanes": True,
            "paper": "",
            "refused": "no biases",
        },
    ]
    monkeypatch.setattr("pace_tune.worker.describe_methods", lambda backbone, progress: rows if backbone == "vit" else [])
    assert facts(capsys, "ls", "methods", "--backbone", "vit", "--json") == rows
    shown = answer(capsys, "ls", "methods", "--backbone", "vit")
    assert "294912" in shown
    assert "no biases" in shown
    assert run(["ls", "tasks", "--backbone", "vit"]) == 2
    assert "ls methods" in capsys.readouterr().err


def test_plan_says_where_the_workers_fit(digits, workplace, capsys, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    two = ("--set", "resources.workers=2")
    assert "\nfits      2 workers of 1 CPU on this machine's 2 CPUs\n" in answer(capsys, "plan", str(digits), *two)
    shown = answer(capsys, "plan", str(digits), *two, "--set", "resources.gpus_per_worker=1")
    assert "\nfits      2 workers of 1 CPU and 1 GPU on this machine's 2 CPUs; GPUs are not looked for\n" in shown
    shown = answer(capsys, "plan", str(digits), *two, "--node", "16,1", "--node", "8,1")
    assert "\nfits      2 workers of 1 CPU and 1 GPU on 24 CPUs and 2 GPUs of 2 nodes\n" in shown
    assert run(["plan", str(digits), "--set", "resources.workers=3"]) == 2
    assert "cannot be placed: there is room for 2 on 2 CPUs" in capsys.readouterr().err


def test_plan_ends_with_the_command_that_starts_it(digits, workplace, capsys):
    text = answer(capsys, "plan", str(digits), "--set", "search.trials=4", "--set", "method={name: linear}", "--output", "my runs")
    arguments = f"{digits} --set search.trials=4 --set 'method={{name: linear}}'"
    assert text.splitlines()[-1] == f"sweep     pace-tune sweep {arguments} --output 'my runs'"
    text = answer(capsys, "plan", str(digits), "--node", "8")
    assert text.splitlines()[-1] == f"submit    pace-tune submit {digits} --address http://HEAD:8265"
    assert not list(workplace.iterdir())
