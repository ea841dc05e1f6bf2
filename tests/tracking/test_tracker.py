import math
import shutil
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from pace_tune.study.study_config import Study
from pace_tune.tracking import writer as writer_module
from pace_tune.tracking.new_store import ensure_store
from pace_tune.tracking.spool import Spool
from pace_tune.tracking.store import Store
from pace_tune.tracking.tracker import Tracker, store_spec
from tests.search.stores import points_in_mlflow, runs_in_mlflow
from tests.search.studies import study

RUN = {"task": {"name": "digits"}, "backbone": {"name": "b"}, "method": {"name": "m", "rank": 4}, "objective": {"name": "pace"}, "seed": 3}


@pytest.fixture
def what(tmp_path, mlflow_store) -> Study:
    return study(tmp_path, name=tmp_path.name, tracking={"uri": mlflow_store, "experiment": tmp_path.name})


def tracker(what: Study, **options) -> Tracker:
    what.folder.mkdir(parents=True, exist_ok=True)
    made = Tracker(what, folder=what.folder, sweep_id=f"id-{what.name}", **options)
    made.start()
    return made


def track(one: Tracker, lane: str, values: list[float], *, first: int = 1) -> None:
    one.started(lane, RUN)
    for epoch, value in enumerate(values, start=first):
        one.reported(lane, epoch=epoch, metrics={"val/accuracy": value, "train/loss": 1 - value})


def test_a_sweep_is_one_run_and_each_trial_one_below_it(what):
    one = tracker(what)
    track(one, "t0000", [0.1, 0.3, 0.2])
    one.ended("t0000", outcome="finished")
    track(one, "t0001", [0.1])
    one.ended("t0001", outcome="pruned")
    one.started("t0002", RUN)
    one.ended("t0002", outcome="failed", reason="no memory")
    assert one.close("finished", best="t0000") == 0
    runs = {run.data.tags["pace.trial"]: run for run in runs_in_mlflow(what)}
    assert {lane: run.info.status for lane, run in runs.items()} == {"t0000": "FINISHED", "t0001": "KILLED", "t0002": "FAILED"}
    assert runs["t0002"].data.tags["pace.reason"] == "no memory"
    assert runs["t0000"].data.params["method.rank"] == "4"
    assert runs["t0000"].data.metrics["best/accuracy"] == 0.3
    assert runs["t0000"].data.metrics["best/step"] == 2
    parent = MlflowClient(what.tracking_uri).get_run(runs["t0000"].data.tags["mlflow.parentRunId"])
    assert (parent.info.run_name, parent.info.status, parent.data.tags["pace.best"]) == (what.name, "FINISHED", "t0000")


def test_the_run_file_and_the_environment_are_artifacts(what):
    one = tracker(what)
    track(one, "t0000", [0.1])
    one.close("finished")
    client, (run,) = MlflowClient(what.tracking_uri), runs_in_mlflow(what)
    assert "rank: 4" in Path(client.download_artifacts(run.info.run_id, "RUN.yaml")).read_text()
    environment = Path(client.download_artifacts(run.data.tags["mlflow.parentRunId"], "environment.yaml")).read_text()
    assert "packages" in environment


def test_what_was_reported_before_is_not_logged_again(what):
    one = tracker(what)
    track(one, "t0000", [0.1, 0.2])
    one.close("interrupted")
    again = tracker(what)
    track(again, "t0000", [0.1, 0.2, 0.3])
    again.ended("t0000", outcome="finished")
    track(again, "t0000", [0.1, 0.2, 0.3, 0.4])
    again.ended("t0000", outcome="failed")
    again.close("finished")
    (run,) = runs_in_mlflow(what)
    assert points_in_mlflow(what, run, "val/accuracy") == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert run.info.status == "FINISHED"


def test_an_interrupted_trial_is_neither_running_nor_ended(what):
    one = tracker(what)
    track(one, "t0000", [0.1])
    one.close("interrupted")
    (run,) = runs_in_mlflow(what)
    assert (run.info.status, run.data.tags["pace.state"]) == ("SCHEDULED", "interrupted")


def test_a_writer_that_dies_before_it_notes_what_it_wrote_writes_no_point_twice(what, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Spool, "save_cursor", lambda *_: None)
        one = tracker(what)
        track(one, "t0000", [0.1, 0.2])
        one.close("interrupted")
    again = tracker(what)
    again.close("interrupted")
    (run,) = runs_in_mlflow(what)
    assert points_in_mlflow(what, run, "val/accuracy") == [(1, 0.1), (2, 0.2)]
    assert len(list(Store(store_spec(what, sweep_id=f"id-{what.name}")).find(kind="sweep"))) == 1


def test_a_lost_spool_finds_the_runs_again(what):
    one = tracker(what)
    track(one, "t0000", [0.1])
    one.close("interrupted")
    shutil.rmtree(what.folder / "spool")
    again = tracker(what)
    track(again, "t0000", [0.2], first=2)
    again.close("finished")
    (run,) = runs_in_mlflow(what)
    assert points_in_mlflow(what, run, "val/accuracy") == [(1, 0.1), (2, 0.2)]


def test_a_run_is_made_once_though_the_answer_was_lost(what, monkeypatch):
    monkeypatch.setattr(writer_module, "INTERVAL_S", 0.1)
    create, lost = MlflowClient.create_run, []

    def loses(self, *args, **kwargs):
        run = create(self, *args, **kwargs)
        if len(lost) < 2:
            lost.append(run.data.tags["pace.kind"])
            raise ConnectionError("connection broken")
        return run

    monkeypatch.setattr(MlflowClient, "create_run", loses)
    one = tracker(what)
    track(one, "t0000", [0.1, 0.2])
    one.ended("t0000", outcome="finished")
    assert one.close("finished") == 0
    assert lost == ["sweep", "trial"]
    (run,) = runs_in_mlflow(what)
    assert points_in_mlflow(what, run, "val/accuracy") == [(1, 0.1), (2, 0.2)]


def test_values_that_no_chart_can_draw_are_left_out_and_odd_names_are_mended(what):
    one = tracker(what)
    one.started("t0000", RUN)
    metrics = {"val/accuracy": math.nan, "train/loss": math.inf, "measure/norm[0]": 1.0, "ok": True}
    one.reported("t0000", epoch=1, metrics=metrics)
    one.close("finished")
    (run,) = runs_in_mlflow(what)
    assert run.data.metrics == {"measure/norm_0_": 1.0}


def test_a_store_that_is_away_stops_nobody_and_gets_everything_when_it_is_back(tmp_path, mlflow_store, monkeypatch):
    monkeypatch.setattr(writer_module, "LONGEST_PAUSE_S", 0.2)
    monkeypatch.setattr(writer_module, "INTERVAL_S", 0.1)
    path = tmp_path / "mlflow.db"
    shutil.copy(mlflow_store.removeprefix("sqlite:///"), path)
    what = study(tmp_path, name="away", tracking={"uri": f"sqlite:///{path}"})
    said: list[str] = []
    lock = sqlite3.connect(path, isolation_level=None)
    monkeypatch.setattr(Store, "write", _refusing(Store.write, lambda: bool(said) is False or path.with_suffix(".away").exists()))
    path.with_suffix(".away").touch()
    one = tracker(what, say=said.append)
    began = time.monotonic()
    track(one, "t0000", [0.1, 0.2])
    assert time.monotonic() - began < 0.5
    assert _soon(lambda: said)
    assert "does not answer" in said[0]
    path.with_suffix(".away").unlink()
    one.ended("t0000", outcome="finished")
    assert one.close("finished") == 0
    assert "is back" in said[1]
    (run,) = runs_in_mlflow(what)
    assert points_in_mlflow(what, run, "val/accuracy") == [(1, 0.1), (2, 0.2)]
    lock.close()


def _refusing(write, away):
    def refuses(self, *args, **kwargs):
        if away():
            raise ConnectionError("nobody there")
        return write(self, *args, **kwargs)

    return refuses


def _soon(condition) -> bool:
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(condition())


def test_a_server_that_is_not_there_is_left_with_the_spool_to_be_written_later(tmp_path, mlflow_store):
    what = study(tmp_path, name=tmp_path.name, tracking={"uri": "http://127.0.0.1:9"})
    one = tracker(what, say=lambda _: None)
    track(one, "t0000", [0.1])
    began = time.monotonic()
    assert one.close("finished", timeout_s=2) > 0
    assert time.monotonic() - began < 6
    later = study(tmp_path, name=tmp_path.name, tracking={"uri": mlflow_store, "experiment": tmp_path.name})
    assert Tracker(later, folder=later.folder, sweep_id=f"id-{later.name}").flush() == 0
    (run,) = runs_in_mlflow(later)
    assert points_in_mlflow(later, run, "val/accuracy") == [(1, 0.1)]


def test_data_of_ones_own_has_its_experiment_but_a_sweep_that_began_in_the_tasks_goes_on_there(tmp_path, mlflow_store):
    old = study(tmp_path, name="old", task={"name": "folder", "path": str(tmp_path)}, tracking={"uri": mlflow_store})
    client = MlflowClient(mlflow_store)
    tasks = client.get_experiment_by_name("folder")
    kept = tasks.experiment_id if tasks else client.create_experiment("folder")
    before = Store(replace(store_spec(old, sweep_id=f"id-{tmp_path}"), experiment="folder")).create("old", tags={"pace.kind": "sweep"})
    later = Store(store_spec(old, sweep_id=f"id-{tmp_path}"))
    assert (later.experiment_id, [run.info.run_id for run in later.find(kind="sweep")]) == (kept, [before])
    new = Store(store_spec(old, sweep_id=f"new-{tmp_path}"))
    assert client.get_experiment(new.experiment_id).name == f"folder {tmp_path.name}"


@pytest.mark.slow
def test_a_new_store_is_whole_or_not_there(tmp_path):
    path = tmp_path / "sub" / "mlflow.db"
    ensure_store(f"sqlite:///{path}")
    assert [found.name for found in path.parent.iterdir()] == ["mlflow.db"]
    before = path.stat().st_mtime_ns
    ensure_store(f"sqlite:///{path}")
    assert path.stat().st_mtime_ns == before
