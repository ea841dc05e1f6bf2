"""The main job by its commands: search, the winner, training it, confirming it."""

import contextlib
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from pace_tune.cli.main import run
from pace_tune.study.run_config import RunConfig

from .conftest import ROOT

SMALL = ["search.trials=2", "resources.lanes=2", "optim.epochs=2", "optim.warmup_epochs=0", "measure.every_epochs=0"]


@dataclass
class Answer:
    status: int
    out: str
    err: str


def pace_tune(folder: Path, *arguments: str) -> Answer:
    """Run a command in a folder, in this process: torch and Ray are started once."""
    before = Path.cwd()
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        os.chdir(folder)
        try:
            return Answer(run(arguments), out.getvalue(), err.getvalue())
        finally:
            os.chdir(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("sweep")


@pytest.fixture(scope="module")
def swept(folder, ray_cluster) -> Answer:
    settings = [part for setting in SMALL for part in ("--set", setting)]
    return pace_tune(folder, "sweep", str(ROOT / "search_spaces" / "digits.yaml"), *settings)


def test_a_sweep_ends_with_the_best_recipe_and_where_things_lie(swept, folder):
    assert swept.status == 0, swept.err
    recipe = swept.out.partition("Best recipe\n")[2].splitlines()
    assert recipe[2] == "# Searched:"
    assert {"optim.lr", "method.rank"} <= {line.split()[1] for line in recipe[3:] if line.startswith("#   ")}
    assert "warmup_lr" not in swept.out, "a default hides what was searched"
    assert f"picture   {folder}/pace-runs/digits/picture.png" in swept.out
    assert "dashboard pace-tune ui" in swept.out
    written = {"study.yaml", "best.yaml", "picture.png", "leaderboard.json", "report.html"}
    assert written <= {path.name for path in (folder / "pace-runs/digits").iterdir()}


def test_the_report_is_on_the_sweeps_run_in_the_dashboard(swept, folder):
    client = MlflowClient(f"sqlite:///{folder / 'pace-runs' / 'mlflow.db'}")
    (experiment,) = (one for one in client.search_experiments() if one.name == "digits")
    (run,) = client.search_runs([experiment.experiment_id], "tags.`pace.kind` = 'sweep'")
    assert {"report.html", "picture.png", "study.yaml"} <= {file.path for file in client.list_artifacts(run.info.run_id)}


def test_the_theorems_are_ruled_on_and_verdicts_numbers_and_pictures_are_on_the_sweeps_run(swept, folder):
    done = pace_tune(folder, "verify", "digits", "--json")
    assert done.status == 0, done.err
    told = json.loads(done.out)
    assert {row["verdict"] for row in told["rows"]} <= {"holds", "does not hold", "cannot tell"}
    assert all(Path(file).is_file() for file in told["files"])
    client = MlflowClient(f"sqlite:///{folder / 'pace-runs' / 'mlflow.db'}")
    (experiment,) = (one for one in client.search_experiments() if one.name == "digits")
    (run,) = client.search_runs([experiment.experiment_id], "tags.`pace.kind` = 'sweep'")
    tags = {key.removeprefix("pace.verdict."): value for key, value in run.data.tags.items() if key.startswith("pace.verdict.")}
    assert tags == {row["claim"]: row["verdict"] for row in told["rows"]}
    numbers = {row["claim"]: row["number"] for row in told["rows"] if row["number"] is not None}
    assert numbers
    assert {claim: run.data.metrics[f"verdict/{claim}"] for claim in numbers} == numbers
    assert {Path(file).name for file in told["files"]} <= {file.path for file in client.list_artifacts(run.info.run_id)}
    assert "verify.json" in {file.path for file in client.list_artifacts(run.info.run_id)}


def test_the_same_command_once_more_says_that_nothing_was_left_to_do(swept, folder):
    settings = [part for setting in SMALL for part in ("--set", setting)]
    again = pace_tune(folder, "sweep", str(ROOT / "search_spaces" / "digits.yaml"), *settings)
    assert again.status == 0
    assert again.err.splitlines()[0] == "digits was complete: nothing was trained"
    assert "was complete" not in swept.err


def test_a_report_is_written_again_with_the_published_tables(swept, folder):
    done = pace_tune(folder, "report", "digits", "--paper", "-o", "both.html", "--json")
    assert done.status == 0, done.err
    told = json.loads(done.out)
    assert (told["sweeps"], told["tracked"]) == (["digits"], ["digits"])
    assert "VTAB-1k" in (folder / "both.html").read_text()
    assert (folder / "both_files" / "digits-leaderboard.csv").is_file()
    assert pace_tune(folder, "report", "cifar").status == 2


def test_the_neighbours_of_the_winner_are_shown(swept, folder):
    done = pace_tune(folder, "best", "digits", "--neighbours", "3")
    assert done.status == 0, done.err
    assert "next to it" in done.out
    (best,) = json.loads(pace_tune(folder, "best", "digits", "--neighbours", "3", "--json").out)
    assert [one["verdict"] for one in best["neighbours"]]


def test_the_winner_is_a_run_file_that_trains(swept, folder):
    printed = pace_tune(folder, "best", "digits")
    assert printed.status == 0, printed.err
    assert pace_tune(folder, "best", "digits", "-o", "winner.yaml").status == 0
    assert (folder / "winner.yaml").read_text() == pace_tune(folder, "best", "digits", "--full").out
    (folder / "short.yaml").write_text(printed.out)
    assert len(printed.out) < len((folder / "winner.yaml").read_text())
    for file in ("winner.yaml", "short.yaml"):
        assert RunConfig.load(folder / file) == RunConfig.load(folder / "pace-runs/digits/best.yaml")
    assert "digits" in pace_tune(folder, "best").out
    (best,) = json.loads(pace_tune(folder, "best", "--json").out)
    trained = pace_tune(folder, "train", "winner.yaml", "--threads", "1", "--json")
    # Alone as among the sweep's lanes: same losses to float tolerance, so the same accuracy give or take an image.
    assert json.loads(trained.out)["metrics"]["val/accuracy"] == pytest.approx(best["value"], abs=0.011)


def test_the_winner_is_confirmed_beside_plain(swept, folder):
    done = pace_tune(folder, "confirm", "digits", "--seeds", "1", "--processes", "1", "--json")
    assert done.status == 0, done.err
    (confirmation,) = json.loads(done.out)
    assert confirmation["metric"] == "test/accuracy"
    assert {score["recipe"] for score in confirmation["scores"]} == {"pace", "plain", "noise"}
    assert json.loads((folder / "pace-runs/digits/confirm.json").read_text()) == confirmation


def test_what_was_never_searched_is_said(folder, swept):
    done = pace_tune(folder, "best", "cifar")
    assert (done.status, done.out) == (2, "")
    assert done.err == "unknown study or task 'cifar'. Known: digits.\n"
    done = pace_tune(folder, "ui", "--output", "elsewhere")
    assert done.status == 2
    assert "no tracking store in this folder" in done.err


def test_the_winner_is_exported_registered_and_found_by_its_run(swept, folder):
    from mlflow.tracking import MlflowClient

    done = pace_tune(folder, "export", "digits", "-o", "model", "--register", "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out)["registered"] == "models:/pace-tune.digits@best"
    store = MlflowClient(f"sqlite:///{folder / 'pace-runs' / 'mlflow.db'}")
    version = store.get_model_version_by_alias("pace-tune.digits", "best")
    again = pace_tune(folder, "export", version.run_id, "-o", "again", "--json")
    assert json.loads(again.out)["lane"] == json.loads(done.out)["lane"]
    unknown = pace_tune(folder, "export", "0" * 32, "-o", "nothing")
    assert (unknown.status, unknown.err) == (2, f"unknown MLflow run '{'0' * 32}'.\n")
