"""What the dashboard says by itself: descriptions, names, and a view of the runs table."""

import json

import pytest
from mlflow.tracking import MlflowClient

from pace_tune.tracking.attach import attach
from pace_tune.tracking.notes import NOTE, VIEW_TAG
from pace_tune.tracking.tracker import Tracker
from pace_tune.tracking.views import views
from tests.search.studies import study

RUN = {"task": {"name": "digits"}, "backbone": {"name": "b"}, "method": {"name": "m", "rank": 4}, "objective": {"name": "pace"}}


@pytest.fixture
def what(tmp_path, mlflow_store):
    found = study(tmp_path, name=tmp_path.name, tracking={"uri": mlflow_store, "experiment": tmp_path.name})
    found.folder.mkdir(parents=True)
    return found


@pytest.fixture
def client(mlflow_store) -> MlflowClient:
    return MlflowClient(mlflow_store)


def track(what) -> None:
    tracker = Tracker(what, folder=what.folder, sweep_id="id")
    tracker.start()
    tracker.started("t0000", RUN)
    tracker.reported("t0000", epoch=1, metrics={"val/accuracy": 0.5})
    tracker.ended("t0000", outcome="finished")
    assert tracker.close("finished", best="t0000") == 0


def runs(client, what):
    experiment = client.get_experiment_by_name(what.experiment)
    return experiment, {run.data.tags["pace.kind"]: run for run in client.search_runs([experiment.experiment_id])}


def test_an_experiment_a_sweep_and_a_trial_say_what_they_are(what, client):
    track(what)
    experiment, found = runs(client, what)
    assert experiment.tags[NOTE].startswith("Fine-tuning runs on one data set.")
    assert what.name in found["sweep"].data.tags[NOTE]
    assert "| `method.rank` | 4 |" in found["trial"].data.tags[NOTE]
    assert found["trial"].info.run_name == f"{what.name}-t0000 pace"


def test_the_view_of_the_runs_shows_the_best_first_and_what_was_searched(what, client):
    track(what)
    experiment, _ = runs(client, what)
    view = json.loads(experiment.tags[VIEW_TAG])
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`val/accuracy`", False), "what decides, not the best epoch"
    assert {"metrics.`val/accuracy`", "metrics.`measure/grad_norm`", "tags.`pace.objective`", "params.`method.rank`"} <= set(
        view["selectedColumns"]
    )
    assert (what.experiment, f"#/experiments/{experiment.experiment_id}/runs?viewStateShareKey=pace") in views(what.tracking_uri)


def test_words_that_people_wrote_are_left_alone(what, client):
    made = client.create_experiment(what.experiment, tags={NOTE: "mine"})
    track(what)
    tags = client.get_experiment(made).tags
    assert tags[NOTE] == "mine"
    assert VIEW_TAG in tags


def test_a_sweep_began_before_its_store_was_there(what, client):
    track(what)
    _, found = runs(client, what)
    assert found["sweep"].info.start_time <= found["trial"].info.start_time <= found["sweep"].info.end_time


def test_files_and_tags_are_put_on_the_sweeps_run(what, client, tmp_path):
    track(what)
    (page := tmp_path / "report.html").write_text("<html></html>")
    assert attach(what, sweep_id="id", files=[page], tags={"pace.confirmed": "better"})
    _, found = runs(client, what)
    assert "report.html" in {file.path for file in client.list_artifacts(found["sweep"].info.run_id)}
    assert found["sweep"].data.tags["pace.confirmed"] == "better"
    assert not attach(what, sweep_id="another", files=[page])


def test_many_verdicts_and_their_numbers_reach_the_sweep_or_one_trial(what, client, tmp_path):
    track(what)
    tags = {f"pace.verdict.claim{i}": "holds" for i in range(150)}
    numbers = {"verdict/thm2/norm": 0.5, "verdict/thm2/norm/low": 0.25, "verdict/thm2/norm/high": None}
    assert attach(what, sweep_id="id", files=[], tags=tags, metrics=numbers)
    assert attach(what, sweep_id="id", files=[], metrics={"verdict/thm3/bound": 0.1}, lane="t0000")
    assert not attach(what, sweep_id="id", files=[], metrics=numbers, lane="t0009")
    _, found = runs(client, what)
    assert tags.items() <= found["sweep"].data.tags.items()
    assert found["sweep"].data.metrics == {"verdict/thm2/norm": 0.5, "verdict/thm2/norm/low": 0.25}
    assert found["trial"].data.metrics["verdict/thm3/bound"] == 0.1


def test_a_store_that_is_not_there_is_not_made(tmp_path):
    what = study(tmp_path, name="away", tracking={"uri": f"sqlite:///{tmp_path / 'none.db'}"})
    assert not attach(what, sweep_id="id", files=[])
    assert not (tmp_path / "none.db").exists()
