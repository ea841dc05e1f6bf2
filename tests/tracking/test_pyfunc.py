"""Exported models in a real MLflow store: what is registered came back from the store, scored the same, and serves."""

import base64
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from pace_tune.errors import DataError, PaceTuneError, UnknownNameError
from pace_tune.tracking import pyfunc
from pace_tune.training.export import export_lane
from pace_tune.training.predict import Predictor
from tests.training.finished_lanes import photos, reviews, run_of, write_lane

TAGS = {"pace.sweep": "photos", "pace.trial": "t0003"}


@pytest.fixture(scope="module")
def photo_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("photos")
    run = run_of(photos(folder / "photos"), "lora_add")
    done = export_lane(write_lane(folder / "lane", run), out=folder / "model", device="cpu")
    (folder / "model" / "README.md").write_text("the card")
    return folder / "model", done


@pytest.fixture
def client(mlflow_store: str) -> MlflowClient:
    return MlflowClient(mlflow_store)


def trial(client: MlflowClient, name: str, artifacts: Path, **tags: str) -> str:
    experiment = client.create_experiment(name, artifact_location=artifacts.as_uri())
    return client.create_run(experiment, tags={**TAGS, **tags}).info.run_id


def test_what_is_registered_came_back_from_the_store_and_scored_the_same(photo_model, client, mlflow_store, tmp_path):
    exported, done = photo_model
    run_id = trial(client, "registering", tmp_path / "artifacts", **{"pace.sweep": "first"})
    tags = {**TAGS, "pace.sweep": "first"}
    address = pyfunc.register(exported, uri=mlflow_store, task="vtab/cats", tags=tags, run=done["run"], scores=done["scores"])
    assert address == "models:/pace-tune.vtab-cats@best"
    version = client.get_model_version_by_alias("pace-tune.vtab-cats", "best")
    assert (version.run_id, version.description) == (run_id, "the card")
    assert float(version.tags["val/accuracy"]) == pytest.approx(done["scores"]["accuracy"], abs=1e-4)
    # A second one takes the alias over.
    pyfunc.register(exported, uri=mlflow_store, task="vtab/cats", tags=tags, run=done["run"], scores=done["scores"])
    assert client.get_model_version_by_alias("pace-tune.vtab-cats", "best").version != version.version
    assert pyfunc.trial_of(mlflow_store, run_id) == ("first", "t0003")


def test_what_scores_differently_is_not_registered(photo_model, client, mlflow_store, tmp_path):
    exported, done = photo_model
    trial(client, "refusing", tmp_path / "artifacts", **{"pace.sweep": "second"})
    tags = {**TAGS, "pace.sweep": "second"}
    with pytest.raises(PaceTuneError, match="not registered"):
        pyfunc.register(exported, uri=mlflow_store, task="dogs", tags=tags, run=done["run"], scores={"accuracy": 2.0})
    assert not client.search_registered_models("name = 'pace-tune.dogs'")
    with pytest.raises(UnknownNameError):
        pyfunc.register(exported, uri=mlflow_store, task="dogs", tags={"pace.sweep": "third"}, run=done["run"], scores={})
    with pytest.raises(UnknownNameError):
        pyfunc.trial_of(mlflow_store, "0" * 32)


def test_it_serves_images(photo_model, tmp_path):
    from mlflow.pyfunc import load_model, scoring_server
    from starlette.testclient import TestClient

    exported, _ = photo_model
    pyfunc.save(exported, tmp_path / "served")
    files = sorted((exported.parent / "photos").rglob("*.png"))[:3]
    expected = list(Predictor(exported, device="cpu").images(files))
    with TestClient(scoring_server.init(load_model(str(tmp_path / "served")))) as server:
        rows = [{"image": base64.b64encode(file.read_bytes()).decode()} for file in files]
        answer = server.post("/invocations", json={"dataframe_records": rows})
    assert answer.status_code == 200, answer.text
    found = answer.json()["predictions"]
    assert [row["label"] for row in found] == [one.label for one in expected]
    assert [row["probability"] for row in found] == pytest.approx([one.probability for one in expected], abs=1e-6)


def test_it_serves_texts(tmp_path):
    import pandas as pd
    from mlflow.pyfunc import load_model

    lane = write_lane(tmp_path / "lane", run_of(reviews(tmp_path, pairs=True), "lora"))
    export_lane(lane, out=tmp_path / "model", device="cpu")
    pyfunc.save(tmp_path / "model", tmp_path / "served")
    table = pd.DataFrame({"text": ["the cat sat", "good movie"], "other": ["a mat", "bad"]}, index=[7, 9])
    found = load_model(str(tmp_path / "served")).predict(table)
    expected = list(Predictor(tmp_path / "model", device="cpu").texts([("the cat sat", "a mat"), ("good movie", "bad")]))
    assert list(found.index) == [7, 9]
    assert list(found["label"]) == [one.label for one in expected]
    # Nothing of a served model is unpickled, and nothing is compiled code of this machine.
    assert not [path for path in (tmp_path / "served").rglob("*") if path.suffix in {".pkl", ".pickle", ".pyc"}]
    with pytest.raises(DataError, match="no exported model"):
        pyfunc.save(tmp_path, tmp_path / "nothing")
